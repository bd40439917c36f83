"""Trained runs that serve streams: MiniROAD snippet by snippet, every other method over a sliding buffer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tal_core.inference.predict import TrainedModel, load_model
from tal_core.models.miniroad import MiniRoad
from tal_core.runs.run import Run
from tal_core.streaming.online.buffered import BufferedModel
from tal_core.streaming.online.events import Event, OnlineModel, Output
from tal_core.streaming.online.recurrent import RecurrentModel
from tal_core.streaming.online.thresholds import Rule, online_rule
from tal_core.types import InputError, TimeGrid

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
) -> OnlineModel:
    """A run (its folder or a ``Run``) as an online detector.

    MiniROAD carries its state from snippet to snippet. Any other method is run over the last ``buffer``
    snippets at every ``step``-th one, and reports a detection once its end is ``delay`` seconds old.

    Args:
        delay: seconds that are waited before a decision; by default the rule's.
        threshold: score from which segments are reported (MiniROAD: announced); by the rule by default.
        rule: thresholds and delay; by default those of `online_rule`.

    Raises:
        InputError: if the run has no usable weights, or its proposals need class scores of whole videos.
    """
    if isinstance(run, TrainedModel):
        model, rule = run, rule or Rule()
    else:
        model, rule = load_model(run, device=device), rule or online_rule(Run(Path(run).resolve()))
    if delay is not None and not 0 <= delay <= 3600:
        raise InputError(f"delay can't be {delay:g} s", hint="Give 0 to 3600 seconds.")
    if isinstance(model.network, MiniRoad):
        return RecurrentModel(model, rule, delay=delay, threshold=threshold)
    return BufferedModel(model, rule, delay=delay, buffer=buffer, step=step, threshold=threshold)


def detect_online(
    model: OnlineModel, features: np.ndarray, grid: TimeGrid | None = None, chunk: int = CHUNK
) -> list[Event]:
    """The events of a whole stream given as one ``(T, D)`` array: those that pushing it would have given."""
    return online_output(model, features, grid, chunk).events


def online_output(
    model: OnlineModel, features: np.ndarray, grid: TimeGrid | None = None, chunk: int = CHUNK
) -> Output:
    """All that pushes of ``chunk`` snippets and the end of the stream say."""
    stream = model.open_stream() if grid is None else model.open_stream(grid)
    pushed = [stream.push(features[first : first + chunk]) for first in range(0, len(features), chunk)]
    return join_outputs([*pushed, stream.finish()])


def join_outputs(outputs: Sequence[Output]) -> Output:
    """Outputs of one stream, in order, as one."""
    return Output(
        np.concatenate([output.seconds for output in outputs]),
        np.concatenate([output.scores for output in outputs]),
        [event for output in outputs for event in output.events],
    )
