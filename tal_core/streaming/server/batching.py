"""One model serves many streams: what they push within a few milliseconds becomes one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tal_core.streaming.online.events import OnlineModel, OnlineStream, Output

GATHER_SECONDS = 0.003
MOST = 64
"""Streams in one batch."""


class _Push(NamedTuple):
    stream: OnlineStream
    features: np.ndarray
    output: asyncio.Future[Output]


class Batcher:
    """Runs one model in one thread of its own. Used as an asynchronous context.

    ``on_batch`` is called with the size of every batch.
    """

    _worker: asyncio.Task[None]

    def __init__(self, model: OnlineModel, on_batch: Callable[[int], None] = lambda size: None):
        self.model, self._on_batch = model, on_batch
        self._waiting: asyncio.Queue[_Push] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="online-model")

    async def __aenter__(self) -> Batcher:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    async def push(self, stream: OnlineStream, features: np.ndarray) -> Output:
        """What ``stream.push(features)`` says. One push of a stream at a time."""
        output = asyncio.get_running_loop().create_future()
        await self._waiting.put(_Push(stream, features, output))
        return await output

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the model or of one of its streams, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while len(batch) < MOST and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            self._on_batch(len(batch))
            await self._answer(batch)

    async def _answer(self, batch: list[_Push]) -> None:
        try:
            outputs = await self.call(self.model.push_many, [(p.stream, p.features) for p in batch])
            for push, output in zip(batch, outputs, strict=True):
                if not push.output.done():  # its client may have left meanwhile
                    push.output.set_result(output)
        except Exception as error:  # each stream is told
            for push in batch:
                if not push.output.done():
                    push.output.set_exception(error)
