"""What the benchmarks of models share: where they run, turns, rows of the table, random data."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common  # noqa: F401
import numpy as np
import torch
from torch import nn

from tal_core.training.optimization import AveragedWeights, make_optimizer


class Setup:
    """Where and how to run, and the printing of rows."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = torch.device(options.device)
        self.precision = getattr(torch, options.precision)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Both programs compute in the precision asked for."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def checkout(self, name: str) -> Path | None:
        """Absolute path of a reference, if given."""
        place = getattr(self.options, name)
        return None if place is None else place.resolve()

    def take_turns(
        self, functions: dict[str, Callable[[], Any]], repeats: int | None = None
    ) -> dict[str, float]:
        """Least seconds of each, called in turns after one call to warm up."""
        times = {name: [] for name in functions}
        for number in range(1 + (repeats or self.options.repeats)):
            for name, function in functions.items():
                self._wait()
                begin = time.perf_counter()
                function()
                self._wait()
                if number:
                    times[name].append(time.perf_counter() - begin)
        return {name: min(values) for name, values in times.items()}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def compare(
        self,
        name: str,
        functions: dict[str, Callable],
        difference: float | None = None,
        calls: int = 1,
        **keywords,
    ):
        """Times ``ours`` and, if it is there, ``reference``; prints a row, of one of ``calls`` in each."""
        times = self.take_turns(functions, **keywords)
        times = {which: seconds / calls for which, seconds in times.items()}
        row(name, times["ours"], times.get("reference"), difference)


def row(
    name: str, ours: float, reference: float | None, difference: float | None = None, unit: str = "s"
) -> None:
    """One line of the table."""
    shown = {
        "s": lambda value: f"{1000 * value:,.{1 if value >= 0.01 else 3}f} ms",
        "MiB": lambda value: f"{value:,.0f} MiB",
    }[unit]
    theirs, ratio = ("", "") if reference is None else (shown(reference), f"{reference / ours:.1f}x")
    gap = "" if difference is None else f"{difference:.1e}"
    print(f"{name:58s}{shown(ours):>13s}{theirs:>14s}{ratio:>8s}{gap:>13s}", flush=True)


def heading(title: str) -> None:
    """Title of a part of the table."""
    print(f"\n{title:58s}{'ours':>13s}{'reference':>14s}{'ratio':>8s}{'difference':>13s}", flush=True)


def shake(model: nn.Module) -> None:
    """Moves every weight a little, so that none is a zero or a one that hides a mistake."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator).to(weight.device))


def take_over(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Loads weights; only buffers may be missing."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    trained = {name for name, _ in model.named_parameters()}
    wrong = [name for name in missing if name in trained] + unexpected
    if wrong:
        sys.exit(f"the reference's weights don't fit ours: {', '.join(wrong[:5])}")


def count(model: nn.Module) -> float:
    """Trained parameters in millions."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad) / 1e6


def clip(length: int, size: int, classes: int, seed: int, actions: int = 15) -> tuple:
    """Random ``(T, D)`` features with segments ``(N, 2)`` float32 and labels."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.standard_normal((length, size), dtype=np.float32))
    start = rng.uniform(0, 0.8 * length, actions)
    end = np.minimum(start + rng.gamma(2, length / 50, actions) + 1, length - 1)
    return features, np.stack([start, end], axis=1).astype(np.float32), rng.integers(0, classes, actions)


def step_of(setup: Setup, model: nn.Module, config: Any, average: bool) -> Callable[[dict], torch.Tensor]:
    """A training step of ours as the training loop does it."""
    optimizer = make_optimizer(model, config)
    averaged = AveragedWeights(model, config.ema_decay) if average else None
    if setup.options.compile:
        model.forward = torch.compile(model.forward)

    def step(batch: dict) -> torch.Tensor:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with setup.autocast():
            loss = model.loss(batch)["loss"]
        loss.backward()
        if config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        if averaged is not None:
            averaged.update(model)
        return loss

    return step


def on(device: torch.device, batch: dict) -> dict:
    """A ``clips.collate`` batch there."""
    return {
        name: [one.to(device) for one in value] if isinstance(value, list) else value.to(device)
        for name, value in batch.items()
    }
