"""What features come from: an ``ExtractorSpec`` names an extractor and all settings that change numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tal_core.schema import SchemaField, fields_of, validated
from tal_core.types import TimeGrid

Normalisation = Literal["kinetics", "imagenet", "clip", "half", "symmetric", "unit", "bytes"]


@dataclass(frozen=True)
class Kind:
    """One extractor: its ``defaults`` name the settings it knows, ``package`` what must be installed.

    ``loader`` is the function beside this file that makes its encoder, as ``file:function``; called with the
    spec and a device. The built-in extractor has none.
    """

    name: str
    title: str
    loader: str | None
    defaults: dict[str, Any]
    package: str | None = None


def _encoder(seconds: float, frames: int | None, size: int | None, **more: Any) -> dict[str, Any]:
    common = {"fit": "crop", "modality": "rgb", "flow": "dis", "model": "", "precision": "float32"}
    timing = {"stride_seconds": seconds / 2, "snippet_seconds": seconds, "frames": frames, "frame_size": size}
    return {**timing, **common, "dtype": "float16", **more}


def _without(defaults: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in defaults.items() if name not in names}


# Frames and seconds as the published weights were trained: torchvision's notes on its video classification
# models (15 frames a second; MViT every fourth frame of 30), the papers of VideoMAE and V-JEPA 2.
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "motion",
            "optical flow and gradients around what moves; no weights, runs anywhere",
            None,
            {"stride_seconds": 0.2, "snippet_seconds": 0.4, "dtype": "float16"},
        ),
        Kind(
            "r2plus1d_18",
            "R(2+1)D-18, 512 features",
            "torchvision:load",
            _encoder(16 / 15, 16, 112),
            "torchvision",
        ),
        Kind("s3d", "S3D, 1024 features", "torchvision:load", _encoder(16 / 15, 16, 224), "torchvision"),
        Kind(
            "mvit_v1_b",
            "MViT v1 base, 768 features",
            "torchvision:load",
            _without(_encoder(32 / 15, 16, 224), "frames", "frame_size"),
            "torchvision",
        ),
        Kind(
            "mvit_v2_s",
            "MViT v2 small, 768 features",
            "torchvision:load",
            _without(_encoder(32 / 15, 16, 224), "frames", "frame_size"),
            "torchvision",
        ),
        Kind(
            "swin3d_t",
            "Video Swin tiny, 768 features",
            "torchvision:load",
            _encoder(32 / 15, 32, 224),
            "torchvision",
        ),
        Kind(
            "videomae",
            "VideoMAE from Hugging Face, mean of its tokens",
            "huggingface:load",
            _without(_encoder(32 / 15, None, None, normalise=None), "frames", "frame_size"),
            "transformers",
        ),
        Kind(
            "vjepa2",
            "V-JEPA 2 from Hugging Face, mean of its tokens",
            "huggingface:load",
            _encoder(64 / 15, None, None, normalise=None),
            "transformers",
        ),
        Kind(
            "image",
            "CLIP, SigLIP, DINOv2 and their like from Hugging Face, mean over the frames",
            "huggingface:load",
            _encoder(1.0, 4, None, normalise=None),
            "transformers",
        ),
        Kind(
            "torchscript",
            "your own encoder as TorchScript: (1, 3, T, H, W) in, (1, D) out",
            "own:load_torchscript",
            _encoder(16 / 15, 16, 224, normalise="kinetics"),
        ),
        Kind(
            "onnx",
            "your own encoder as ONNX: (1, 3, T, H, W) in, (1, D) out",
            "own:load_onnx",
            _without(_encoder(16 / 15, 16, 224, normalise="kinetics"), "precision"),
            "onnxruntime",
        ),
    )
}


class ExtractorSpec(BaseModel):
    """An extractor and its settings. What isn't given takes the extractor's own default.

    Settings that the extractor doesn't know stay None, and giving one is an error. ``frames`` and
    ``frame_size`` are also None where the model's own config decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("motion", description="the extractor")
    # Every extractor has a default for these two.
    stride_seconds: float = Field(0.2, gt=0, description="seconds between snippets")
    snippet_seconds: float = Field(0.4, gt=0, le=60, description="seconds of video in one snippet")
    frames: int | None = Field(None, ge=1, le=512, description="frames taken evenly from a snippet")
    frame_size: int | None = Field(
        None, ge=16, le=1024, description="pixels a side of the square that the encoder sees"
    )
    fit: Literal["crop", "squash"] | None = Field(
        None, description="how a frame becomes a square: its centre, or all of it squashed"
    )
    modality: Literal["rgb", "flow", "both"] | None = Field(
        None, description="what the encoder sees: pictures, optical flow, or both side by side"
    )
    flow: Literal["dis", "farneback"] | None = Field(None, description="how optical flow is computed")
    model: str | None = Field(None, description="weights: a file or folder, or a hub id that is in the cache")
    normalise: Normalisation | None = Field(
        None, description="what pixels become before the encoder: named means and deviations, 0..1, or 0..255"
    )
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="arithmetic of the encoder"
    )
    dtype: Literal["float16", "float32"] | None = Field(None, description="numbers in the feature files")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kind = KINDS.get(str(values.get("name", "motion")))
        if kind is None:
            raise ValueError(f"there is no extractor {values['name']!r}; known are {', '.join(KINDS)}")
        given = {name: value for name, value in values.items() if value is not None and name != "name"}
        odd = next((name for name in given if name not in kind.defaults), None)
        if odd is not None:
            raise ValueError(f"{kind.name} has no {odd}; it takes {', '.join(kind.defaults)}")
        model = given.get("model")
        if isinstance(model, str) and model and Path(model).expanduser().exists():
            given["model"] = str(Path(model).expanduser().resolve())  # it is used from other folders too
        return {"name": kind.name, **kind.defaults, **given}

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def grid(self) -> TimeGrid:
        """Where the snippets lie in time.

        The built-in extractor's first snippet is cut off by the start of the video; an encoder's is the first
        that is whole.
        """
        first = self.stride_seconds if self.kind.loader is None else self.snippet_seconds
        return TimeGrid(stride=self.stride_seconds, offset=first / 2)

    @property
    def clip_frames(self) -> int:
        """``frames`` of an extractor that lets them be set."""
        assert self.frames is not None
        return self.frames

    @property
    def clip_size(self) -> int:
        """``frame_size`` of an extractor that lets it be set."""
        assert self.frame_size is not None
        return self.frame_size

    def table(self) -> dict[str, Any]:
        """The settings that count, for TOML and JSON; ``read_spec`` takes them back."""
        return self.model_dump(mode="json", exclude_none=True)


def read_spec(values: object, where: object = None) -> ExtractorSpec:
    """An ``ExtractorSpec`` from outside (a file, a form, the command line; texts become numbers).

    Raises:
        InputError: for an unknown extractor or setting, or a value out of range.
    """
    hint = "List extractors and their settings with: python -m tal_core extract --list."
    return validated(ExtractorSpec, values, where=where, hint=hint)


def settings(name: str) -> list[SchemaField]:
    """The settings that the extractor ``name`` knows, in the order of a form."""
    fields = {field.name: field for field in fields_of(ExtractorSpec)}
    return [replace(fields[name], default=default) for name, default in KINDS[name].defaults.items()]
