"""Prepares the next batches in the background while the network computes, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

THREADS, AHEAD = 2, 4


def prepared(batches: Sequence[Any], first: int, device: torch.device) -> Generator[Any, None, None]:
    """``batches[first:]`` one by one, with up to ``AHEAD`` made ahead by ``THREADS`` threads.

    For a CUDA ``device`` they are pinned, ready to be copied. Each depends on its position alone, so that
    they are the same, whichever thread makes them. What goes wrong in making one is raised at its turn.
    """
    if getattr(batches, "needs_network", False):
        for number in range(first, len(batches)):
            yield batches[number]
        return

    def make(number: int) -> Any:
        batch = batches[number]
        return pinned(batch) if device.type == "cuda" else batch

    # A thread's own number of threads: more would wait in a loop for work, in the network's way.
    pool = ThreadPoolExecutor(THREADS, "loader", torch.set_num_threads, (1,))
    try:
        waiting: deque[Future] = deque()
        for number in range(first, len(batches)):
            waiting.append(pool.submit(make, number))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def pinned(batch: Any) -> Any:
    """A batch with its tensors in memory that a CUDA device can copy from by itself."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.is_cuda or batch.is_pinned() else batch.pin_memory()
    if isinstance(batch, dict):
        return {name: pinned(value) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(pinned(value) for value in batch)
    return batch


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on ``device``; half precision, as features are stored, becomes float32 there.

    Pinned on their way to CUDA, so that nothing waits for them.
    """
    if isinstance(batch, torch.Tensor):
        batch = pinned(batch) if device.type == "cuda" else batch
        batch = batch.to(device, non_blocking=True)
        return batch.float() if batch.dtype == torch.float16 else batch
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
