"""Trains a run in a process of its own, which outlives the browser and the app.

    python -m tal_core.training.launch RUN_FOLDER

is that process: it starts the run, or continues it from its last checkpoint. What it prints goes to the
run's ``train.log``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tal_core.runs.run import Run
from tal_core.types import InputError


def start(home: Path, run: Run) -> int:
    """Train ``run`` in the background, from its start or its last checkpoint; returns the process id.

    Raises:
        InputError: if it is running already, has finished, or came with the program.
    """
    if run.shipped:
        raise InputError("this run came with the program", where=run.run_id, hint="Start a new run instead.")
    run.config()
    if run.status()["state"] == "finished":
        raise InputError("has finished already", where=run.run_id, hint="Start a new run.")
    return run.launch(home, "tal_core.training.launch", phase="preparing").pid


def main(folder: str) -> int:
    """The background process."""
    from tal_core.training.loop import train  # loads torch

    try:
        train(Path(os.environ["TAL_HOME"]), Run(Path(folder)), resume=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
