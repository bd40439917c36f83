"""The run directory: everything about one training, readable while it goes on.

<home>/runs/<run_id>/
  config.json         dataset, model and every setting; this file alone repeats the run
  status.json         state, process, heartbeat, epoch, ETA; replaced atomically
  metrics.jsonl       one line per logged step, epoch or validation; only appended to
  checkpoints/        last and best: .safetensors weights, last.pt to continue from
  candidates.npz      scored segments per video before NMS
  snippet_scores.npz  class scores of every snippet
  detections.json     ActivityNet result form
  evaluation.json     as `evaluate --json` writes it
  environment.json    versions, device, commit, fingerprint of the dataset
  train.log           what the training process says
  stop                there when someone asked it to stop
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tal_core.background.processes import process_alive
from tal_core.data.dataset.entry import load_entry
from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.data.formats.blocked import read_blocked, without_blocked
from tal_core.data.formats.detections import read_detections
from tal_core.evaluation.result import Evaluation
from tal_core.models.config import MethodConfig
from tal_core.types import InputError
from tal_core.workspace import DEMO, check_name, write_json, writing

STATES = ("created", "running", "stopping", "stopped", "finished", "failed", "killed")
ACTIVE = ("running", "stopping")


@dataclass(frozen=True)
class Run:
    """One run directory. All reads raise InputError when it has been deleted or a file in it is faulty."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights."""
        return self.folder / "checkpoints"

    @property
    def shipped(self) -> bool:
        """Whether the run came with the program and can only be looked at."""
        return DEMO in self.folder.parents

    def config(self) -> dict[str, Any]:
        """``dataset``, ``model`` and the method's settings, flat."""
        config = self._read_json("config.json")
        for name in ("dataset", "model"):
            if not isinstance(config.get(name), str):
                raise InputError(
                    f"{name} is missing", where=self.folder / "config.json", hint="Start a new run."
                )
        return config

    def settings(self) -> dict[str, Any]:
        """The method's settings alone."""
        return {name: value for name, value in self.config().items() if name not in ("dataset", "model")}

    def status(self) -> dict[str, Any]:
        """What the run is doing; see ``records.Recorder`` for the keys.

        ``state`` is one of ``STATES``: ``killed`` when the file says running but its process is gone,
        ``stopping`` when a stop was asked for and not yet done.
        """
        status = self._read_json("status.json")
        if status.get("state") not in ACTIVE:
            return status
        if not process_alive(status):
            status = self._read_json("status.json")  # it may have ended properly since
            if status.get("state") in ACTIVE:
                error = (
                    f"The training process {status.get('pid')} is gone: it was killed, ran out of memory, or"
                    " the machine restarted. Resume continues from the last checkpoint."
                )
                return {**status, "state": "killed", "error": error, "eta_seconds": None}
            return status
        return {**status, "state": "stopping"} if (self.folder / "stop").exists() else status

    def metrics(self) -> pd.DataFrame:
        """The lines of ``metrics.jsonl``; of a step done twice (after a crash) the later one."""
        lines = []
        for line in self._read("metrics.jsonl", "").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue  # the last line of a killed process, cut short
        table = pd.DataFrame(lines)
        for column in ("kind", "time", "epoch", "step"):
            if column not in table:
                table[column] = pd.Series(dtype="object" if column == "kind" else "float64")
        return table.drop_duplicates(["kind", "epoch", "step"], keep="last").reset_index(drop=True)

    def evaluation(self) -> Evaluation | None:
        """The final evaluation; None as long as there is none."""
        path = self.folder / "evaluation.json"
        return Evaluation.from_json(self._read_json(path.name), where=path) if path.exists() else None

    def detections(self) -> pd.DataFrame:
        """The final detections, outside the videos that the dataset blocks by now.

        Raises:
            InputError: as long as there are none.
        """
        path = self.folder / "detections.json"
        if not path.exists():
            self.config()
            raise InputError(
                "there are no detections yet", where=self.run_id, hint="Let the training finish."
            )
        return without_blocked(read_detections(path), self._blocked())

    def _blocked(self) -> frozenset[str]:
        try:
            entry = load_entry(self.folder.parent.parent, self.config()["dataset"])
        except InputError:  # the dataset was removed; the run can still be looked at
            return frozenset()
        return read_blocked(entry.blocked) if entry.blocked else frozenset()

    def log_tail(self, lines: int = 40) -> str:
        """The end of ``train.log``."""
        return "\n".join(self._read("train.log", "").splitlines()[-lines:])

    def _read(self, name: str, missing: str | None = None) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            if not self.folder.is_dir():
                raise InputError(
                    "the run's folder is gone", where=self.run_id, hint="Choose another run."
                ) from None
            if missing is not None and isinstance(error, FileNotFoundError):
                return missing
            hint = "Delete the run's folder and start a new run."
            raise InputError(
                f"can't be read ({error.strerror})", where=self.folder / name, hint=hint
            ) from None

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self._read(name))
        except ValueError as error:
            hint = "Delete the run's folder and start a new run."
            raise InputError(f"is not valid JSON ({error})", where=self.folder / name, hint=hint) from None
        if not isinstance(content, dict):
            raise InputError("is not a JSON object", where=self.folder / name, hint="Start a new run.")
        return content


def create_run(
    home: Path, dataset: str | FeatureDataset, model: str, config: MethodConfig, run_id: str | None = None
) -> Run:
    """Make the directory of a run that hasn't started; ``dataset`` is a registered name, or one in memory.

    Raises:
        InputError: if the dataset is unknown, the id is taken or the workspace can't be written.
    """
    if isinstance(dataset, str):
        load_entry(home, dataset)
    else:
        dataset = dataset.name
    runs = home / "runs"
    if run_id is None:
        first = f"{dataset}-{model}-{datetime.now():%Y%m%d-%H%M%S}"[-80:].lstrip("._-")
        taken = {path.name for path in runs.glob("*")}
        run_id = next(name for name in _numbered(first) if name not in taken)
    folder = runs / check_name(run_id, "run")
    if folder.exists() or (DEMO / "runs" / run_id).exists():
        raise InputError(
            f"there is already a run {run_id!r}", hint="Choose another run id, or resume it with --resume."
        )
    with writing(folder):
        runs.mkdir(parents=True, exist_ok=True)
        # A run appears with its config and status in place, or not at all.
        unborn = Path(tempfile.mkdtemp(dir=runs, prefix=".new-"))
        try:
            unborn.chmod(0o755)
            (unborn / "checkpoints").mkdir()
            write_json(
                unborn / "config.json", {"dataset": dataset, "model": model, **config.model_dump(mode="json")}
            )
            created = {"state": "created", "created": time.time(), "epoch": 0, "epochs": config.epochs}
            write_json(unborn / "status.json", created)
            unborn.rename(folder)
        except BaseException:
            shutil.rmtree(unborn, ignore_errors=True)
            raise
    return Run(folder)


def _numbered(name: str):
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def open_run(home: Path, run_id: str) -> Run:
    """The run ``run_id`` of the workspace, or else the one that came with the program.

    Raises:
        InputError: if there is none.
    """
    check_name(run_id, "run")
    for folder in (home / "runs" / run_id, DEMO / "runs" / run_id):
        if (folder / "config.json").is_file():
            return Run(folder)
    known = ", ".join(run.run_id for run in list_runs(home)[:8]) or "none yet"
    raise InputError(f"there is no run {run_id!r}", hint=f"Known runs: {known}.")


def list_runs(home: Path) -> list[Run]:
    """Every run of the workspace, newest first, then those that came with the program."""
    own = sorted(_runs_in(home / "runs"), key=_created, reverse=True)
    names = {run.run_id for run in own}
    return own + [run for run in sorted(_runs_in(DEMO / "runs"), key=_created) if run.run_id not in names]


def _runs_in(folder: Path) -> list[Run]:
    return [Run(path.parent) for path in folder.glob("[!.]*/config.json")]


def _created(run: Run) -> float:
    try:
        return float(run.status().get("created") or 0)
    except (InputError, TypeError, ValueError):
        return 0.0
