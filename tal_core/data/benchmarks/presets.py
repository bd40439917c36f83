"""The public benchmarks: subsets, thresholds, and how the commonly shared features run in time.

``assets/benchmarks/<name>.toml`` describes one. A preset of `registry.add_dataset` is a benchmark with one of
its features: ``thumos14-i3d``; ``thumos14`` alone means the first. Sources name the repository and the file
that each figure is from. Where authors count a snippet's place by its clip, ``offset_frames`` is the middle
of the first clip.
"""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tal_core.types import InputError
from tal_core.workspace import ASSETS

FOLDER = ASSETS / "benchmarks"
_STRICT = ConfigDict(extra="forbid", frozen=True)


class Convention(BaseModel):
    """How one commonly shared set of features was made.

    ``stride``: frames between snippets. ``fps``: of the videos they were made from, ``None`` where each
    video has its own (in the annotations). ``offset_frames``: the middle of the first snippet.
    ``stretched``: the snippets of a video are spread over its duration, whatever its frame rate.
    ``settings``: published settings for them, as pairs of method and preset.
    """

    model_config = _STRICT

    title: str
    source: str
    stride: float | None = None
    fps: float | None = None
    offset_frames: float | None = None
    stretched: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    def timing(self) -> dict[str, Any]:
        """The fields of a dataset's entry that say this."""
        if self.stretched:
            return {"timing": "stretched"}
        return self.model_dump(include={"stride", "fps", "offset_frames"}, exclude_none=True)


class Published(BaseModel):
    """What a dataset must be for its figures to stand beside published ones.

    ``subsets``: names of the subset that is evaluated, ``videos``: least and most of them, ``classes``.
    """

    model_config = _STRICT

    subsets: tuple[str, ...]
    videos: tuple[int, int]
    classes: tuple[str, ...]

    def mismatch(self, subset: str | None, num_videos: int) -> str:
        """Why figures on this subset can't stand beside published ones; empty if they can."""
        if subset is None or subset.lower() not in self.subsets:
            return f"published figures are of the subset {' or '.join(self.subsets)}"
        low, high = self.videos
        if not low <= num_videos <= high:
            return f"published figures are of {low} to {high} videos, this subset has {num_videos}"
        return ""


class Benchmark(BaseModel):
    """What a benchmark evaluates.

    ``subsets``: pairs of training and evaluation subset, as its various annotation files call them; the first
    that a file has counts. ``tiou``: its thresholds; of evenly spaced ones the numbers that its programs
    make. ``published``: for benchmarks with figures in ``published.csv``.
    """

    model_config = _STRICT

    title: str
    source: str
    note: str = ""
    subsets: tuple[tuple[str, str], ...] = Field(min_length=1)
    tiou: list[float] = Field(min_length=1)
    features: dict[str, Convention]
    published: Published | None = None


@cache
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks by name."""
    return {
        path.stem: Benchmark.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        for path in sorted(FOLDER.glob("*.toml"))
    }


def preset_names() -> list[str]:
    """Every preset, ``<benchmark>-<features>``."""
    return [f"{name}-{key}" for name, benchmark in benchmarks().items() for key in benchmark.features]


def find_preset(name: str) -> tuple[Benchmark, Convention]:
    """A benchmark and its features; by the benchmark's name alone its first ones.

    Raises:
        InputError: for an unknown name.
    """
    for key, benchmark in benchmarks().items():
        for features, convention in benchmark.features.items():
            if name in (key, f"{key}-{features}"):
                return benchmark, convention
    hint = f"Use one of {', '.join(benchmarks())}, or with features: python -m tal_core datasets presets."
    raise InputError(f"there is no benchmark {name!r}", hint=hint)


def describe(convention: Convention) -> str:
    """How features run in time, in words."""
    if convention.stretched:
        return "spread over each video"
    fps = f"{convention.fps:g} fps" if convention.fps else "the video's fps"
    return f"stride {convention.stride:g} at {fps}, first centre at frame {convention.offset_frames:g}"
