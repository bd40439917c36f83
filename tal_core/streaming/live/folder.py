"""A stream's folder: what a background stream tells everyone who looks, and how it is asked to stop.

<home>/streams/<id>/
  config.json   run, source (without passwords), delay, paced, created
  status.json   state, process, heartbeat, labels, stats; replaced atomically
  events.jsonl  one record a line (``sinks.Record``); only appended to
  scores.bin    class scores of the last minutes, see ``StreamFolder.scores``
  latest.jpg    the newest picture, small; replaced a few times a second
  stream.log    what the process says
  stop          there when someone asked it to stop
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tal_core.background.job_folder import FileOf, JobFolder, Status
from tal_core.streaming.live.sinks import Record

ACTIVE = ("starting", "connecting", "running", "reconnecting", "stopping")
_TAIL = 1 << 16


class StreamStatus(Status):
    """``labels``: the classes; ``began``: Unix time; ``stats``: see ``Session.stats``."""

    labels: list[str] = Field(default_factory=list)
    began: float | None = None
    stats: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class StreamFolder(JobFolder):
    """One stream's folder. All reads raise InputError when it has been deleted or a file in it is faulty."""

    kind = "stream"
    request_name = "config.json"
    log_name = "stream.log"
    active_states = ACTIVE
    required = ("run", "source")
    status_type = StreamStatus
    when_killed = "Start the stream again."

    events_file = FileOf("events.jsonl")
    scores_file = FileOf("scores.bin")
    picture_file = FileOf("latest.jpg")

    def records(self, last: int = 200) -> list[Record]:
        """The newest ``last`` records, oldest first. Reads only the end of the file."""
        lines: list[bytes] = []
        try:
            with self.events_file.open("rb") as file:
                start, size = file.seek(0, os.SEEK_END), _TAIL
                while start > 0 and len(lines) <= last:
                    start, size = max(0, start - size), 2 * size
                    file.seek(start)
                    lines = file.read().split(b"\n")
        except FileNotFoundError:
            self.request()
            return []
        whole = lines[:-1] if start == 0 else lines[1:-1]  # the first may be cut, the last is still written
        return [json.loads(line) for line in whole[-last:]]

    def scores(self, last: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
        """Seconds (N,) and class scores (N, K) of the last ``last`` seconds, in the order of ``labels``."""
        labels = self.status()["labels"]
        row = score_row(len(labels))
        try:
            with self.scores_file.open("rb") as file:
                rows = np.frombuffer(file.read(), row, count=os.fstat(file.fileno()).st_size // row.itemsize)
        except (FileNotFoundError, ValueError):  # replaced by a shorter one in between: next time
            rows = np.empty(0, row)
        if len(rows):
            rows = rows[rows["seconds"] >= rows["seconds"][-1] - last]
        return rows["seconds"].astype(np.float64), rows["scores"].astype(np.float32)

    def picture(self) -> bytes | None:
        """The newest picture as JPEG; None before the first."""
        try:
            return self.picture_file.read_bytes()
        except FileNotFoundError:
            return None


def score_row(classes: int) -> np.dtype:
    """One row of ``scores.bin``."""
    return np.dtype([("seconds", "<f8"), ("scores", "<f4", (classes,))])


def create_stream(home: Path, request: dict[str, Any], stream_id: str | None = None) -> StreamFolder:
    """Make the folder of a stream that hasn't started.

    Raises:
        InputError: if the id is taken or the workspace can't be written.
    """
    created = {"created": time.time()}
    first = f"{request['run']}-{datetime.now():%Y%m%d-%H%M%S}"[-76:].lstrip("._-")
    status = {"state": "created", **created}
    return StreamFolder.create(home / "streams", {**request, **created}, status, name=stream_id, first=first)


def open_stream(home: Path, stream_id: str) -> StreamFolder:
    """The stream of that id. Raises InputError if there is none."""
    return StreamFolder.open_in(home / "streams", stream_id)


def list_streams(home: Path) -> list[StreamFolder]:
    """Every stream of the workspace, newest first."""
    return StreamFolder.list_in(home / "streams")
