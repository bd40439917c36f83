"""Who may train a run, and how its failures are explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from filelock import FileLock, Timeout

from tal_core.models.config import MethodConfig
from tal_core.runs.run import ACTIVE, Run
from tal_core.types import InputError
from tal_core.workspace import writing


@contextmanager
def claimed(run: Run) -> Iterator[None]:
    """Be the only process that trains ``run``. The system frees the lock of a process that died.

    Raises:
        InputError: if another process trains it.
    """
    lock = FileLock(run.folder / ".lock", timeout=0)
    run.config()  # a deleted run is noticed here
    with writing(run.folder):
        try:
            lock.acquire()
        except Timeout:
            what = f"already training (pid {run.status().get('pid')})"
            raise InputError(what, where=run.run_id, hint="Stop it first, or start another run.") from None
    try:
        yield
    finally:
        lock.release()


def check_startable(run: Run, resume: bool) -> None:
    """Raise InputError if the run has been started before and isn't to be resumed, or is complete."""
    state = run.status()["state"]
    if state == "finished":
        raise InputError("has finished already", where=run.run_id, hint="Start a new run.")
    if not resume and (run.checkpoints / "last.pt").exists():
        what = f"was trained before and is {'killed' if state in ACTIVE else state}"
        raise InputError(what, where=run.run_id, hint="Resume it, or start a new run.")


def explained(error: BaseException, config: MethodConfig, device: torch.device) -> InputError | None:
    """A failure that a person can fix, in one line; None if it is a fault of the program."""
    if isinstance(error, InputError):
        return error
    no_room = ("can't allocate memory", "not enough memory", "out of memory")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in no_room)
    ):
        hint = f"Lower batch_size (now {config.batch_size}), or free memory, then resume."
        return InputError(f"out of memory on {device.type}", hint=hint)
    if isinstance(error, OSError):
        hint = "Free some space and check the folder, then resume."
        return InputError(error.strerror or str(error), where=error.filename, hint=hint)
    return None
