"""What every feature extractor is: frames in, one vector per snippet out, causally.

spec = ExtractorSpec(name="r2plus1d_18", stride_seconds=0.5, model="r2plus1d_18.safetensors")
features, grid = extract(path, spec)                          # a file at once

extractor = make_extractor(spec)                              # a stream, frame by frame
for seconds, frame in read_frames(path, size=extractor.picture_size, wanted=extractor.wants):
    for vector in extractor.push(seconds, frame):
        ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tal_core.types import InputError, TimeGrid
from tal_core.video.extractors.spec import ExtractorSpec, read_spec
from tal_core.video.frames import Damage, read_frames

if TYPE_CHECKING:
    from tal_core.video.extractors.windows import Encoder

BATCH = 8  # snippets that an encoder takes at once when a file is extracted


class Extractor(Protocol):
    """Turns the frames of one video or stream into snippet features as they come.

    Snippet ``i`` is centred at ``grid.seconds(i)``; ``delay`` is how many seconds after its centre the last
    frame comes that it needs.
    """

    num_features: int
    grid: TimeGrid
    delay: float

    def wants(self, seconds: float) -> bool:
        """Whether ``push`` will use a frame at ``seconds``; others need not even be converted."""

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        """The size (width, height) at which frames of this size are best handed over; others work too."""

    def push(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        """Add a frame, (H, W, 3) uint8 RGB at ``seconds``; the snippets that it completes, each (D,)."""

    def finish(self) -> list[np.ndarray]:
        """The snippets whose centre has been seen but not their whole window."""

    def fresh(self) -> Extractor:
        """One of the same settings and weights for another video."""


def make_extractor(spec: ExtractorSpec, device: str = "auto", *, batch: int = 1) -> Extractor:
    """An extractor with its weights loaded; ``batch`` snippets go through an encoder at once.

    With 1, as a live stream needs it, ``push`` returns each snippet as soon as its last frame has come.

    Raises:
        InputError: if an optional package is missing, or the weights are missing, faulty or of another model.
    """
    if spec.kind.loader is None:
        from tal_core.video.extractors.motion import MotionExtractor

        return MotionExtractor(stride=spec.stride_seconds, window=spec.snippet_seconds)
    from tal_core.video.extractors.windows import WindowExtractor

    return WindowExtractor(spec, _load_encoder(spec, spec.kind.loader, device), batch)


def _load_encoder(spec: ExtractorSpec, loader: str, device: str) -> Encoder:
    # Torch is slow to load, and the built-in extractor's many processes don't need it.
    from tal_core.device import choose_device

    file, _, function = loader.partition(":")
    module = importlib.import_module(f"tal_core.video.extractors.{file}")
    return getattr(module, function)(spec, choose_device(device))


class Trained(Protocol):
    """What the weights of a run say of the features that they were trained on (``WeightsInfo``)."""

    @property
    def num_features(self) -> int: ...
    @property
    def grid(self) -> TimeGrid: ...
    @property
    def extractor(self) -> dict[str, Any] | None: ...


def spec_of(info: Trained) -> ExtractorSpec:
    """The extractor that makes the features a run was trained on. Runs older than this note had the built-in.

    Raises:
        InputError: if they come from elsewhere, or from an extractor that this program doesn't have.
    """
    from tal_core.video.extractors.motion import NUM_FEATURES

    if info.extractor is None:
        spec = ExtractorSpec()
        ours, theirs = spec.grid, info.grid
        known = np.allclose([ours.stride, ours.offset], [theirs.stride, theirs.offset])
    else:
        spec, known = read_spec(info.extractor, where="the run's features"), True
    if not known or (spec.kind.loader is None and info.num_features != NUM_FEATURES):
        what = f"the run was trained on {info.num_features} features that were not extracted by this program"
        hint = "Give it a feature file made as those, or choose a run whose features were extracted here."
        raise InputError(what, hint=hint)
    return spec


def extract(
    path: Path, spec: ExtractorSpec | None = None, device: str = "auto"
) -> tuple[np.ndarray, TimeGrid]:
    """Features (T, D) float32 of a video file and the grid that places them in time.

    Raises:
        InputError: if the video can't be read or is shorter than one snippet; as ``make_extractor``.
    """
    extractor = make_extractor(spec or ExtractorSpec(), device, batch=BATCH)
    return extract_with(extractor, path), extractor.grid


def extract_with(
    extractor: Extractor,
    path: Path,
    *,
    damage: Damage | None = None,
    threads: int = 0,
    on_time: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Features (T, D) float32 of a video file by an extractor that has seen no frame yet.

    ``damage`` notes what was wrong with the file; ``on_time(seconds)`` is called as the video goes by.

    Raises:
        InputError: if the video can't be read or is too short for a single snippet.
    """
    snippets = []
    frames = read_frames(
        path, size=extractor.picture_size, wanted=extractor.wants, damage=damage, threads=threads
    )
    for seconds, frame in frames:
        snippets += extractor.push(seconds, frame)
        if on_time:
            on_time(seconds)
    snippets += extractor.finish()
    if not snippets:
        need = extractor.grid.seconds(0)
        hint = f"Use videos of {need:.2g} seconds or more, or a shorter snippet."
        raise InputError("is too short for a single feature", where=path, hint=hint)
    return np.stack(snippets)
