"""What an online detector says of a stream, and what the rest of the house knows of detectors.

    source -> frames -> extractor -> snippet features -> OnlineStream -> Output -> sinks

Times are seconds of the stream, 0 where it began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from tal_core.types import InputError, TimeGrid

LONGEST_DELAY = 3600.0  # seconds


@dataclass(frozen=True)
class SegmentEvent:
    """An action has begun (``start``: no ``end`` yet, all else may still change) or is over (``end``: final).

    ``segment`` counts the segments of a stream from 0; both events of a segment carry the same number.
    A detector that only reports whole segments sends no ``start``. ``decided``: the stream's time at which
    this was known.
    """

    kind: Literal["start", "end"]
    segment: int
    label: str
    start: float
    end: float | None
    score: float
    decided: float

    def to_json(self) -> dict[str, Any]:
        """As one line of ``events.jsonl``."""
        return asdict(self)


@dataclass
class Output:
    """What became known by a push: class scores (N, K) in 0..1 at ``seconds`` (N,), and events in order."""

    seconds: np.ndarray
    scores: np.ndarray
    events: list[SegmentEvent] = field(default_factory=list)


def join_outputs(outputs: Sequence[Output]) -> Output:
    """Outputs of one stream, in order, as one."""
    return Output(
        np.concatenate([output.seconds for output in outputs]),
        np.concatenate([output.scores for output in outputs]),
        [event for output in outputs for event in output.events],
    )


class OnlineStream(Protocol):
    """The state of one stream. Not for use from two threads at once."""

    def push(self, features: np.ndarray) -> Output:
        """Add the next snippets, ``(N, D)``, N may be 0."""

    def gap(self, seconds: float) -> Output:
        """The stream was interrupted: close what is open; the next snippet is centred at ``seconds``."""

    def finish(self) -> Output:
        """The stream is over: close what is open."""


class OnlineModel(Protocol):
    """A trained run ready to serve any number of streams with one set of weights.

    ``delay``: seconds of stream after a snippet's centre that the detector waits before it decides.
    ``grid``: where the snippets of a stream lie in time.
    """

    labels: list[str]
    grid: TimeGrid
    num_features: int
    delay: float

    def open_stream(self, grid: TimeGrid | None = None) -> OnlineStream:
        """A new stream at its beginning; ``grid`` says where its snippets lie, by default the model's own."""

    def push_many(self, pushes: Sequence[tuple[Any, np.ndarray]]) -> list[Output]:
        """``push`` for several streams at once, batched where the network can; one output each."""


def checked_features(features: np.ndarray, num_features: int) -> np.ndarray:
    """Snippets ``(N, D)`` as float32. Raises InputError unless they are finite numbers, D as in training."""
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        what = f"features have shape {features.shape} and type {features.dtype}"
        raise InputError(what, hint=f"Push numbers of shape (snippets, {num_features}).")
    if features.shape[1] != num_features:
        what = f"features have {features.shape[1]} channels, but the run was trained on {num_features}"
        raise InputError(what, hint="Use features of the same extractor as in training.")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite
        features = np.ascontiguousarray(features, np.float32)
    if not np.isfinite(features).all():
        hint = "Extract them again, or leave these snippets out, as a gap."
        raise InputError("features contain NaN or infinite values", hint=hint)
    return features


def checked_seconds(seconds: float) -> float:
    """A time of a stream. Raises InputError unless it is finite and not negative."""
    if not math.isfinite(seconds) or seconds < 0:
        raise InputError(f"a stream can't go on at {seconds} s", hint="Give seconds since it began.")
    return float(seconds)


def check_delay(delay: float | None, where: str | None = None) -> None:
    """Raise InputError unless a detector may wait for so many seconds; None leaves it to the run's rule."""
    if delay is not None and not 0 <= delay <= LONGEST_DELAY:
        raise InputError(
            f"delay can't be {delay:g} s", where=where, hint=f"Give 0 to {LONGEST_DELAY:g} seconds."
        )
