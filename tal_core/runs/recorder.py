"""What a training process writes about itself: status with heartbeat, metrics, log, stop requests."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from tal_core.background.processes import this_process
from tal_core.runs.run import Run
from tal_core.types import InputError
from tal_core.workspace import write_bytes, writing

HEARTBEAT_SECONDS = 1.0
# What a resumed run goes on with, so that its progress never seems to start over.
LASTING = ("created", "average_mAP", "epoch", "epochs", "step", "steps")


class StopRequested(Exception):
    """Someone asked the training to stop; what is done so far has been kept."""


class Recorder:
    """Keeps a run's files up to date while it trains. Used as a context.

    ``status.json``: ``state``, ``phase`` (preparing, training, validating, detecting), ``message``,
    ``epoch`` (the current one, from 1) of ``epochs``, ``step`` of ``steps`` (over all epochs),
    ``eta_seconds``, ``samples_per_second``, ``memory_mb``, ``device``, ``average_mAP`` (the latest),
    ``pid``, ``process_started``, ``host``, ``created``, ``started``, ``heartbeat``, ``seconds`` (spent
    since the start of this process) and, when failed, ``error``.

    A thread writes it every second, so that the heartbeat goes on through long steps. What goes wrong
    there is raised by the next ``check``.
    """

    def __init__(self, run: Run):
        self.run, self.device = run, torch.device("cpu")
        self.status: dict[str, Any] = {}
        self.started = time.time()
        self._stop = threading.Event()
        self._closed = threading.Event()
        self._failure: InputError | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Recorder:
        kept = {key: value for key, value in self.run.status().items() if key in LASTING}
        self.status = {**kept, "state": "running", "started": self.started, **this_process()}
        metrics = self.run.folder / "metrics.jsonl"
        if metrics.exists() and not metrics.read_bytes().endswith(b"\n"):
            self._append(metrics, "\n")  # a killed process left half a line
        self.update(phase="preparing", message="Opening the dataset")
        self._write_status()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def update(self, **fields: Any) -> None:
        """Change the status; the next heartbeat writes it."""
        with self._lock:
            self.status.update(fields)

    def finish(self, state: str, **fields: Any) -> None:
        """Stop the heartbeat and write the last status."""
        self._closed.set()
        self._thread.join()
        self.update(state=state, eta_seconds=None, **fields)
        self._write_status()

    def request_stop(self) -> None:
        """Ask to stop, as a signal does."""
        self._stop.set()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal or a ``stop`` file asks to stop."""
        return self._stop.is_set() or (self.run.folder / "stop").exists()

    def check(self, *_: Any) -> None:
        """Raise what the heartbeat met, or StopRequested. Fits where progress is reported."""
        if self._failure is not None:
            raise self._failure
        if self.stop_requested:
            raise StopRequested

    def metric(self, kind: str, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **values})
        self._append(self.run.folder / "metrics.jsonl", line + "\n")

    def log(self, text: str) -> None:
        """Append a line with the time to ``train.log``."""
        self._append(self.run.folder / "train.log", f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def memory_mb(self) -> float:
        """Peak memory on a CUDA device, else this process's resident memory."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        return round(psutil.Process().memory_info().rss / 2**20, 1)

    def _append(self, path: Path, text: str) -> None:
        self._check_folder()
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(text)

    def _check_folder(self) -> None:
        if not self.run.folder.is_dir():
            hint = "Nothing of it is left; start a new run."
            raise InputError(
                "the run's folder was deleted while it trained", where=self.run.folder, hint=hint
            )

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            try:
                self._write_status()
            except InputError as error:
                self._failure = error
                return

    def _write_status(self) -> None:
        self._check_folder()
        path = self.run.folder / "status.json"
        with self._lock:
            now = time.time()
            self.status.update(
                heartbeat=now, seconds=round(now - self.started, 1), memory_mb=self.memory_mb()
            )
            content = (json.dumps(self.status, indent=2) + "\n").encode()
        try:
            write_bytes(path, content)
        except InputError:
            # On a full disk a new file doesn't fit, but the old one's place does.
            with suppress(OSError), path.open("r+b") as file:
                file.write(content)
                file.truncate()
                return
            raise
