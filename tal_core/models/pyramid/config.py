"""Settings that ActionFormer, TriDet and TemporalMaxer share, and how they bring videos to the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.config import Optimizer, ProposerConfig, Schedule, revised, setting
from tal_core.models.shared.clips import ClipSampler, align, resample
from tal_core.types import TimeGrid

DROP_PATH = setting(  # of the methods that have residual branches
    0.1, "Share of residual branches that are left out in training.", "Network", ge=0, lt=1
)
Program = Literal["authors", "opentad"]
PROGRAM = setting(  # of the methods that OpenTAD computes in its own way
    "authors",
    "Whose program is followed where they differ. OpenTAD's norms have another epsilon and its padding is 0"
    " behind every activation; it keeps the max_candidates best of a video, not of each level, and counts"
    " the time of resized videos from the beginning of the first snippet.",
    "Network",
)


class PyramidConfig(ProposerConfig):
    """Settings that the pyramid methods share; defaults for THUMOS14."""

    epochs: int = revised("epochs", 35, "Passes over the training videos, warm-up included.")
    batch_size: int = revised("batch_size", 2, "Videos in one optimisation step.", le=1024)
    optimizer: Optimizer = revised("optimizer", "adamw")
    weight_decay: float = revised("weight_decay", 0.05)
    schedule: Schedule = revised("schedule", "cosine")
    warmup_epochs: float = revised("warmup_epochs", 5.0)
    gradient_clip: float | None = revised("gradient_clip", 1.0)
    ema_decay: float | None = revised("ema_decay", 0.999)
    label_smoothing: float = setting(
        0.0, "How far class targets are drawn towards equal chances.", "Optimisation", ge=0, lt=1
    )
    regression_weight: float = setting(
        1.0,
        "Weight of the regression loss; 0 or less makes it as large as the classification loss.",
        "Optimisation",
        ge=-1,
        le=1000,
    )
    initial_normaliser: float = setting(
        100.0,
        "First guess of the positive cells in a batch, which divides the losses; it then follows the data.",
        "Optimisation",
        gt=0,
        le=1e6,
    )

    embed_dim: int = setting(512, "Channels of the pyramid.", "Network", ge=1, le=8192)
    embed_layers: int = setting(2, "Convolutions before the pyramid.", "Network", ge=1, le=8)
    head_dim: int = setting(512, "Channels of the heads.", "Network", ge=1, le=8192)
    head_layers: int = setting(3, "Convolutions of each head, its output included.", "Network", ge=1, le=8)
    kernel_size: int = setting(3, "Taps of these convolutions; odd.", "Network", ge=1, le=31)
    levels: int = setting(
        6, "Levels of the pyramid; each halves the time resolution.", "Network", ge=1, le=12
    )
    class_prior: float = setting(
        0.01, "Score that an untrained network gives every class.", "Network", gt=0, lt=1
    )
    input_dropout: float = setting(
        0.0, "Share of each video's feature channels left out in training.", "Network", ge=0, lt=1
    )

    sequence_length: int = setting(
        2304,
        "Snippets of a training clip; longer videos are cropped. A multiple of the coarsest level's stride.",
        "Windows",
        ge=1,
        le=100_000,
    )
    crop_low: float = setting(
        0.9,
        "Training clips are cropped to a random share of their video, at least this.",
        "Windows",
        gt=0,
        le=1,
    )
    crop_high: float = setting(1.0, "At most this share; 1 and 1 for no cropping.", "Windows", gt=0, le=1)
    min_overlap: float = setting(
        0.5, "A segment belongs to a crop if this part of it is inside.", "Windows", gt=0, le=1
    )
    resize: int | None = setting(
        None,
        "Stretch or squeeze every video to so many snippets; empty to keep its own length.",
        "Windows",
        ge=1,
        le=100_000,
    )
    detection_window: int | None = setting(
        None,
        "Detect in windows of so many snippets, half over one another: for videos much longer than the"
        " training clips, or than memory allows. Segments up to half as long are seen whole. Empty to read"
        " every video in one piece.",
        "Windows",
        ge=4,
        le=1_000_000,
    )
    regression_bounds: list[Annotated[float, Field(gt=0, le=1e6)]] = setting(
        [4, 8, 16, 32, 64],
        "Farthest segment end, in snippets, that each level but the last is trained on; rising.",
        "Windows",
        max_length=11,
    )
    range_overlap: float = setting(
        1.0,
        "A level's nearest segment end is the bound before, divided by this; above 1 levels share segments.",
        "Windows",
        ge=1,
        le=100,
    )
    center_radius: float | None = setting(
        1.5,
        "Cells so near to a segment's centre, in strides of their level, are trained to detect it; empty for"
        " all inside.",
        "Windows",
        gt=0,
        le=1000,
    )

    classes: Literal["all", "agnostic"] = setting(
        "all",
        "Learn the dataset's classes; or action as one class, which makes proposals that get the classes of"
        " the dataset's video class scores.",
        "Detection",
    )
    nms_threshold: float = revised("nms_threshold", 0.1)
    max_candidates: int = revised(
        "max_candidates", 2000, "Best-scored candidates of each level that are kept before NMS."
    )
    min_candidate_score: float = setting(
        0.001, "Cells and classes with lower scores give no candidate.", "Detection", ge=0, lt=1
    )
    min_length: float = setting(
        0.05,
        "Candidates must be longer than this, in snippets; -1 keeps those of no length.",
        "Detection",
        ge=-1,
        le=1000,
    )

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, kernel_size: int) -> int:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size can't be {kernel_size}, it has to be odd")
        return kernel_size

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bounds = self.regression_bounds
        if len(bounds) != self.levels - 1:
            raise ValueError(
                f"regression_bounds has {len(bounds)} values, but levels={self.levels} needs "
                f"{self.levels - 1}: one for every level but the last"
            )
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"regression_bounds must rise from level to level, not {bounds}")
        stride = 2 ** (self.levels - 1)
        if self.sequence_length % stride:
            raise ValueError(
                f"sequence_length can't be {self.sequence_length}: with levels={self.levels} it has to be a "
                f"multiple of {stride}, such as {max(1, round(self.sequence_length / stride)) * stride}"
            )
        window = self.detection_window
        if window is not None and window % (4 * stride):
            raise ValueError(
                f"detection_window can't be {window}: with levels={self.levels} it has to be a multiple of"
                f" {4 * stride}, such as {max(1, round(window / (4 * stride))) * 4 * stride}"
            )
        if self.crop_low > self.crop_high:
            raise ValueError(f"crop_low ({self.crop_low:g}) can't be above crop_high ({self.crop_high:g})")
        if self.resize is not None and self.resize > self.sequence_length:
            raise ValueError(
                f"resize ({self.resize}) can't be above sequence_length ({self.sequence_length})"
            )
        return self

    @property
    def needs_class_scores(self) -> bool:
        """Whether the network makes proposals without classes."""
        return self.classes == "agnostic"

    @property
    def opentad(self) -> bool:
        """Whether OpenTAD's program is followed."""
        return getattr(self, "program", "authors") == "opentad"

    @property
    def epsilon(self) -> float:
        """What is added to the variance in the norms of embedding, neck and heads."""
        return 1e-6 if self.opentad else 1e-5

    def num_outputs(self, num_classes: int) -> int:
        """Classes that the network tells apart, in a dataset of ``num_classes``."""
        return 1 if self.classes == "agnostic" else num_classes

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Nearest and farthest segment end, in snippets, that each level is trained on."""
        lows = [0.0, *(bound / self.range_overlap for bound in self.regression_bounds)]
        return list(zip(lows, [*self.regression_bounds, math.inf], strict=True))


def sampler(model: nn.Module, dataset: FeatureDataset, config: PyramidConfig) -> ClipSampler:
    """Training clips as the config asks for; of class 0 where actions are one class."""
    del model
    crop = None if config.crop_low == config.crop_high == 1 else (config.crop_low, config.crop_high)
    clips = ClipSampler(
        dataset,
        config.batch_size,
        config.sequence_length,
        crop=crop,
        min_overlap=config.min_overlap,
        resize=config.resize,
        resampling=_resampling(config),
        keep=config.keep_features,
        device=config.device,
    )
    if config.classes == "agnostic":
        clips.truth = {video: (segments, 0 * labels) for video, (segments, labels) in clips.truth.items()}
    return clips


def resized(features: torch.Tensor, grid: TimeGrid, config: PyramidConfig) -> tuple[torch.Tensor, TimeGrid]:
    """A video's ``(T, D)`` features and time grid as the network sees them."""
    if config.resize is None:
        return features, grid
    return _resampling(config)(features, grid, config.resize)


def _resampling(
    config: PyramidConfig,
) -> Callable[[torch.Tensor, TimeGrid, int], tuple[torch.Tensor, TimeGrid]]:
    return align if config.opentad else resample
