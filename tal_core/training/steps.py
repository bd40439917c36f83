"""The optimisation steps of one epoch, and what they report.

A step never waits for a CUDA device: its loss is read while the device works on the next one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.config import MethodConfig
from tal_core.models.method import Method, Model, Sampler
from tal_core.models.shared.weights import WeightsInfo
from tal_core.runs.recorder import RunRecorder
from tal_core.runs.run import Run
from tal_core.training.checkpoint import Position, State, save_state, set_random_state
from tal_core.training.loader import prepared, to_device
from tal_core.training.optimization import AveragedWeights, learning_rate, make_optimizer
from tal_core.types import InputError, Progress

STEP_LINES = 25  # at least so many per epoch in metrics.jsonl
LINE_SECONDS = 1.0  # and one so often


@dataclass(frozen=True)
class Training:
    """What stays the same while a run trains."""

    run: Run
    method: Method
    config: MethodConfig
    dataset: FeatureDataset
    device: torch.device
    precision: torch.dtype
    recorder: RunRecorder
    progress: Progress


def train_epoch(training: Training, steps: Steps, sampler: Sampler, info: WeightsInfo) -> None:
    """Take the steps that are left of the present epoch; checkpoint at its end, or where it is stopped."""
    config, recorder, state = training.config, training.recorder, steps.state
    position = state.position
    seed = config.seed * 1_000_003 + position.epoch
    batches = sampler.epoch(position.epoch, torch.Generator().manual_seed(seed))
    if position.step == 0:
        torch.manual_seed(seed + 1)  # of dropout and the like
    elif state.rng:
        set_random_state(state.rng)
    meter = Meter(training, state, len(batches))
    state.model.train()
    begun = time.perf_counter() - position.seconds
    with closing(prepared(batches, position.step, training.device)) as ready:
        for number, batch in enumerate(ready, position.step):
            if recorder.stop_requested:
                meter.finish()
                position.seconds = time.perf_counter() - begun
                save_state(training.run.checkpoints, state, info)
            recorder.check()
            rate = learning_rate(config, position.epoch, number, len(batches))
            batch = to_device(batch, training.device)
            meter.step(steps.take(batch, rate), rate, num_samples(batch))
    meter.finish()
    seconds = time.perf_counter() - begun
    means = {name: value / len(batches) for name, value in position.sums.items()}
    position.next_epoch()
    # The line goes first: if it is written again after a crash, readers take the later one.
    recorder.metric(
        "epoch", epoch=position.epoch, step=position.total_steps, **means, seconds=round(seconds, 3)
    )
    recorder.log(
        f"Epoch {position.epoch}/{config.epochs}: loss {means.get('loss', 0):.4f} in {seconds:.1f} s"
    )
    save_state(training.run.checkpoints, state, replace(info, epoch=position.epoch))


def new_state(model: nn.Module, config: MethodConfig, device: torch.device, precision: torch.dtype) -> State:
    """Training at its start, on ``device``."""
    model.to(device)
    return State(
        model=model,
        optimizer=make_optimizer(model, config),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        average=None if config.ema_decay is None else AveragedWeights(model, config.ema_decay),
        position=Position(),
    )


@dataclass(frozen=True)
class Reading:
    """Numbers of a step on their way from the device; ``values`` waits for them."""

    names: tuple[str, ...]
    numbers: torch.Tensor
    copied: torch.cuda.Event | None

    def values(self) -> dict[str, float]:
        """By name."""
        if self.copied is not None:
            self.copied.synchronize()
        return dict(zip(self.names, self.numbers.tolist(), strict=True))


def read_later(terms: dict[str, torch.Tensor]) -> Reading:
    """Start to copy scalar tensors to the CPU, in one piece."""
    numbers = torch.stack([term.detach().float() for term in terms.values()])
    copied = None
    if numbers.is_cuda:
        numbers = numbers.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
    return Reading(tuple(terms), numbers, copied)


class Steps:
    """Takes optimisation steps: loss, gradient, optimizer, averaged weights."""

    def __init__(
        self,
        state: State,
        config: MethodConfig,
        device: torch.device,
        precision: torch.dtype,
        log: Callable[[str], None],
    ):
        self.state, self.config, self.device = state, config, device
        self.precision = None if precision == torch.float32 else precision
        if config.compile:
            compile_training(state.model, log)

    def take(self, batch: Any, rate: float) -> Reading:
        """One step at learning rate ``rate``: the loss terms, and ``gradient_norm`` before clipping."""
        state = self.state
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            terms = cast(Model, state.model).loss(batch)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(terms["loss"]).backward()
        state.scaler.unscale_(state.optimizer)
        weights = [weight for weight in state.model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(weights, self.config.gradient_clip, norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average:
            state.average.update(state.model)
        return read_later({**terms, "gradient_norm": norm})


def compile_training(model: nn.Module, log: Callable[[str], None]) -> None:
    """Let ``model`` compute in training by a compiled ``forward``; as it is if it can't be compiled here."""
    from torch._dynamo.exc import TorchDynamoException  # slow

    plain, compiled = model.forward, torch.compile(model.forward)

    def forward(*inputs: Any) -> Any:
        if not model.training:
            return plain(*inputs)
        try:
            return compiled(*inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            log(f"Can't compile the network here, so it runs as it is. The compiler says: {reason}")
            model.forward = plain
            return plain(*inputs)

    model.forward = forward


class Meter:
    """Keeps status and metrics up to date from step to step of one epoch."""

    def __init__(self, training: Training, state: State, steps: int):
        self.training, self.position, self.steps = training, state.position, steps
        self.skips_steps = state.scaler.is_enabled()
        self.every = max(1, steps // STEP_LINES)
        self.begun = self.last_line = time.perf_counter()
        self.done = 0
        self.unread: deque[tuple[Reading, float, int]] = deque()
        self.since_line = {"steps": 0, "samples": 0}
        self.sums: dict[str, float] = {}

    def step(self, reading: Reading, rate: float, samples: int) -> None:
        """Take note of a step. Raises InputError if a loss (of this step or the one before) is no number."""
        self.unread.append((reading, rate, samples))
        while len(self.unread) > (0 if reading.copied is None else 1):
            self._count(*self.unread.popleft())

    def finish(self) -> None:
        """Count the steps that are still being computed. Raises InputError as ``step``."""
        while self.unread:
            self._count(*self.unread.popleft())

    def _count(self, reading: Reading, rate: float, samples: int) -> None:
        """Count one step; write a line now and then, with the mean of each term since the line before."""
        terms = self._checked(reading.values())
        position, config, recorder = self.position, self.training.config, self.training.recorder
        position.advance(terms)
        self.done += 1
        self.since_line["steps"] += 1
        self.since_line["samples"] += samples
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        now = time.perf_counter()
        left = self.steps - position.step + (config.epochs - position.epoch - 1) * self.steps
        total = position.total_steps + left
        recorder.update(
            phase="training",
            message=f"Epoch {position.epoch + 1} of {config.epochs}",
            epoch=position.epoch + 1,
            step=position.total_steps,
            steps=total,
            eta_seconds=round(left * (now - self.begun) / self.done, 1),
        )
        self.training.progress(position.total_steps, total, "training")
        if position.step % self.every and position.step < self.steps and now - self.last_line < LINE_SECONDS:
            return
        speed = round(self.since_line["samples"] / max(now - self.last_line, 1e-9), 1)
        recorder.update(samples_per_second=speed)
        recorder.metric(
            "step",
            epoch=position.epoch + 1,
            step=position.total_steps,
            **{name: value / self.since_line["steps"] for name, value in self.sums.items()},
            learning_rate=rate,
            samples_per_second=speed,
            memory_mb=recorder.memory_mb(),
        )
        self.last_line, self.since_line, self.sums = now, {"steps": 0, "samples": 0}, {}

    def _checked(self, terms: dict[str, float]) -> dict[str, float]:
        """The terms, if all are numbers. With loss scaling (float16) an infinite gradient skips its step."""
        wrong = next((name for name, value in terms.items() if not math.isfinite(value)), None)
        if wrong is None:
            return terms
        if wrong == "gradient_norm" and self.skips_steps:
            return {name: value for name, value in terms.items() if name != wrong}
        position, rate = self.position, self.training.config.learning_rate
        where = f"epoch {position.epoch + 1}, step {position.step + 1}"
        hint = f"Lower learning_rate (now {rate:g}) or set gradient_clip in a new run."
        raise InputError(f"{wrong} became {terms[wrong]}", where=where, hint=hint)


def num_samples(batch: Any) -> int:
    """Length of a batch's first tensor."""
    while isinstance(batch, dict | list | tuple) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if isinstance(batch, torch.Tensor) and batch.ndim else 1
