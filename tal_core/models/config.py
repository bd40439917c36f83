"""Settings that every method has. A method adds its own fields in a subclass beside its network.

Configs are flat: one class gives the form in the browser, ``--set key=value`` on the command line and
``config.json`` of a run. A field's ``description`` is its help text, its bounds are enforced everywhere.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, model_validator

from tal_core.schema import setting, validated

__all__ = ["GROUPS", "MethodConfig", "ProposerConfig", "revised", "setting", "validated"]

GROUPS = ("Optimisation", "Network", "Windows", "Detection", "Run")


def revised(name: str, default: Any, description: str | None = None, **bounds: Any) -> Any:
    """A field of `MethodConfig` with another default, and where given another help text or bound."""
    field = MethodConfig.model_fields[name]
    stated = {bound: value for part in field.metadata for bound, value in asdict(part).items()}
    group = cast(dict, field.json_schema_extra)["group"]
    return setting(default, description or str(field.description), group, **stated | bounds)


Optimizer = Literal["adam", "adamw"]
Schedule = Literal["constant", "cosine"]
NMS = Literal["none", "hard", "soft", "linear"]


class MethodConfig(BaseModel):
    """What every method can be told."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, protected_namespaces=()
    )

    epochs: int = setting(10, "Passes over the training windows or videos.", "Optimisation", ge=1, le=10_000)
    batch_size: int = setting(64, "Samples in one optimisation step.", "Optimisation", ge=1, le=65_536)
    learning_rate: float = setting(1e-4, "Highest learning rate.", "Optimisation", gt=0, le=10)
    optimizer: Optimizer = setting(
        "adam", "AdamW decays weight matrices only, apart from the gradient.", "Optimisation"
    )
    weight_decay: float = setting(0.0, "Pull of the weights towards zero.", "Optimisation", ge=0, le=1)
    schedule: Schedule = setting(
        "constant", "Learning rate after the warm-up: kept, or lowered along a cosine.", "Optimisation"
    )
    warmup_epochs: float = setting(
        0.0, "Epochs during which the learning rate rises linearly.", "Optimisation", ge=0, le=1000
    )
    gradient_clip: float | None = setting(
        None, "Largest norm of the gradient; empty for no limit.", "Optimisation", gt=0, le=1e6
    )
    ema_decay: float | None = setting(
        None,
        "Average the weights over steps with this decay and use the average for detection; empty for none.",
        "Optimisation",
        ge=0,
        lt=1,
    )

    nms: NMS = setting(
        "soft",
        "Hard NMS removes what overlaps a better detection; soft (Gaussian) and linear lower its score.",
        "Detection",
    )
    nms_threshold: float = setting(0.5, "tIoU from which hard and linear NMS act.", "Detection", gt=0, le=1)
    nms_sigma: float = setting(
        0.5, "Width of soft NMS; smaller lowers overlapping scores more.", "Detection", gt=0, le=10
    )
    nms_per_class: bool = setting(True, "Suppress within a class only.", "Detection")
    voting_threshold: float = setting(
        0.0,
        "A kept segment becomes the mean of all candidates with at least this tIoU; 0 for none. Acts only"
        " when NMS runs over all classes.",
        "Detection",
        ge=0,
        le=1,
    )
    voting_weights: Literal["score_times_iou", "score"] = setting(
        "score_times_iou", "What a candidate weighs in that mean.", "Detection"
    )
    min_score: float = setting(0.001, "Detections below this score are dropped.", "Detection", ge=0, lt=1)
    max_candidates: int = setting(
        2000, "Best-scored candidates of a video that are kept before NMS.", "Detection", ge=1, le=100_000
    )
    max_detections: int = setting(
        200, "Best-scored detections of a video that are kept after NMS.", "Detection", ge=1, le=100_000
    )

    seed: int = setting(0, "Start of every random choice.", "Run", ge=0, le=2**31 - 1)
    device: Literal["auto", "cuda", "mps", "cpu"] = setting(
        "auto", "Where to compute; auto takes CUDA, then MPS, then the CPU.", "Run"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Precision of the training step; auto is bfloat16 or float16 on CUDA and float32 elsewhere.",
        "Run",
    )
    keep_features: Literal["auto", "disk", "memory", "device"] = setting(
        "auto",
        "Where the training features are between steps: read from disk each time, or kept in memory or on the"
        " device. Auto keeps them in memory up to 2 GB.",
        "Run",
    )
    compile: bool = setting(
        False, "Compile the network: slow to start, then faster, on a GPU above all.", "Run"
    )
    validate_every: int = setting(
        5,
        "Epochs between two measurements of mAP on the evaluation subset; 0 for none.",
        "Run",
        ge=0,
        le=10_000,
    )
    checkpoint: Literal["last", "best"] = setting(
        "last",
        "Weights that make the final detections. The best were chosen on the evaluation subset, so their mAP"
        " is optimistic.",
        "Run",
    )

    @property
    def needs_class_scores(self) -> bool:
        """Whether the method makes proposals that get their classes from video class scores."""
        return False

    @property
    def stages(self) -> tuple[int, ...]:
        """Epochs in which another part of the network begins to train, and with it the schedule anew."""
        return ()

    @model_validator(mode="after")
    def _best_needs_validation(self) -> Self:
        if self.checkpoint == "best" and self.validate_every == 0:
            raise ValueError("checkpoint can't be best when validate_every is 0, which measures none")
        return self


class ProposerConfig(MethodConfig):
    """What methods can be told that may leave the classes of their proposals to video class scores."""

    classes_per_proposal: int = setting(
        2, "Best classes of a proposal that become detections.", "Detection", ge=1, le=1000
    )
    score_fusion: Literal["product", "root"] = setting(
        "product",
        "Score of a proposal's detections where the dataset's video class scores name the classes:"
        " the product of both scores, or its square root.",
        "Detection",
    )
