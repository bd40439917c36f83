"""Everything that training needs to go on exactly where it stopped."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from tal_core.models.shared.weights import WeightsInfo, save_weights
from tal_core.training.optimization import AveragedWeights
from tal_core.types import InputError
from tal_core.workspace import write_bytes


@dataclass
class Position:
    """How far training is.

    ``epoch`` and ``step``: the next step to do, counted from 0. ``total_steps``: steps done.
    ``sums``: loss terms summed over this epoch's steps so far. ``seconds``: time spent in this epoch.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def advance(self, terms: Mapping[str, float]) -> None:
        """One step has been done, with these loss terms."""
        self.step += 1
        self.total_steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def next_epoch(self) -> None:
        self.epoch, self.step, self.sums, self.seconds = self.epoch + 1, 0, {}, 0.0


@dataclass
class State:
    """The moving parts of training. ``rng``: the random state at the step where it was resumed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedWeights | None
    position: Position
    rng: list[torch.Tensor] = field(default_factory=list)

    @property
    def detector(self) -> nn.Module:
        """The network that detects: the averaged one if there is one."""
        return self.average.model if self.average else self.model


def save_state(folder: Path, state: State, info: WeightsInfo) -> None:
    """Write ``last.safetensors`` (for detection) and ``last.pt`` (to go on), each atomically."""
    save_weights(folder / "last.safetensors", state.detector.state_dict(), info)
    content = {
        "model": state.model.state_dict(),
        "average": state.average.model.state_dict() if state.average else None,
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "rng": random_state(),
        "position": asdict(state.position),
        "labels": info.labels,
        "num_features": info.num_features,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(folder / "last.pt", buffer.getvalue())


def load_state(folder: Path, state: State, info: WeightsInfo, device: torch.device) -> None:
    """Continue from ``last.pt``.

    Raises:
        InputError: if it is faulty, or the dataset's classes or features have changed since.
    """
    path = folder / "last.pt"
    hint = "Start a new run."
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        labels, num_features = content["labels"], content["num_features"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        what = f"can't be read as a training state ({type(error).__name__})"
        raise InputError(what, where=path, hint=hint) from None
    if labels != info.labels or num_features != info.num_features:
        what = (
            f"the run was trained on {len(labels)} classes and {num_features} channels, but the dataset now"
            f" has {len(info.labels)} and {info.num_features}, or other class names"
        )
        raise InputError(what, where=path, hint=hint)
    try:
        state.model.load_state_dict(content["model"])
        if state.average:
            state.average.model.load_state_dict(content["average"] or content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.scaler.load_state_dict(content["scaler"])
        state.position = Position(**content["position"])
        state.rng = content["rng"]
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        what = f"doesn't fit the run's config ({str(error).splitlines()[0]})"
        raise InputError(what, where=path, hint=hint) from None


def random_state() -> list[torch.Tensor]:
    """The state of the CPU's random numbers, then of each CUDA device's."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def set_random_state(states: list[torch.Tensor]) -> None:
    """Go back to a ``random_state``; devices that aren't here are left out."""
    cpu, *cuda = (state.cpu() for state in states)
    torch.set_rng_state(cpu)
    if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
