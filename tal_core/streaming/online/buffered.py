"""Offline methods on streams: the network runs over the last snippets, and what is old enough is final.

    stream    ...........|------------------ buffer ------------------|
    detections                 [reported before]   [ final ]  [ not yet ]
                                                            <- delay -> newest snippet

A detection is reported once, when its end is ``delay`` older than the newest snippet. One that overlaps a
reported one of its class is the same action seen again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch

from tal_core.inference.predict import TrainedModel
from tal_core.models.config import MethodConfig
from tal_core.models.method import Model
from tal_core.postprocessing.candidates import join, suppression, thin
from tal_core.streaming.online.events import (
    Output,
    SegmentEvent,
    checked_features,
    checked_seconds,
    join_outputs,
)
from tal_core.streaming.online.thresholds import Rule
from tal_core.types import InputError, TimeGrid

SAME_ACTION = 0.3  # tIoU
DEFAULT_BUFFER = 512  # snippets
LONGEST_ACTIONS = 4  # the buffer holds so many of the longest
SNIPPETS_DELAY = 8  # by default
STEPS_IN_DELAY = 4  # so often within the delay the network runs,
LEAST_STEP = 0.5  # but no oftener than every so many seconds


class BufferDetections(NamedTuple):
    """``segments`` (N, 2) in seconds, ``labels`` and ``scores`` (N,), best first; ``snippet_scores`` (T, K)
    or None."""

    segments: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    snippet_scores: np.ndarray | None


Detector = Callable[[np.ndarray, TimeGrid], BufferDetections]
"""From the features (T, D) in a buffer and where they lie in time."""


class NetworkDetector:
    """A ``Detector``: a run's network and its NMS; detections below ``threshold`` are left out."""

    def __init__(self, model: TrainedModel, threshold: float):
        self.network, self.device = cast(Model, model.network), model.device
        self.suppression, self.threshold = suppression(model.config), threshold

    @torch.inference_mode()
    def __call__(self, features: np.ndarray, grid: TimeGrid) -> BufferDetections:
        candidates, scores = self.network.candidates(torch.from_numpy(features).to(self.device), grid)
        thinned = thin(join({"": candidates}), self.suppression)
        enough = thinned.scores >= self.threshold
        by_snippet = None if scores is None else scores.float().cpu().numpy()
        return BufferDetections(
            thinned.times[enough], thinned.labels[enough], thinned.scores[enough], by_snippet
        )


class BufferedModel:
    """An ``OnlineModel`` that runs a network over the last ``buffer`` snippets at every ``step``-th one.

    ``detector`` stands in for the network, for instance to share what several models compute.
    """

    def __init__(
        self,
        model: TrainedModel,
        rule: Rule,
        *,
        delay: float | None = None,
        buffer: int | None = None,
        step: int | None = None,
        threshold: float | None = None,
        detector: Detector | None = None,
    ):
        if model.config.needs_class_scores:
            what = "the run's proposals need class scores of whole videos, which a stream doesn't have"
            raise InputError(what, hint="Train a run that learns the classes itself.")
        info = model.info
        self.labels, self.grid, self.num_features = info.labels, info.grid, info.num_features
        stride = self.grid.stride
        self.delay = SNIPPETS_DELAY * stride if delay is None else delay
        self.buffer = buffer or _buffer(model.config, rule.longest, stride)
        self.step = step or max(1, int(max(LEAST_STEP, self.delay / STEPS_IN_DELAY) / stride))
        self.threshold = rule.threshold if threshold is None else threshold
        self.detector = detector or NetworkDetector(model, self.threshold)

    def open_stream(self, grid: TimeGrid | None = None) -> BufferedStream:
        """A new stream at its beginning; ``grid`` says where its snippets lie, as in training by default."""
        return BufferedStream(self, grid or self.grid)

    def push_many(self, pushes: Sequence[tuple[BufferedStream, np.ndarray]]) -> list[Output]:
        """The next snippets of several streams, one after the other: a network sees one buffer at a time.

        Raises:
            InputError: for features of another dimension or that are not finite; no stream has moved then.
        """
        features = [checked_features(array, self.num_features) for _, array in pushes]
        return [stream.extend(part) for (stream, _), part in zip(pushes, features, strict=True)]


def _buffer(config: MethodConfig, longest: float | None, stride: float) -> int:
    """Snippets to look back on: ``LONGEST_ACTIONS`` of the longest, but no more than the network knows."""
    trained = getattr(config, "sequence_length", None) or DEFAULT_BUFFER
    if longest is None:
        return min(trained, DEFAULT_BUFFER)
    return min(max(16, math.ceil(LONGEST_ACTIONS * longest / stride)), max(trained, 16))


class BufferedStream:
    """An ``OnlineStream``: the last snippets, and what was reported of them."""

    def __init__(self, model: BufferedModel, grid: TimeGrid):
        self.model, self.grid = model, grid
        self.features = np.zeros((0, model.num_features), np.float32)
        self.count = 0  # snippets since the stream began, or the last gap
        self.scored = 0  # of them, those whose scores were given
        self.segments = 0
        self.reported: list[tuple[int, float, float]] = []

    def push(self, features: np.ndarray) -> Output:
        """Add the next snippets, ``(N, D)``. Raises InputError as ``push_many``."""
        return self.model.push_many([(self, features)])[0]

    def extend(self, features: np.ndarray) -> Output:
        """Add checked snippets, and run the network where a step is complete."""
        outputs, step = [], self.model.step
        while len(features):
            part, features = np.split(features, [min(len(features), step - self.count % step)])
            self.features = np.concatenate([self.features, part])[-self.model.buffer :]
            self.count += len(part)
            if self.count % step == 0:
                outputs.append(self._decide(self.model.delay))
        return join_outputs([self._nothing(), *outputs])

    def gap(self, seconds: float) -> Output:
        """Report what is left of the buffer and empty it; the next snippet is centred at ``seconds``."""
        seconds = checked_seconds(seconds)
        output = self.finish()
        self.features, self.count, self.scored = self.features[:0], 0, 0
        self.reported, self.grid = [], TimeGrid(self.grid.stride, seconds)
        return output

    def finish(self) -> Output:
        """Report what is left: nothing follows that could change it."""
        return self._decide(-self.grid.stride) if self.count else self._nothing()

    def _decide(self, delay: float) -> Output:
        """Run the network; report what ended ``delay`` before the newest snippet, and scores until then."""
        first, newest = self.count - len(self.features), self.grid.seconds(self.count - 1)
        segments, labels, scores, by_snippet = self.model.detector(
            self.features, TimeGrid(self.grid.stride, self.grid.seconds(first))
        )
        last = self.grid.seconds(self.count - 0.5)
        events = []
        for (start, end), label, score in zip(segments.clip(0, last), labels, scores, strict=True):
            if end > newest - delay or self._is_reported(label, start, end):
                continue
            self.reported.append((int(label), start, end))
            decided = newest if delay >= 0 else last
            name = self.model.labels[label]
            events.append(
                SegmentEvent(
                    "end", self.segments, name, float(start), float(end), float(score), float(decided)
                )
            )
            self.segments += 1
        self.reported = [row for row in self.reported if row[2] >= self.grid.seconds(first)]
        until = min(self.count, self.count + int(np.floor(-delay / self.grid.stride + 1e-6)))
        rows = np.arange(max(self.scored, first), max(until, self.scored, first))
        self.scored = max(self.scored, until)
        if by_snippet is None:
            return Output(np.zeros(0), self._nothing().scores, events)
        return Output(self.grid.seconds(rows), by_snippet[rows - first], events)

    def _is_reported(self, label: int, start: float, end: float) -> bool:
        for other, begun, ended in self.reported:
            shared = min(end, ended) - max(start, begun)
            if other == label and shared > SAME_ACTION * (max(end, ended) - min(start, begun)):
                return True
        return False

    def _nothing(self) -> Output:
        return Output(np.zeros(0), np.zeros((0, len(self.model.labels)), np.float32))
