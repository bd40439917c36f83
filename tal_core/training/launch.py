"""Trains a run in a process of its own, which outlives the browser and the app.

    python -m tal_core.training.launch RUN_FOLDER

is that process: it starts the run, or continues it from its last checkpoint. What it prints goes to the
run's ``train.log``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from filelock import FileLock

from tal_core.background.processes import spawn, this_process
from tal_core.runs.run import ACTIVE, Run
from tal_core.types import InputError
from tal_core.workspace import write_json, writing


def start(home: Path, run: Run) -> int:
    """Train ``run`` in the background, from its start or its last checkpoint; returns the process id.

    Raises:
        InputError: if it is training already, has finished, or came with the program.
    """
    if run.shipped:
        raise InputError("this run came with the program", where=run.run_id, hint="Start a new run instead.")
    run.config()
    with writing(run.folder), FileLock(run.folder / ".launch.lock"):
        status = run.status()
        if status["state"] in ACTIVE:
            what = f"already training (pid {status.get('pid')})"
            raise InputError(what, where=run.run_id, hint="Stop it first, or start another run.")
        if status["state"] == "finished":
            raise InputError("has finished already", where=run.run_id, hint="Start a new run.")
        (run.folder / "stop").unlink(missing_ok=True)
        process = spawn("tal_core.training.launch", run.folder, home, "train.log")
        # Until torch is loaded the process can't speak for itself.
        starting = {"state": "running", "phase": "preparing", "message": "Starting", "heartbeat": time.time()}
        kept = {key: status[key] for key in ("created", "epoch", "epochs", "step", "steps") if key in status}
        write_json(run.folder / "status.json", {**kept, **starting, **this_process(process.pid)})
    return process.pid


def resume(home: Path, run: Run) -> int:
    """Continue a stopped, failed or killed run in the background. As ``start``."""
    return start(home, run)


def request_stop(run: Run) -> None:
    """Ask a running training to checkpoint and stop; returns at once.

    Raises:
        InputError: if the run isn't training.
    """
    state = run.status()["state"]
    if state not in ACTIVE:
        raise InputError(
            f"isn't training (it is {state})", where=run.run_id, hint="There is nothing to stop."
        )
    with writing(run.folder):
        (run.folder / "stop").touch()


def main(folder: str) -> int:
    """The background process."""
    from tal_core.training.loop import train  # pylint: disable=import-outside-toplevel  # loads torch

    try:
        train(Path(os.environ["TAL_HOME"]), Run(Path(folder)), resume=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
