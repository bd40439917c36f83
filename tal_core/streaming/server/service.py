"""What is served: some runs, each ready to detect in files and, if it can, in streams."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pydantic import BaseModel

from tal_core.streaming.online.events import OnlineModel
from tal_core.streaming.server.errors import Refusal
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.metrics import Numbers
from tal_core.types import InputError, TimeGrid

if TYPE_CHECKING:
    from tal_core.models.shared.weights import WeightsInfo
    from tal_core.video.extractors.extractor import Extractor


class RunEntry(BaseModel):
    """A run that is served. ``delay``: seconds a stream's detector waits; null if it can't serve streams."""

    run: str
    method: str
    labels: list[str]
    num_features: int
    stride: float
    offset: float
    delay: float | None
    no_stream: str | None


@dataclass(frozen=True)
class Served:
    """One run.

    ``detect(features, grid, name)`` gives detections; ``online`` is None, and ``why_not`` says why, for runs
    that can't serve a stream. ``extractor()`` makes a new extractor of the kind the run was trained on;
    raises InputError if there is none.
    """

    run_id: str
    method: str
    labels: list[str]
    num_features: int
    grid: TimeGrid
    detect: Callable[[np.ndarray, TimeGrid | None, str], pd.DataFrame]
    extractor: Callable[[], Extractor]
    online: OnlineModel | None = None
    why_not: str | None = None

    def entry(self) -> RunEntry:
        """As ``GET /v1/runs`` lists it."""
        return RunEntry(
            run=self.run_id,
            method=self.method,
            labels=self.labels,
            num_features=self.num_features,
            stride=self.grid.stride,
            offset=self.grid.offset,
            delay=None if self.online is None else self.online.delay,
            no_stream=self.why_not,
        )

    def stream_model(self) -> OnlineModel:
        """What detects in streams. Raises Refusal for a run that can't serve one."""
        if self.online is None:
            raise Refusal(422, f"run {self.run_id} can't serve a stream: {self.why_not}", where="run")
        return self.online


@dataclass
class Service:
    """The runs by id (the first is the default), what clients may take, the token they must know."""

    runs: dict[str, Served]
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    numbers: Numbers = field(default_factory=Numbers)
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(self.limits.streams)

    def run(self, run_id: str | None) -> Served:
        """The run asked for. Raises Refusal (404) if it isn't served."""
        if run_id is None:
            return next(iter(self.runs.values()))
        if run_id not in self.runs:
            hint = f"Served are: {', '.join(self.runs)}."
            raise Refusal(404, f"there is no run {run_id[:80]!r}", where="run", hint=hint)
        return self.runs[run_id]

    def knows(self, token: str | None) -> bool:
        """Whether the token is right, or none is asked for; as slow for any wrong one."""
        if self.token is None:
            return True
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())


class Places:
    """Counts streams: those that run, and connections that have yet to say what they want."""

    def __init__(self, most: int):
        self.most, self.taken, self.unnamed = most, 0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A place for a connection before its hello. Raises Refusal (503) when too many wait."""
        if self.unnamed >= 2 * self.most or self.taken >= self.most:
            raise self._full()
        self.unnamed += 1
        try:
            yield
        finally:
            self.unnamed -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A place for a stream. Raises Refusal (503) when all are taken."""
        if self.taken >= self.most:
            raise self._full()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _full(self) -> Refusal:
        return Refusal(503, f"all {self.most} places for streams are taken", hint="Try again later.")


def open_served(home: Path, run_id: str, *, delay: float | None = None, device: str = "auto") -> Served:
    """Load a run. Raises InputError if it has no usable weights."""
    from tal_core.inference.predict import load_model, predict_features
    from tal_core.runs.run import open_run
    from tal_core.streaming.online.online import open_online
    from tal_core.streaming.online.thresholds import online_rule

    run = open_run(home, run_id)
    model = load_model(run, device=device)
    info = model.info

    def detect(features: np.ndarray, grid: TimeGrid | None, name: str) -> pd.DataFrame:
        return predict_features(model, features, grid, video_id=name)[0]

    online, why_not = None, None
    try:
        online = open_online(model, delay=delay, rule=online_rule(run))
    except InputError as error:
        why_not = str(error)
    return Served(
        run_id,
        info.method,
        info.labels,
        info.num_features,
        info.grid,
        detect,
        _extractors(info, device),
        online,
        why_not,
    )


def _extractors(info: WeightsInfo, device: str) -> Callable[[], Extractor]:
    """Makes extractors as the run's features come from; they share one set of weights."""
    from tal_core.video.extractors.extractor import make_extractor, spec_of

    try:
        first = make_extractor(spec_of(info), device)
    except InputError as error:
        reason = error

        def refuse() -> Extractor:
            raise reason

        return refuse
    return first.fresh
