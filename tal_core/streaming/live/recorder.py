"""Keeps a stream's folder up to date while it goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tal_core.background.status_writer import StatusWriter
from tal_core.streaming.live.folder import StreamFolder, score_row
from tal_core.streaming.live.inlet import Frame
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import JsonLines, Report, Sink
from tal_core.workspace import writing

PICTURE_SECONDS = 0.25
STATUS_SECONDS = 1.0
PICTURE_PIXELS = 480 * 270
SCORES_SECONDS = 600.0


class Scores(Sink):
    """A sink: class scores of the last ten minutes in ``scores.bin``, twenty at most."""

    def __init__(self, path: Path, classes: int):
        self._path, self._row = path, score_row(classes)
        self._first: float | None = None

    def take(self, report: Report) -> None:
        if len(report.seconds) == 0:
            return
        rows = np.empty(len(report.seconds), self._row)
        rows["seconds"], rows["scores"] = report.seconds, report.scores
        newest = float(report.seconds[-1])
        if self._first is None:
            self._first = newest
        with writing(self._path):
            with self._path.open("ab") as file:
                file.write(rows.tobytes())
            if newest - self._first > 2 * SCORES_SECONDS:
                self._roll(newest - SCORES_SECONDS)

    def _roll(self, since: float) -> None:
        rows = np.fromfile(self._path, self._row)
        _replace(self._path, rows[rows["seconds"] >= since].tobytes())
        self._first = since


class StreamRecorder(StatusWriter[StreamFolder]):
    """Writes status and picture of a session, and stops it when its folder says so. Used as a context.

    ``sinks`` are what the session must tell. What goes wrong with the folder stops the session and is
    raised at the end.
    """

    session: Session

    def __init__(self, stream: StreamFolder, labels: list[str]):
        super().__init__(stream, labels=labels, began=time.time())
        self.seconds_between = PICTURE_SECONDS
        self.sinks = [JsonLines(stream.events_file), Scores(stream.scores_file, len(labels))]
        self._shown: Frame | None = None
        self._next_status = 0.0

    def watch(self, session: Session) -> StreamRecorder:
        self.session = session
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self.failure is not None:  # the cause of whatever else went wrong
            raise self.failure
        self._write_picture()
        self.write()

    def measured(self) -> dict[str, Any]:
        """State, error and statistics of the session."""
        state, error = self.session.state, self.session.error
        return {
            "state": "starting" if state == "created" else state,
            "error": None if error is None else str(error),
            "stats": self.session.stats(),
        }

    def beat(self) -> None:
        """A picture, every second a status, and a look whether to stop."""
        self._write_picture()
        if time.monotonic() >= self._next_status:
            self._next_status = time.monotonic() + STATUS_SECONDS
            self.write()
        if self.stop_requested:
            self.session.stop()

    def failed(self) -> None:
        self.session.stop()

    def _write_picture(self) -> None:
        frame = self.session.latest
        if frame is not None and frame is not self._shown:
            self._shown = frame
            picture = np.ascontiguousarray(frame.picture(small)[..., ::-1])
            _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
            with suppress(FileNotFoundError):  # the folder is gone: told by the status
                _replace(self.job.picture_file, content.tobytes())


def small(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, (PICTURE_PIXELS / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _replace(path: Path, content: bytes) -> None:
    """As ``write_bytes``, but not worth waiting for the disk."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
