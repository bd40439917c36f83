"""What an online detector says of a stream, and what the rest of the house knows of detectors.

    source -> frames -> extractor -> snippet features -> OnlineStream -> Output -> sinks

Times are seconds of the stream, 0 where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from tal_core.types import TimeGrid


@dataclass(frozen=True)
class Event:
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
    events: list[Event] = field(default_factory=list)


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

    def open_stream(self) -> OnlineStream:
        """A new stream at its beginning."""

    def push_many(self, pushes: Sequence[tuple[OnlineStream, np.ndarray]]) -> list[Output]:
        """``push`` for several streams at once, batched where the network can; one output each."""
