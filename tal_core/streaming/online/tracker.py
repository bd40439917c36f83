"""Segments from class scores that come one snippet at a time.

    score   ------------ high -------------.-~~-.------------------
            ------------- low ----------.-'------'-.-------.-------
                                        |   |       |     |
                                     start  |      end    decided, `patience` after
                                        announced

A segment of a class begins where its score rises to ``low`` and is announced once it has reached ``high``
and lasted ``min_length``. It ends where the score falls below ``low``; what comes back within ``patience``
snippets belongs to it. Times lie where the score, drawn as a line between the centres, crosses ``low``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tal_core.streaming.online.events import SegmentEvent
from tal_core.types import TimeGrid


@dataclass(frozen=True)
class Hysteresis:
    """``high`` and ``low`` scores in 0..1, of all classes or ``(K,)``; ``min_length`` in snippets."""

    high: float | np.ndarray = 0.5
    low: float | np.ndarray = 0.3
    min_length: float = 0.0


class SegmentTracker:
    """The open segments of one stream, at most one of each class. ``patience`` of all classes or ``(K,)``."""

    def __init__(
        self, labels: Sequence[Any], grid: TimeGrid, rule: Hysteresis, patience: int | np.ndarray = 0
    ):
        self.labels, self.grid, self.rule, self.patience = labels, grid, rule, patience
        self.position = -1  # of the newest snippet
        self.segments = 0  # announced so far
        self._forget()

    def _forget(self) -> None:
        count = len(self.labels)
        self.before = np.full(count, np.nan)
        self.active, self.announced = np.zeros(count, bool), np.zeros(count, bool)
        self.start, self.end = np.zeros(count), np.zeros(count)
        self.last = np.full(count, -1)
        self.peak, self.total, self.pending = np.zeros(count), np.zeros(count), np.zeros(count)
        self.inside, self.number = np.zeros(count, int), np.zeros(count, int)

    def update(self, scores: np.ndarray) -> list[SegmentEvent]:
        """Scores ``(K,)`` of the next snippet -> what they begin and end; ends come first."""
        self.position += 1
        here, low, scores = self.position, self.rule.low, np.asarray(scores, np.float64)
        above = scores >= low
        new = above & ~self.active
        left = self.active & ~above & (self.last == here - 1)
        # np.fmax: without a neighbour, half a snippet.
        share = np.abs(low - scores) / np.maximum(np.abs(self.before - scores), 1e-9)
        share = np.where(np.isnan(self.before), 0.5, share)
        self.start[new] = here - share[new]
        self.end[left] = here - share[left]
        for table in (self.peak, self.total, self.pending, self.inside):
            table[new] = 0
        self.active |= new
        held = self.active & above
        self.pending[self.active] += scores[self.active]
        self.total[held] += self.pending[held]
        self.pending[held] = 0
        self.inside[held] += here - np.where(new, here - 1, self.last)[held]
        self.last[held] = here
        self.peak[held] = np.maximum(self.peak, scores)[held]
        self.before = scores
        now = float(self.grid.seconds(here))
        events = self._close(self.active & (here - self.last > self.patience), now)
        lasted = here - self.start >= self.rule.min_length
        ready = held & ~self.announced & (self.peak >= self.rule.high) & lasted
        for label in np.flatnonzero(ready).tolist():
            self.announced[label], self.number[label] = True, self.segments
            self.segments += 1
            events.append(self._event("start", label, now))
        return events

    def finish(self) -> list[SegmentEvent]:
        """Nothing follows: close what is open, half a snippet after the last centre at the latest."""
        still = self.active & (self.last == self.position)
        self.end[still] = self.position + 0.5
        events = self._close(self.active, float(self.grid.seconds(self.position + 0.5)))
        self._forget()
        return events

    def restart(self, seconds: float) -> list[SegmentEvent]:
        """As ``finish``; the next snippet is centred at ``seconds``."""
        events = self.finish()
        self.grid = TimeGrid(self.grid.stride, seconds - (self.position + 1) * self.grid.stride)
        return events

    def _close(self, ended: np.ndarray, now: float) -> list[SegmentEvent]:
        over = np.flatnonzero(ended & self.announced).tolist()
        events = [self._event("end", label, now) for label in over]
        self.active[ended] = self.announced[ended] = False
        return events

    def _event(self, kind: Literal["start", "end"], label: int, now: float) -> SegmentEvent:
        return SegmentEvent(
            kind=kind,
            segment=int(self.number[label]),
            label=self.labels[label],
            start=max(0.0, float(self.grid.seconds(self.start[label]))),
            end=float(self.grid.seconds(self.end[label])) if kind == "end" else None,
            score=float(self.total[label] / max(1, self.inside[label])),
            decided=now,
        )
