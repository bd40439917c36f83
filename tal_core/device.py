"""Where and how precisely to compute."""

from __future__ import annotations

import torch

from tal_core.types import InputError


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: if the device asked for isn't there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name):
        there = ", ".join(device for device, there in available.items() if there)
        raise InputError(f"device {name!r} isn't available here", hint=f"Choose auto or one of: {there}.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of a training step's arithmetic; ``auto`` is the fastest that is safe on ``device``.

    Raises:
        InputError: for float16 off CUDA, where small gradients would be lost without loss scaling.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if name == "float16" and device.type != "cuda":
        raise InputError(f"float16 needs CUDA, and this is {device.type}", hint="Set precision to auto.")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def device_name(device: torch.device) -> str:
    """What to call the device in texts: the GPU's name, or ``cpu (2 threads)``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type
