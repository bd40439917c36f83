"""Where what was detected goes: a file, the console, functions and queues of the same program.

A sink is given every ``Report`` of a stream in order, from one thread.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tal_core.workspace import writing

Record = dict[str, Any]
"""One line of ``events.jsonl``. ``kind`` says which:

``stream``  the first: run, source (without passwords), labels, ``began`` (Unix time)
``start``, ``end``  an event, see ``SegmentEvent``; ``at``: Unix time
``gap``     an interruption: ``start``, ``end`` in seconds (``end`` null while it lasts), ``reason``
``over``    the last: ``state``, ``seconds``, ``error``
"""


def _no_times() -> np.ndarray:
    return np.empty(0)


def _no_scores() -> np.ndarray:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class Report:
    """What became known at once: records, and class scores (N, K) at ``seconds`` (N,)."""

    records: list[Record] = field(default_factory=list)
    seconds: np.ndarray = field(default_factory=_no_times)
    scores: np.ndarray = field(default_factory=_no_scores)


class Sink(Protocol):
    """Takes reports. An InputError that it raises ends the stream."""

    def take(self, report: Report) -> None:
        """The next report. Must not wait for anyone outside the program."""

    def close(self) -> None:
        """There is no more."""


class JsonLines:
    """Appends every record to a file, one line each, written out at once.

    Raises:
        InputError: if the file can't be written.
    """

    def __init__(self, path: Path):
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def take(self, report: Report) -> None:
        """See ``Sink``."""
        if report.records:
            lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in report.records)
            with writing(self.path):
                self._file.write(lines)
                self._file.flush()

    def close(self) -> None:
        """See ``Sink``."""
        self._file.close()


class Lines:
    """Says every record in one readable line, by ``say``."""

    def __init__(self, say: Callable[[str], None] = print):
        self._say = say

    def take(self, report: Report) -> None:
        """See ``Sink``."""
        for record in report.records:
            self._say(describe(record))

    def close(self) -> None:
        """See ``Sink``."""


def describe(record: Record) -> str:
    """A record as one readable line."""
    match record["kind"]:
        case "start":
            return f"{record['start']:9.2f} s           begins  {record['label']}"
        case "end":
            segment = f"{record['start']:9.2f} s - {record['end']:.2f} s"
            return f"{segment:<22} {record['label']}  {record['score']:.2f}"
        case "gap" if record["end"] is None:
            return f"{record['start']:9.2f} s           interrupted: {record['reason']}"
        case "gap":
            return f"{record['end']:9.2f} s           goes on after {record['end'] - record['start']:.1f} s"
        case "stream":
            return f"{record['run']} on {record['source']}"
        case _:
            return f"{record['seconds']:9.2f} s           {record['error'] or record['state']}"


class Calls:
    """Calls a function with every report, in the thread of the stream."""

    def __init__(self, function: Callable[[Report], None]):
        self.take = function

    def close(self) -> None:
        """See ``Sink``."""


class Subscription:
    """The reports of a stream from now on, for one reader. Iterate over it, or ``get`` one by one.

    ``cut``: the reader was too slow, reports are missing, and no more will come.
    """

    def __init__(self, room: int):
        self._reports: queue.Queue[Report | None] = queue.Queue()
        self._room = room
        self._lock = threading.Lock()
        self.cut = self.closed = False

    def get(self, timeout: float | None = None) -> Report | None:
        """The next report, or None after the last. Raises TimeoutError when none came in time."""
        if self.closed and self._reports.empty():
            return None
        try:
            return self._reports.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def __iter__(self) -> Iterator[Report]:
        while (report := self.get()) is not None:
            yield report

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._reports.put(None)

    def offer(self, report: Report) -> bool:
        """Add a report; whether the reader is still there. Never waits."""
        with self._lock:
            if self.closed:
                return False
            self.cut = self.closed = self._reports.qsize() >= self._room
            self._reports.put(None if self.cut else report)
            return not self.cut


class Subscribers:
    """A sink that many read, each at its own pace; who falls ``room`` reports behind is cut off.

    ``cut`` counts those. Nobody waits for anybody.
    """

    def __init__(self):
        self.cut = 0
        self._open: list[Subscription] = []
        self._lock = threading.Lock()
        self._closed = False

    def subscribe(self, room: int = 256) -> Subscription:
        """A new subscription; at its end already if the stream is over."""
        subscription = Subscription(room)
        with self._lock:
            if self._closed:
                subscription.close()
            else:
                self._open.append(subscription)
        return subscription

    def take(self, report: Report) -> None:
        """See ``Sink``."""
        with self._lock:
            kept = [subscription for subscription in self._open if subscription.offer(report)]
            self.cut += sum(subscription.cut for subscription in self._open if subscription not in kept)
            self._open = kept

    def close(self) -> None:
        """See ``Sink``."""
        with self._lock:
            self._closed = True
            for subscription in self._open:
                subscription.close()
            self._open = []
