"""Copies a finished run to where the program ships it from."""

from __future__ import annotations

import shutil
from pathlib import Path

from tal_core.runs.run import Run
from tal_core.types import InputError
from tal_core.workspace import write_json, writing

# Which machine it was says nothing to others.
_OF_ONE_MACHINE = {"pid", "process_started", "host", "platform", "commit"}


def ship_run(run: Run, folder: Path) -> Run:
    """Copy what a reader of a finished ``run`` needs into ``folder``, without traces of one machine.

    Raises:
        InputError: if the run hasn't finished or the folder can't be written.
    """
    if run.status()["state"] != "finished":
        raise InputError("the run hasn't finished", where=run.run_id, hint="Let it finish, then ship it.")
    target = folder / run.run_id
    with writing(target):
        shutil.rmtree(target, ignore_errors=True)
        (target / "checkpoints").mkdir(parents=True)
        files = [
            run.config_file,
            run.metrics_file,
            run.candidates_file,
            run.snippet_scores_file,
            run.log_file,
        ]
        files += [run.detections_file, run.evaluation_file, run.weights_file("last")]
        for path in files:
            shutil.copyfile(path, target / path.relative_to(run.folder))
    for path in (run.status_file, run.environment_file):
        content = run.read_json(path.name)
        kept = {key: value for key, value in content.items() if key not in _OF_ONE_MACHINE}
        write_json(target / path.name, kept)
    return Run(target)
