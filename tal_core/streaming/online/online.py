"""Trained runs that serve streams: online methods snippet by snippet, any other over a sliding buffer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tal_core.inference.predict import TrainedModel, load_model
from tal_core.models.registry import get_method
from tal_core.runs.run import Run
from tal_core.streaming.online.buffered import BufferedModel, Detector
from tal_core.streaming.online.events import OnlineModel, Output, SegmentEvent, check_delay, join_outputs
from tal_core.streaming.online.recurrent import RecurrentModel
from tal_core.streaming.online.thresholds import Rule, online_rule
from tal_core.types import TimeGrid

CHUNK = 256  # snippets


def open_online(
    run: os.PathLike | TrainedModel,
    *,
    delay: float | None = None,
    device: str = "auto",
    buffer: int | None = None,
    step: int | None = None,
    threshold: float | None = None,
    rule: Rule | None = None,
    detector: Detector | None = None,
) -> OnlineModel:
    """A run (its folder or a ``Run``) as an online detector.

    The network of an online method carries its state from snippet to snippet. Any other is run over the last
    ``buffer`` snippets at every ``step``-th one, and a detection is reported once its end is ``delay``
    seconds old.

    Args:
        delay: seconds that are waited before a decision; by default the rule's.
        threshold: score from which segments are reported (online methods: announced); by the rule by default.
        rule: thresholds and delay; by default those of `online_rule`.
        detector: what runs over the buffer, by default the run's network.

    Raises:
        InputError: if the run has no usable weights, or its proposals need class scores of whole videos.
    """
    if isinstance(run, TrainedModel):
        model, rule = run, rule or Rule()
    else:
        model, rule = load_model(run, device=device), rule or online_rule(Run(Path(run).resolve()))
    check_delay(delay)
    if get_method(model.info.method).online:
        return RecurrentModel(model, rule, delay=delay, threshold=threshold)
    return BufferedModel(
        model, rule, delay=delay, buffer=buffer, step=step, threshold=threshold, detector=detector
    )


def detect_online(
    model: OnlineModel, features: np.ndarray, grid: TimeGrid | None = None, chunk: int = CHUNK
) -> list[SegmentEvent]:
    """The events of a whole stream given as one ``(T, D)`` array: those that pushing it would have given."""
    return online_output(model, features, grid, chunk).events


def online_output(
    model: OnlineModel, features: np.ndarray, grid: TimeGrid | None = None, chunk: int = CHUNK
) -> Output:
    """All that pushes of ``chunk`` snippets and the end of the stream say."""
    stream = model.open_stream(grid)
    pushed = [stream.push(features[first : first + chunk]) for first in range(0, len(features), chunk)]
    return join_outputs([*pushed, stream.finish()])
