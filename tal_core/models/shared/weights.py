"""Weights on disk: safetensors that say which method, classes and features they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from tal_core.types import InputError, TimeGrid
from tal_core.workspace import write_bytes


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file was made by and for.

    ``epoch`` counts finished epochs. ``grid`` is the training features' usual time grid, for features
    that come without a dataset. ``extractor``: the settings of what made them from the videos; None if that
    isn't known.
    """

    method: str
    labels: list[str]
    num_features: int
    epoch: int
    grid: TimeGrid
    extractor: dict[str, Any] | None = None


def save_weights(path: Path, weights: Mapping[str, torch.Tensor], info: WeightsInfo) -> None:
    """Write ``weights`` atomically. Raises InputError if the place can't be written."""
    metadata = {
        "method": info.method,
        "labels": json.dumps(info.labels),
        "num_features": str(info.num_features),
        "epoch": str(info.epoch),
        "stride": repr(info.grid.stride),
        "offset": repr(info.grid.offset),
    }
    if info.extractor is not None:
        metadata["extractor"] = json.dumps(info.extractor)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_info(path: Path) -> WeightsInfo:
    """Read what a weights file says about itself. Raises InputError if it is missing, faulty or not ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
        return WeightsInfo(
            method=said["method"],
            labels=json.loads(said["labels"]),
            num_features=int(said["num_features"]),
            epoch=int(said["epoch"]),
            grid=TimeGrid(float(said["stride"]), float(said["offset"])),
            extractor=json.loads(said["extractor"]) if "extractor" in said else None,
        )
    except FileNotFoundError:
        raise InputError("there are no weights", where=path, hint="Train the run first.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise _faulty(path, error) from None
    except (KeyError, ValueError):
        hint = "Use a checkpoint that TAL Studio has written."
        raise InputError("is not a checkpoint of a run", where=path, hint=hint) from None


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights into ``model``.

    Raises:
        InputError: for a missing or truncated file, and for weights of another network or size.
    """
    try:
        weights = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError("there are no weights", where=path, hint="Train the run first.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise _faulty(path, error) from None
    expected = model.state_dict()
    odd = next(
        (name for name in (*expected, *weights) if _shape(expected, name) != _shape(weights, name)), None
    )
    if odd is not None:
        what = f"weights {odd} are {_shape(weights, odd)}, but the config needs {_shape(expected, odd)}"
        hint = "The checkpoint belongs to another method, feature size, class list or config."
        raise InputError(what, where=path, hint=hint)
    model.load_state_dict(weights)


def _shape(weights: Mapping[str, Any], name: str) -> str:
    return " x ".join(map(str, weights[name].shape)) or "one number" if name in weights else "absent"


def _faulty(path: Path, error: Exception) -> InputError:
    what = f"can't be read as safetensors ({str(error).splitlines()[0]})"
    return InputError(what, where=path, hint="The file is truncated or of another kind; train again.")
