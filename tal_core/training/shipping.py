"""Copies a finished run to where the program ships it from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tal_core.runs.run import Run
from tal_core.types import InputError
from tal_core.workspace import write_json, writing

_FILES = (
    "config.json",
    "metrics.jsonl",
    "candidates.npz",
    "snippet_scores.npz",
    "detections.json",
    "evaluation.json",
    "train.log",
    "checkpoints/last.safetensors",
)
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
        for name in _FILES:
            shutil.copyfile(run.folder / name, target / name)
    for name in ("status.json", "environment.json"):
        content = json.loads((run.folder / name).read_text(encoding="utf-8"))
        write_json(
            target / name, {key: value for key, value in content.items() if key not in _OF_ONE_MACHINE}
        )
    return Run(target)
