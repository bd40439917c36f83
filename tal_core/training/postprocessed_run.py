"""A run derived from another: the same candidates, post-processed with other settings, evaluated anew.

The other run stays as it is. The new one is a run like any: its config has the new settings, and
``provenance.json`` says where it comes from:

    {"source": run, "made_by": "post-processing lab", "date", "note",
     "candidates": {"sha256", "videos", "segments"},        as the source stored them
     "changed": {setting: [before, after]},
     "class_scores": null or {"file", "sha256", "mode", "top_k", "power"},
     "average_mAP": {"source", "derived"}}
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.class_scores import ClassScores
from tal_core.data.formats.detections import write_detections
from tal_core.evaluation.result import Evaluation
from tal_core.models.config import MethodConfig
from tal_core.models.settings import build_config
from tal_core.postprocessing.candidates import post_process_predictions, save_candidates, suppression
from tal_core.postprocessing.fusion import Fusion
from tal_core.postprocessing.lab import Stored
from tal_core.postprocessing.nms import Suppression
from tal_core.runs.evaluate_run import evaluate_run
from tal_core.runs.run import Run, create_run, is_taken
from tal_core.types import InputError
from tal_core.workspace import numbered, write_text, writing

SETTINGS = tuple(field.name for field in fields(Suppression))
"""What of a config is post-processing."""

_OF_THE_TRAINING = (
    "epoch",
    "epochs",
    "step",
    "steps",
    "seconds",
    "samples_per_second",
    "memory_mb",
    "device",
    "parameters",
)


def changed_config(run: Run, settings: Mapping[str, Any]) -> MethodConfig:
    """The run's config with other post-processing ``settings`` (text or values).

    Raises:
        InputError: for anything that is no setting of post-processing, or a value out of range.
    """
    config = run.config()
    for name in settings:
        if name not in SETTINGS:
            hint = f"Settings are {', '.join(SETTINGS)}."
            raise InputError(f"{name} is no setting of post-processing", hint=hint)
    return build_config(config["model"], {**run.settings(), **settings})


def free_name(home: Path, run_id: str) -> str:
    """``run_id-lab1``, or the first such name that no run has."""
    return next(name for name in numbered(run_id, "-lab", 1) if not is_taken(home, name))


def derive_run(
    home: Path,
    source: Run,
    data: Dataset,
    stored: Stored,
    config: MethodConfig,
    *,
    fusion: Fusion | None = None,
    class_scores: ClassScores | None = None,
    run_id: str | None = None,
    note: str = "",
) -> Run:
    """Write a run with the detections that ``config`` makes of the ``source``'s candidates.

    ``stored``: the candidates as they are; with ``fusion`` the ``class_scores`` enter them first, and the new
    run keeps the outcome as its candidates. ``note``: a line for the provenance. Weights are shared with the
    source, so that deleting either run leaves the other whole.

    Raises:
        InputError: if the name is taken or the workspace can't be written. There is no new run then.
    """
    fused = stored.fused(class_scores, fusion) if fusion and class_scores else stored
    detections = post_process_predictions(fused.candidates, fused.labels, suppression(config))
    evaluation = evaluate_run(data, detections)
    provenance = _provenance(source, stored, config, fusion, class_scores)
    provenance |= {"note": note, "average_mAP": _averages(source, evaluation)}
    model = source.config()["model"]
    run = create_run(home, data.name, model, config, run_id or free_name(home, source.run_id))
    with run.removed_on_failure():
        _take_over(source, run, fused is stored)
        if fused is not stored:
            save_candidates(run.candidates_file, fused.candidates, fused.labels)
        write_detections(detections, run.detections_file)
        if evaluation is not None:
            run.write_json(run.evaluation_file, evaluation.to_json())
        run.write_json(run.provenance_file, provenance)
        message = f"Kept from the post-processing lab: detections of {source.run_id} with other settings."
        write_text(run.log_file, f"{datetime.now():%Y-%m-%d %H:%M:%S} {message}\n")
        run.write_status(_status(source, message, evaluation))
    return run


def provenance_of(run: Run) -> dict[str, Any] | None:
    """The ``provenance.json`` of a derived run, None for others. Raises InputError if it is faulty."""
    return run.read_json(run.provenance_file.name) if run.provenance_file.exists() else None


def _provenance(
    source: Run,
    stored: Stored,
    config: MethodConfig,
    fusion: Fusion | None,
    class_scores: ClassScores | None,
) -> dict[str, Any]:
    before = changed_config(source, {})
    after = config.model_dump(mode="json")
    scores = None
    if fusion and class_scores:
        scores = {"file": class_scores.path.name, "sha256": _digest(class_scores), **asdict(fusion)}
    return {
        "source": source.run_id,
        "made_by": "post-processing lab",
        "date": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
        "candidates": {
            "sha256": hashlib.sha256(source.candidates_file.read_bytes()).hexdigest(),
            "videos": len(stored.candidates),
            "segments": sum(map(len, stored.candidates.values())),
        },
        "changed": {
            name: [old, after[name]]
            for name, old in before.model_dump(mode="json").items()
            if after[name] != old
        },
        "class_scores": scores,
    }


def _averages(source: Run, evaluation: Evaluation | None) -> dict[str, float | None]:
    try:
        before = source.evaluation()
    except InputError:
        before = None
    return {
        "source": before.average_mAP if before else None,
        "derived": evaluation.average_mAP if evaluation else None,
    }


def _status(source: Run, message: str, evaluation: Evaluation | None) -> dict[str, Any]:
    """Finished; what the training took is that of the source."""
    before = source.status()
    status = {name: before[name] for name in _OF_THE_TRAINING if name in before}
    status |= {"state": "finished", "created": time.time(), "phase": "", "message": message}
    return status | ({"average_mAP": evaluation.average_mAP} if evaluation else {})


def _take_over(source: Run, run: Run, candidates: bool) -> None:
    """Link files, which are only ever replaced as a whole, where the disk can, else copy them."""
    files = [source.weights_file("last"), source.weights_file("best")]
    files += [source.snippet_scores_file, source.environment_file]
    files += [source.candidates_file] if candidates else []
    for old in filter(Path.exists, files):
        new = run.folder / old.relative_to(source.folder)
        with writing(new):
            try:
                os.link(old, new)
            except OSError:
                shutil.copyfile(old, new)


def _digest(scores: ClassScores) -> str:
    """SHA-256 over videos, classes and scores, whatever the form of the file."""
    content = hashlib.sha256("\n".join(scores.labels).encode())
    for video in sorted(scores.by_video):
        content.update(video.encode() + np.asarray(scores.by_video[video], "<f4").tobytes())
    return content.hexdigest()
