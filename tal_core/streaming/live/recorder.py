"""Keeps a stream's folder up to date while it goes on."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tal_core.background.processes import this_process
from tal_core.streaming.live.folder import StreamFolder, score_row
from tal_core.streaming.live.inlet import Frame
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import JsonLines, Report, Sink
from tal_core.types import InputError
from tal_core.workspace import write_bytes, write_json, writing

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


class Recorder:
    """Writes status and picture of a session, and stops it when its folder says so. Used as a context.

    ``sinks`` are what the session must tell. What goes wrong with the folder stops the session and is
    raised at the end.
    """

    def __init__(self, stream: StreamFolder, labels: list[str]):
        self.stream, self.labels = stream, labels
        self.sinks: list[Sink] = [
            JsonLines(stream.folder / "events.jsonl"),
            Scores(stream.folder / "scores.bin", len(labels)),
        ]
        self.session: Session | None = None
        self._began = time.time()
        self._closed = threading.Event()
        self._failure: InputError | None = None
        self._shown: Frame | None = None
        self._thread = threading.Thread(target=self._watch, name="stream-recorder", daemon=True)

    def watch(self, session: Session) -> Recorder:
        """The session that is written about."""
        self.session = session
        return self

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        if self._failure is not None:  # the cause of whatever else went wrong
            raise self._failure
        self._write_picture()
        self._write_status()

    def _watch(self) -> None:
        next_status = 0.0
        while not self._closed.wait(PICTURE_SECONDS):
            try:
                self._write_picture()
                if time.monotonic() >= next_status:
                    next_status = time.monotonic() + STATUS_SECONDS
                    self._write_status()
            except InputError as error:
                self._failure = error
                self.session.stop()
                return
            if (self.stream.folder / "stop").exists():
                self.session.stop()

    def _write_status(self) -> None:
        if not self.stream.folder.is_dir():
            hint = "Nothing of it is left; start it again."
            raise InputError(
                "the stream's folder was deleted while it went on", where=self.stream.folder, hint=hint
            )
        error = self.session.error
        status = {
            "state": self.session.state,
            "error": None if error is None else str(error),
            "labels": self.labels,
            "began": self._began,
            "heartbeat": time.time(),
            **this_process(),
            "stats": self.session.stats(),
        }
        write_bytes(self.stream.folder / "status.json", (json.dumps(status, indent=2) + "\n").encode())

    def _write_picture(self) -> None:
        frame = self.session.latest
        if frame is not None and frame is not self._shown:
            self._shown = frame
            picture = np.ascontiguousarray(frame.picture(small)[..., ::-1])
            _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
            with suppress(FileNotFoundError):  # the folder is gone: told by the status
                _replace(self.stream.folder / "latest.jpg", content.tobytes())


def small(width: int, height: int) -> tuple[int, int]:
    """The size of the picture in the folder."""
    scale = min(1.0, (PICTURE_PIXELS / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _replace(path: Path, content: bytes) -> None:
    """As ``write_bytes``, but not worth waiting for the disk."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def failed(stream: StreamFolder, error: Exception) -> None:
    """Write that a stream failed before it began."""
    status: dict[str, Any] = {"state": "failed", "error": str(error), "heartbeat": time.time()}
    write_json(stream.folder / "status.json", {**status, **this_process()})
