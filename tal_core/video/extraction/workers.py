"""Extracts many videos: the built-in extractor in one process per core, an encoder in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tal_core.background.processes import StopRequested
from tal_core.types import InputError
from tal_core.video.extractors.extractor import BATCH, Extractor, extract_with, make_extractor
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.video.frames import Damage

_TICK_SECONDS = 0.3  # between two looks at progress and stop requests


@dataclass(frozen=True)
class VideoFeatures:
    """What became of one video: features (T, D), or the ``error``; ``seconds`` of video seen, ``took`` to do.

    ``damage`` says what was wrong with a video that gave features all the same.
    """

    features: np.ndarray | None
    seconds: float
    took: float
    damage: str = ""
    error: str = ""


def extract_all(
    videos: dict[str, Path],
    spec: ExtractorSpec,
    device: str,
    processes: int | None,
    tick: Callable[[float], None],
    stop: Callable[[], bool],
) -> Generator[tuple[str, VideoFeatures], None, None]:
    """Yield each video's name and what became of it, in the order of their ends.

    ``tick(seconds)`` hears a few times a second how many seconds of video have been seen.

    Raises:
        StopRequested: once ``stop()`` says so; what hasn't been yielded is lost.
        InputError: as ``make_extractor``.
    """
    if not videos:
        return
    workers = min(processes or os.cpu_count() or 1, len(videos)) if spec.kind.loader is None else 1
    if workers > 1:
        yield from _in_processes(_Shared(spec, tick, stop), list(videos.items()), workers)
        return
    extractor, watch = make_extractor(spec, device, batch=BATCH), _Watch(tick, stop)
    for name, path in videos.items():
        yield name, _extract_one(extractor.fresh(), path, watch.moved)
        watch.begin_next()


def _extract_one(
    extractor: Extractor, path: Path, on_time: Callable[[float], None], threads: int = 0
) -> VideoFeatures:
    started, damage, seen = time.monotonic(), Damage(), 0.0

    def note(seconds: float) -> None:
        nonlocal seen
        seen = seconds
        on_time(seconds)

    try:
        features = extract_with(extractor, path, damage=damage, threads=threads, on_time=note)
    except InputError as error:
        said = f"{error.what}. {error.hint}" if error.hint else error.what
        return VideoFeatures(None, seen, time.monotonic() - started, str(damage), said)
    return VideoFeatures(features, seen, time.monotonic() - started, str(damage))


class _Watch:
    """Looks at progress and stop requests every so often, however many frames go by."""

    def __init__(self, tick: Callable[[float], None], stop: Callable[[], bool]):
        self.tick, self.stop = tick, stop
        self.before = self.seconds = 0.0
        self.looked = time.monotonic()

    def moved(self, seconds: float) -> None:
        """The current video has been seen up to ``seconds``. Raises StopRequested."""
        self.seconds = self.before + seconds
        if time.monotonic() - self.looked >= _TICK_SECONDS:
            self.look()

    def begin_next(self) -> None:
        self.before = self.seconds
        self.look()

    def look(self) -> None:
        """Report progress. Raises StopRequested if someone wants that."""
        self.looked = time.monotonic()
        self.tick(self.seconds)
        if self.stop():
            raise StopRequested


class _Shared:
    """What the processes of one extraction share: seconds seen by all of them, and a stop sign."""

    def __init__(self, spec: ExtractorSpec, tick: Callable[[float], None], stop: Callable[[], bool]):
        # A forked child of a process that has used OpenCV's or torch's threads may hang.
        self.context = multiprocessing.get_context("spawn")
        self.seconds, self.halt = self.context.Value("d", 0.0), self.context.Event()
        self.spec, self.tick, self.stop = spec, tick, stop

    def pool(self, workers: int) -> ProcessPoolExecutor:
        state = (self.spec.table(), self.seconds, self.halt)
        return ProcessPoolExecutor(workers, self.context, initializer=_begin, initargs=state)


def _in_processes(
    shared: _Shared, videos: list[tuple[str, Path]], workers: int
) -> Iterator[tuple[str, VideoFeatures]]:
    """As ``extract_all``. A video whose reading kills a process is found by trying each suspect alone."""
    waiting = videos[::-1]
    while waiting:
        suspects = yield from _until_one_dies(shared, waiting, workers)
        if len(suspects) == 1:
            reason = "reading it killed the process (out of memory, or a fault of the decoder)"
            yield suspects[0][0], VideoFeatures(None, 0.0, 0.0, error=reason)
            continue
        for suspect in suspects:
            yield from _in_processes(shared, [suspect], 1)


def _until_one_dies(
    shared: _Shared, waiting: list[tuple[str, Path]], workers: int
) -> Generator[tuple[str, VideoFeatures], None, list[tuple[str, Path]]]:
    """Extract from the end of ``waiting``; returns the videos under way when a process died, if one did."""
    running: dict[Future, tuple[str, Path]] = {}
    with shared.pool(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running[pool.submit(_work, waiting[-1][1])] = waiting[-1]
                    waiting.pop()
                done, _ = wait(running, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield running.pop(future)[0], result
                shared.tick(shared.seconds.value)
                if shared.stop():
                    raise StopRequested
        except BrokenProcessPool:
            return list(running.values())
        except BaseException:
            shared.halt.set()
            pool.shutdown(cancel_futures=True)
            raise
    return []


_OWN: dict[str, Any] = {}  # of a worker process: its extractor, the seconds seen by all, the stop sign


def _begin(spec: dict[str, Any], seconds: Any, halt: Any) -> None:
    """Prepare a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores already
    _OWN.update(extractor=make_extractor(ExtractorSpec(**spec)), seconds=seconds, halt=halt)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)


def _work(path: Path) -> VideoFeatures:
    """Extract one video in a worker process."""
    total, halt = _OWN["seconds"], _OWN["halt"]
    seen = 0.0

    def moved(seconds: float) -> None:
        nonlocal seen
        with total.get_lock():
            total.value += seconds - seen
        seen = seconds
        if halt.is_set():
            raise StopRequested

    return _extract_one(_OWN["extractor"].fresh(), path, moved, threads=1)
