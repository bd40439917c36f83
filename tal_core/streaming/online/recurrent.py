"""Recurrent networks on streams: the state is carried, so that each snippet costs one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import torch

from tal_core.inference.predict import TrainedModel
from tal_core.streaming.online.events import Output, checked_features, checked_seconds
from tal_core.streaming.online.thresholds import Rule
from tal_core.streaming.online.tracker import SegmentTracker
from tal_core.types import TimeGrid


class RecurrentNetwork(Protocol):
    """What the network of an online method can do besides training."""

    def zero_state(self, streams: int = 1) -> torch.Tensor:
        """What it remembers at the beginning, ``(..., streams, ...)`` with streams along the second axis."""

    def advance(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next snippets of B streams: ``(B, T, D)`` -> class scores ``(B, T, K)`` in 0..1, state."""


class RecurrentModel:
    """An ``OnlineModel``. ``delay``: a segment is over when its class has been away for so many seconds."""

    def __init__(
        self, model: TrainedModel, rule: Rule, *, delay: float | None = None, threshold: float | None = None
    ):
        self.network, self.device = cast(RecurrentNetwork, model.network), model.device
        info = model.info
        self.labels, self.grid, self.num_features = info.labels, info.grid, info.num_features
        usual = self.grid.stride if rule.delay is None else rule.delay
        self.delay = usual if delay is None else delay
        self.rule = rule.hysteresis(self.grid.stride, threshold)
        self.patience = int(self.delay / self.grid.stride + 1e-6)

    def open_stream(self, grid: TimeGrid | None = None) -> RecurrentStream:
        """A new stream at its beginning; ``grid`` says where its snippets lie, as in training by default."""
        return RecurrentStream(self, grid or self.grid)

    def push_many(self, pushes: Sequence[tuple[RecurrentStream, np.ndarray]]) -> list[Output]:
        """The next snippets of several streams, in one batch of the network.

        A stream with fewer snippets than others leaves the batch early.

        Raises:
            InputError: for features of another dimension or that are not finite; no stream has moved then.
        """
        features = [checked_features(array, self.num_features) for _, array in pushes]
        longest_first = sorted(range(len(pushes)), key=lambda n: -len(features[n]))
        scores: list[list[np.ndarray]] = [[] for _ in pushes]
        states = {n: pushes[n][0].state for n in longest_first}
        done = 0
        while active := [n for n in longest_first if len(features[n]) > done]:
            until = len(features[active[-1]])
            batch = np.stack([features[n][done:until] for n in active])
            state = torch.cat([states[n] for n in active], dim=1)
            rows, state = self.network.advance(torch.from_numpy(batch).to(self.device), state)
            for number, (n, part) in enumerate(zip(active, rows.float().cpu().numpy(), strict=True)):
                scores[n].append(part)
                states[n] = state[:, number : number + 1]
            done = until
        outputs = []
        for n, (stream, _) in enumerate(pushes):
            stream.state = states[n]
            outputs.append(stream.follow(np.concatenate([np.zeros((0, len(self.labels))), *scores[n]])))
        return outputs


class RecurrentStream:
    """An ``OnlineStream``: the network's state, and the segments that are open."""

    def __init__(self, model: RecurrentModel, grid: TimeGrid):
        self.model, self.state = model, model.network.zero_state()
        self.tracker = SegmentTracker(model.labels, grid, model.rule, model.patience)

    def push(self, features: np.ndarray) -> Output:
        """Add the next snippets, ``(N, D)``. Raises InputError as ``push_many``."""
        return self.model.push_many([(self, features)])[0]

    def follow(self, scores: np.ndarray) -> Output:
        """Track the segments of the next snippets' scores ``(N, K)``."""
        first = self.tracker.position + 1
        seconds = self.tracker.grid.seconds(np.arange(first, first + len(scores)))
        events = [event for row in scores for event in self.tracker.update(row)]
        return Output(seconds, scores.astype(np.float32), events)

    def gap(self, seconds: float) -> Output:
        """Close what is open and forget what was; the next snippet is centred at ``seconds``."""
        self.state = self.model.network.zero_state()
        nothing = self.follow(np.zeros((0, len(self.model.labels))))
        return Output(nothing.seconds, nothing.scores, self.tracker.restart(checked_seconds(seconds)))

    def finish(self) -> Output:
        nothing = self.follow(np.zeros((0, len(self.model.labels))))
        return Output(nothing.seconds, nothing.scores, self.tracker.finish())
