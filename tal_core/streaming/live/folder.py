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
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tal_core.background.job import log_tail
from tal_core.background.processes import process_alive
from tal_core.streaming.live.sinks import Record
from tal_core.types import InputError
from tal_core.workspace import check_name, write_json, writing

ACTIVE = ("starting", "connecting", "running", "reconnecting", "stopping")
STATES = (*ACTIVE, "finished", "stopped", "failed", "killed")
_TAIL = 1 << 16


@dataclass(frozen=True)
class StreamFolder:
    """One stream's folder. All reads raise InputError when it has been deleted or a file in it is faulty."""

    folder: Path

    @property
    def stream_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def config(self) -> dict[str, Any]:
        """``run``, ``source``, ``delay``, ``paced``, ``created``."""
        return self._read_json("config.json")

    def status(self) -> dict[str, Any]:
        """What the stream is doing: ``state`` (one of ``STATES``), ``error``, ``labels``, ``stats`` (see
        ``Session.stats``), ``began`` (Unix time), ``pid``, ``heartbeat``.

        ``killed``: the file says it goes on but its process is gone.
        """
        status = self._read_json("status.json")
        if status.get("state") not in ACTIVE:
            return status
        if not process_alive(status):
            status = self._read_json("status.json")  # it may have ended properly since
            if status.get("state") in ACTIVE:
                error = (
                    f"The process {status.get('pid')} is gone: it was killed, ran out of memory, or the"
                    " machine restarted. Start the stream again."
                )
                return {**status, "state": "killed", "error": error}
            return status
        return {**status, "state": "stopping"} if (self.folder / "stop").exists() else status

    @property
    def active(self) -> bool:
        """Whether its process still runs."""
        return self.status()["state"] in ACTIVE

    def records(self, last: int = 200) -> list[Record]:
        """The newest ``last`` records, oldest first. Reads only the end of the file."""
        lines: list[bytes] = []
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                start, size = file.seek(0, os.SEEK_END), _TAIL
                while start > 0 and len(lines) <= last:
                    start, size = max(0, start - size), 2 * size
                    file.seek(start)
                    lines = file.read().split(b"\n")
        except FileNotFoundError:
            self.config()
            return []
        whole = lines[:-1] if start == 0 else lines[1:-1]  # the first may be cut, the last is still written
        return [json.loads(line) for line in whole[-last:]]

    def scores(self, last: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
        """Seconds (N,) and class scores (N, K) of the last ``last`` seconds, in the order of ``labels``."""
        labels = self.status().get("labels", [])
        row = score_row(len(labels))
        try:
            with (self.folder / "scores.bin").open("rb") as file:
                rows = np.frombuffer(file.read(), row, count=os.fstat(file.fileno()).st_size // row.itemsize)
        except (FileNotFoundError, ValueError):  # replaced by a shorter one in between: next time
            rows = np.empty(0, row)
        if len(rows):
            rows = rows[rows["seconds"] >= rows["seconds"][-1] - last]
        return rows["seconds"].astype(np.float64), rows["scores"].astype(np.float32)

    def picture(self) -> bytes | None:
        """The newest picture as JPEG; None before the first."""
        try:
            return (self.folder / "latest.jpg").read_bytes()
        except FileNotFoundError:
            return None

    def log_tail(self, lines: int = 40) -> str:
        """The end of ``stream.log``."""
        return log_tail(self.folder, lines, "stream.log")

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            what = (
                f"can't be read ({error.strerror})" if self.folder.is_dir() else "the stream's folder is gone"
            )
            raise InputError(what, where=self.stream_id, hint="Choose another stream.") from None
        except ValueError as error:
            hint = "Delete the stream's folder."
            raise InputError(f"is not valid JSON ({error})", where=path, hint=hint) from None
        if not isinstance(content, dict):
            raise InputError("is not a JSON object", where=path, hint="Delete the stream's folder.")
        return content


def score_row(classes: int) -> np.dtype:
    """One row of ``scores.bin``."""
    return np.dtype([("seconds", "<f8"), ("scores", "<f4", (classes,))])


def create_stream(home: Path, config: dict[str, Any], stream_id: str | None = None) -> StreamFolder:
    """Make the folder of a stream that hasn't started.

    Raises:
        InputError: if the id is taken or the workspace can't be written.
    """
    streams = home / "streams"
    if stream_id is None:
        first = f"{config['run']}-{datetime.now():%Y%m%d-%H%M%S}"[-76:].lstrip("._-")
        names = (first, *(f"{first}-{number}" for number in range(2, 1000)))
        stream_id = next(name for name in names if not (streams / name).exists())
    folder = streams / check_name(stream_id, "stream")
    if folder.exists():
        raise InputError(f"there is already a stream {stream_id!r}", hint="Choose another id.")
    with writing(folder):
        streams.mkdir(parents=True, exist_ok=True)
        # A stream appears with its config and status in place, or not at all.
        unborn = Path(tempfile.mkdtemp(dir=streams, prefix=".new-"))
        try:
            unborn.chmod(0o755)
            created = {"created": time.time()}
            write_json(unborn / "config.json", {**config, **created})
            write_json(unborn / "status.json", {"state": "created", **created})
            unborn.rename(folder)
        except BaseException:
            shutil.rmtree(unborn, ignore_errors=True)
            raise
    return StreamFolder(folder)


def open_stream(home: Path, stream_id: str) -> StreamFolder:
    """The stream of that id. Raises InputError if there is none."""
    folder = home / "streams" / check_name(stream_id, "stream")
    if not (folder / "config.json").is_file():
        raise InputError(f"there is no stream {stream_id!r}", hint="Start one.")
    return StreamFolder(folder)


def list_streams(home: Path) -> list[StreamFolder]:
    """Every stream of the workspace, newest first."""
    found = [StreamFolder(path.parent) for path in (home / "streams").glob("[!.]*/config.json")]
    return sorted(found, key=_created, reverse=True)


def remove_stream(stream: StreamFolder) -> None:
    """Delete a stream's folder. Raises InputError while it goes on."""
    if stream.active:
        raise InputError("goes on", where=stream.stream_id, hint="Stop it first.")
    with writing(stream.folder):
        shutil.rmtree(stream.folder)


def _created(stream: StreamFolder) -> float:
    try:
        return float(stream.config().get("created") or 0)
    except (InputError, TypeError, ValueError):
        return 0.0
