"""Whether the background process that a status file names still lives."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import psutil

# On another machine sharing the workspace only the heartbeat tells whether a process lives.
SILENT_SECONDS = 60


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
