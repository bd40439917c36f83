"""Where detections go: a file, the console, functions of the same program.

A sink is given every ``Report`` of a stream in order, from one thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tal_core.workspace import writing

Record = dict[str, Any]
"""One line of ``events.jsonl``. ``kind`` says which:

``stream``  the first: run, source (without passwords), labels, ``began`` (Unix time)
``start``, ``end``  an event, see ``SegmentEvent``; ``at``: Unix time
``gap``     an interruption: ``start``, ``end`` in seconds (``end`` null while it lasts), ``reason``
``over``    the last: ``state``, ``seconds``, ``error``
"""


@dataclass(frozen=True)
class Report:
    """What became known at once: records, and class scores (N, K) at ``seconds`` (N,)."""

    records: list[Record] = field(default_factory=list)
    seconds: np.ndarray = field(default_factory=lambda: np.empty(0))
    scores: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))


class Sink:
    """Takes reports. An InputError that it raises ends the stream."""

    def take(self, report: Report) -> None:
        """The next report. Must not wait for anyone outside the program."""
        raise NotImplementedError

    def close(self) -> None:
        """There is no more."""


class JsonLines(Sink):
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
        if report.records:
            lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in report.records)
            with writing(self.path):
                self._file.write(lines)
                self._file.flush()

    def close(self) -> None:
        self._file.close()


class Lines(Sink):
    """Says every record in one readable line, by ``say``."""

    def __init__(self, say: Callable[[str], None] = print):
        self._say = say

    def take(self, report: Report) -> None:
        for record in report.records:
            self._say(describe(record))


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


class Calls(Sink):
    """Calls a function with every report, in the thread of the stream."""

    def __init__(self, function: Callable[[Report], None]):
        self._function = function

    def take(self, report: Report) -> None:
        self._function(report)
