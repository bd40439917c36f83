"""Work in a process of its own that outlives the browser and the app, followed through files in a folder.

<folder>/
  status.json   state, process, heartbeat, progress; replaced atomically
  log.txt       what the process says
  stop          there when someone asked it to stop
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tal_core.background.processes import process_alive, spawn, this_process
from tal_core.types import InputError
from tal_core.workspace import write_json, writing

ACTIVE = ("running", "stopping")
_STATUS, _STOP, _LOG = "status.json", "stop", "log.txt"
_BEAT = 1.0  # seconds between signs of life


def launch(module: str, folder: Path, home: Path) -> int:
    """Run ``python -m module folder`` in the background; returns its process id.

    Raises:
        InputError: if the folder can't be written.
    """
    with writing(folder):
        (folder / _STOP).unlink(missing_ok=True)
        process = spawn(module, folder, home, _LOG)
    starting = {"state": "running", "message": "Starting", "started": time.time(), "heartbeat": time.time()}
    # Until python has loaded the process can't speak for itself.
    write_json(folder / _STATUS, {**starting, **this_process(process.pid)})
    return process.pid


def read_status(folder: Path) -> dict[str, Any]:
    """What the process of ``folder`` is doing.

    ``state`` is running, stopping, stopped, finished, failed, or killed (the process is gone without a word);
    also ``message``, ``done`` and ``total``, ``eta_seconds``, and ``error`` when failed.

    Raises:
        InputError: if there is no status, or it is faulty.
    """
    status = read_json(folder / _STATUS)
    if status.get("state") not in ACTIVE:
        return status
    if process_alive(status):
        return {**status, "state": "stopping"} if (folder / _STOP).exists() else status
    status = read_json(folder / _STATUS)  # it may have ended properly since
    if status.get("state") in ACTIVE:
        error = f"The process {status.get('pid')} is gone: it was killed, or ran out of memory."
        return {**status, "state": "killed", "error": error, "eta_seconds": None}
    return status


def request_stop(folder: Path) -> None:
    """Ask the process to stop; returns at once. Raises InputError if the folder can't be written."""
    with writing(folder):
        (folder / _STOP).touch()


def log_tail(folder: Path, lines: int = 40, log: str = _LOG) -> str:
    """The end of what the process said."""
    try:
        text = (folder / log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the folder. Raises InputError if there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path, hint="Start anew.") from None
    except (ValueError, TypeError):
        raise InputError("is not a JSON object", where=path, hint="Start anew.") from None


class Reporter:
    """Writes the status of this process once a second, also while it has no news."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._fields = {"state": "running", "started": time.time(), "message": "Starting", **this_process()}
        self._phase = ("", time.monotonic())
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Reporter:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def stopped(self) -> bool:
        """Whether someone asked to stop, or removed the folder."""
        return (self.folder / _STOP).exists() or not self.folder.exists()

    def progress(self, done: int, total: int, message: str) -> None:
        """A ``Progress``; the next sign of life tells of it. The time left is that of this message's work."""
        if message != self._phase[0]:
            self._phase = (message, time.monotonic())
        took = time.monotonic() - self._phase[1]
        eta = took / done * (total - done) if done and took > 1 else None
        self.note(done=done, total=total, message=message, eta_seconds=eta)

    def note(self, **fields: Any) -> None:
        """Fields of the status; the next sign of life tells of them."""
        self._fields = {**self._fields, **fields}

    def end(self, state: str, message: str, **fields: Any) -> None:
        """Write the last status."""
        self.__exit__()
        self._fields = {**self._fields, "state": state, "message": message, "eta_seconds": None, **fields}
        self._write()

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT):
            self._write()

    def _write(self) -> None:
        with suppress(InputError):  # a full disk, or a folder that was removed: the work itself finds out
            _replace(self.folder / _STATUS, {**self._fields, "heartbeat": time.time()})


def _replace(path: Path, value: dict[str, Any]) -> None:
    """Replace a small file, in its old place if a full disk has no room for a new one.

    The folder must exist. Raises InputError if it doesn't, or can't be written.
    """
    if not path.parent.is_dir():
        raise InputError("the folder is gone", where=path.parent)
    try:
        write_json(path, value)
    except InputError:
        text = json.dumps(value, indent=2) + "\n"
        try:
            with path.open("r+", encoding="utf-8") as file:
                file.write(text)
                file.truncate()
        except OSError as error:
            raise InputError(f"can't be written ({error.strerror})", where=path) from None
