"""What the process of a job writes about itself: a status with heartbeat, until its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

from tal_core.background.job_folder import JobFolder
from tal_core.background.processes import StopRequested, stop_signals, this_process
from tal_core.types import InputError

J = TypeVar("J", bound=JobFolder)


class StatusWriter(Generic[J]):
    """Keeps the status of this process up to date. Used as a context.

    A thread writes it every second, so that the heartbeat goes on through long steps. What goes wrong there
    is raised by the next ``check``.
    """

    seconds_between = 1.0

    def __init__(self, job: J, **fields: Any):
        self.job = job
        self.started = time.time()
        self.status = {"state": "running", "message": "Starting", "started": self.started, **fields}
        self.failure: InputError | None = None
        self._phase = ("", time.monotonic())
        self._stop = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        with suppress(InputError):
            self.status = {**self.job.lasting_fields(self.job.status()), **self.status}
        self.status |= this_process()
        self.write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def update(self, **fields: Any) -> None:
        """Change the status; the next heartbeat writes it."""
        with self._lock:
            self.status.update(fields)

    def progress(self, done: int, total: int, message: str) -> None:
        """A ``Progress``; the time left is that of this message's work. Raises as ``check``."""
        self.check()
        if message != self._phase[0]:
            self._phase = (message, time.monotonic())
        took = time.monotonic() - self._phase[1]
        eta = took / done * (total - done) if done and took > 1 else None
        self.update(done=done, total=total, message=message, eta_seconds=eta)

    def finish(self, state: str, **fields: Any) -> None:
        """Stop the heartbeat and write the last status."""
        self.__exit__()
        self.update(state=state, eta_seconds=None, **fields)
        self.write()

    def request_stop(self) -> None:
        """Ask to stop, as a signal does."""
        self._stop.set()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal or a ``stop`` file asks to stop."""
        return self._stop.is_set() or self.job.stop_file.exists()

    def check(self, *_: object) -> None:
        """Raise what the heartbeat met, or StopRequested. Fits where progress is reported."""
        if self.failure is not None:
            raise self.failure
        if self.stop_requested:
            raise StopRequested

    def measured(self) -> dict[str, Any]:
        """Fields that are new in every status."""
        return {}

    def beat(self) -> None:
        """What is done every ``seconds_between``."""
        self.write()

    def failed(self) -> None:
        """What is done at once when the folder can't be written any more."""

    def write(self) -> None:
        """Write the status now. Raises InputError as ``JobFolder.write_status``."""
        with self._lock:
            self.status.update(self.measured(), heartbeat=time.time())
            self.job.write_status(self.status)

    def _beat(self) -> None:
        while not self._closed.wait(self.seconds_between):
            try:
                self.beat()
            except InputError as error:
                self.failure = error
                self.failed()
                return


def run_job(writer: StatusWriter[Any], work: Callable[[], dict[str, Any]]) -> int:
    """Do the work of a job's process and write how it ended; returns the exit code.

    ``work`` returns fields of the last status. StopRequested ends it as ``stopped``, an InputError as
    ``failed`` with code 2; other errors are written, too, before they are raised.
    """
    with writer, stop_signals(writer.request_stop):
        try:
            fields = {"state": "finished", **work()}
        except StopRequested:
            fields = {"state": "stopped", "message": "Stopped."}
        except BaseException as error:
            told = isinstance(error, InputError)
            with suppress(InputError):  # a full disk, or a folder that was removed
                reason = str(error) if told else f"{type(error).__name__}: {error}"
                writer.finish("failed", message="Failed", error=reason)
            if not told:
                raise
            print(error, file=sys.stderr)
            return 2
        with suppress(InputError):
            writer.finish(**fields)
    return 0
