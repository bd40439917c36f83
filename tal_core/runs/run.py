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
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from tal_core.background.job_folder import ACTIVE, FileOf, JobFolder, Status
from tal_core.data.dataset.entry import load_entry
from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.data.formats.blocked import read_blocked, without_blocked
from tal_core.data.formats.detections import read_detections
from tal_core.evaluation.result import Evaluation
from tal_core.models.config import MethodConfig, validated
from tal_core.types import InputError
from tal_core.workspace import DEMO, check_name

if TYPE_CHECKING:
    from tal_core.models.method import Method

__all__ = ["ACTIVE", "Run", "create_run", "list_runs", "open_run"]


class RunStatus(Status):
    """``epoch`` is the current one, from 1, of ``epochs``; ``step`` of ``steps`` counts over all epochs.

    ``phase``: preparing, training, validating or detecting; ``average_mAP``: the latest; ``seconds``: spent
    since the start of the process; ``parameters``: of the network.
    """

    phase: str = ""
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    seconds: float | None = None
    samples_per_second: float | None = None
    memory_mb: float | None = None
    device: str | None = None
    average_mAP: float | None = None
    parameters: int | None = None


class RunConfig(Protocol):
    """What a run is made of beside dataset and method."""

    @property
    def epochs(self) -> int:
        """Passes over the training data."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """The settings by name."""


@dataclass(frozen=True)
class Run(JobFolder):
    """One run directory. All reads raise InputError when it has been deleted or a file in it is faulty."""

    kind = "run"
    request_name = "config.json"
    log_name = "train.log"
    required = ("dataset", "model")
    lasting = ("created", "average_mAP", "epoch", "epochs", "step", "steps", "parameters")
    status_type = RunStatus
    when_killed = "Resume continues from the last checkpoint."

    config_file = FileOf(request_name)
    metrics_file = FileOf("metrics.jsonl")
    checkpoints = FileOf("checkpoints")
    candidates_file = FileOf("candidates.npz")
    snippet_scores_file = FileOf("snippet_scores.npz")
    detections_file = FileOf("detections.json")
    evaluation_file = FileOf("evaluation.json")
    environment_file = FileOf("environment.json")
    provenance_file = FileOf("provenance.json")
    cost_file = FileOf("cost.json")
    online_file = FileOf("online.json")
    log_file = FileOf(log_name)

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def run_id(self) -> str:
        return self.folder.name

    def weights_file(self, checkpoint: str) -> Path:
        """The weights of ``checkpoint``: ``last`` or ``best``."""
        return self.checkpoints / f"{checkpoint}.safetensors"

    @property
    def shipped(self) -> bool:
        """Whether the run came with the program and can only be looked at."""
        return DEMO in self.folder.parents

    def config(self) -> dict[str, Any]:
        """``dataset``, ``model`` and the method's settings, flat."""
        return self.request()

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in self.config().items() if name not in self.required}

    def method_config(self) -> tuple[Method, MethodConfig]:
        """The method and its validated config."""
        from tal_core.models.registry import get_method  # loads torch

        method = get_method(self.config()["model"])
        return method, validated(method.config, self.settings(), where=self.config_file)

    def metrics(self) -> pd.DataFrame:
        """The lines of ``metrics.jsonl``; of a step done twice (after a crash) the later one."""
        lines = []
        for line in self.read_text(self.metrics_file.name).splitlines():
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
        path = self.evaluation_file
        return Evaluation.from_json(self.read_json(path.name), where=path) if path.exists() else None

    def detections(self) -> pd.DataFrame:
        """The final detections, outside the videos that the dataset blocks by now.

        Raises:
            InputError: as long as there are none.
        """
        if not self.detections_file.exists():
            self.config()
            hint = "Let the training finish."
            raise InputError("there are no detections yet", where=self.run_id, hint=hint)
        return without_blocked(read_detections(self.detections_file), self._blocked())

    def _blocked(self) -> frozenset[str]:
        try:
            entry = load_entry(self.folder.parent.parent, self.config()["dataset"])
        except InputError:  # the dataset was removed; the run can still be looked at
            return frozenset()
        return read_blocked(entry.blocked) if entry.blocked else frozenset()


def create_run(
    home: Path, dataset: str | FeatureDataset, model: str, config: RunConfig, run_id: str | None = None
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
    if run_id is not None and is_taken(home, check_name(run_id, "run")):
        hint = "Choose another run id, or resume it with --resume."
        raise InputError(f"there is already a run {run_id!r}", hint=hint)
    return Run.create(
        runs,
        {"dataset": dataset, "model": model, **config.model_dump(mode="json")},
        {"state": "created", "created": time.time(), "epoch": 0, "epochs": config.epochs},
        name=run_id,
        first=f"{dataset}-{model}-{datetime.now():%Y%m%d-%H%M%S}"[-76:].lstrip("._-"),
        fill=lambda folder: Run(folder).checkpoints.mkdir(),
    )


def is_taken(home: Path, run_id: str) -> bool:
    """Whether there is a run of that id in the workspace or among those that came with the program."""
    return any((folder / "runs" / run_id).exists() for folder in (home, DEMO))


def open_run(home: Path, run_id: str) -> Run:
    """The run ``run_id`` of the workspace, or else the one that came with the program.

    Raises:
        InputError: if there is none.
    """
    check_name(run_id, "run")
    for folder in (home / "runs" / run_id, DEMO / "runs" / run_id):
        if Run(folder).config_file.is_file():
            return Run(folder)
    names = ", ".join(run.run_id for run in list_runs(home)[:8]) or "none yet"
    raise InputError(f"there is no run {run_id!r}", hint=f"Known runs: {names}.")


def list_runs(home: Path) -> list[Run]:
    """Every run of the workspace, newest first, then those that came with the program."""
    own = Run.list_in(home / "runs")
    names = {run.run_id for run in own}
    return own + [run for run in Run.list_in(DEMO / "runs")[::-1] if run.run_id not in names]
