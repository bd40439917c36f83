"""``python -m tal_core``, or ``tal`` where the package is installed."""

import os
import sys

from tal_core.background.processes import IDLE_THREADS


def start() -> int:
    """Run one command; returns its exit code."""
    for name, value in IDLE_THREADS.items():  # before anything loads torch
        os.environ.setdefault(name, value)
    from tal_core.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
