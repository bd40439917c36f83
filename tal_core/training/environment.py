"""With what a run was trained: versions, device, commit, data."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tal_core.background.processes import PROJECT
from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.device import device_name

PACKAGES = ("torch", "numpy", "pandas", "pydantic", "safetensors")


def describe(device: torch.device, precision: torch.dtype, dataset: FeatureDataset) -> dict[str, Any]:
    """The content of ``environment.json``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": device_name(device),
        "precision": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint(),
            "training_videos": len(dataset.videos(dataset.training_subset)),
            "labels": dataset.labels,
            "num_features": dataset.num_features,
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The project's commit, ``+`` behind it if files differ from it; None outside a checkout."""
    if not (PROJECT / ".git").exists():
        return None
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
