"""Background processes: starting one that outlives the app, whether it lives, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

# On another machine sharing the workspace only the heartbeat tells whether a process lives.
SILENT_SECONDS = 60
PROJECT = Path(__file__).resolve().parents[2]
# Torch's threads spin while they wait for each other. Alone that is right; beside a second training or a busy
# app they take the very cores they wait for (two trainings on two cores: 2.6 times slower).
IDLE_THREADS = {"GOMP_SPINCOUNT": "1000"}


class StopRequested(Exception):
    """Someone asked the work to stop; what is done so far has been kept."""


def spawn(
    module: str, folder: Path, home: Path, log: str, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Run ``python -m module folder`` on the workspace ``home`` in a session of its own.

    What it prints goes to the end of the file ``log`` in the folder.
    """
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**IDLE_THREADS, **os.environ, "TAL_HOME": str(home), "PYTHONPATH": os.pathsep.join(paths)}
    with (folder / log).open("ab") as output:
        process = subprocess.Popen(  # it outlives this function
            [sys.executable, "-m", module, str(folder)],
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=PROJECT,
            env=environment,
            start_new_session=True,
        )
    # Someone has to take note of its end, or a dead process stays in the system's table.
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def process_alive(status: dict[str, Any]) -> bool:
    """Whether the process that a status names still runs (and no later one of the same number)."""
    if status.get("host") != socket.gethostname():
        return time.time() - (status.get("heartbeat") or 0) < SILENT_SECONDS
    try:
        process = psutil.Process(int(status["pid"]))
        same = abs(process.create_time() - status["process_started"]) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def this_process(pid: int | None = None) -> dict[str, Any]:
    """How a status names a process; this one by default."""
    pid = os.getpid() if pid is None else pid
    return {
        "pid": pid,
        "process_started": psutil.Process(pid).create_time(),
        "host": socket.gethostname(),
    }


@contextmanager
def stop_signals(ask: Callable[[], object]) -> Iterator[None]:
    """Call ``ask`` on SIGTERM, SIGINT or a closed terminal; a second such signal ends the process as usual.

    Outside the main thread, which alone may handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, hangup)}
    if before[hangup] == signal.SIG_IGN:
        del before[hangup]  # under nohup a closed terminal is no reason to stop

    def handle(number: int, frame: object) -> None:
        del frame
        signal.signal(number, before[number])
        ask()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
