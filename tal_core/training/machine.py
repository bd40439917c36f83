"""What this machine offers for training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from tal_core.device import choose_device, device_name

GIB = 1024**3


@dataclass(frozen=True)
class Machine:
    """The device that ``auto`` takes, and what is free now; memory and disk in GiB."""

    device: str
    cores: int
    memory: float
    memory_free: float
    disk_free: float
    torch_version: str


def describe_machine(home: Path) -> Machine:
    """Look at the device, the memory and the disk that holds the workspace ``home``."""
    device = choose_device("auto")
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    memory = psutil.virtual_memory()
    return Machine(
        device=device_name(device),
        cores=psutil.cpu_count() or 1,
        memory=memory.total / GIB,
        memory_free=memory.available / GIB,
        disk_free=shutil.disk_usage(existing).free / GIB,
        torch_version=torch.__version__,
    )
