"""Detections in one file, made in the background and kept in the workspace for a while.

    job = start(home, run, inspect(path))
    job.status(), job.table(), job.scores()
    burn(home, job, shown, colors)

<home>/detect/<id>/
  request.json         the run, the file and what it holds
  source.*             the file, if it was uploaded
  detections.json      ActivityNet result form
  snippet_scores.npz   where the method has some
  burn_in/             video.mp4 with the detections drawn in, once someone asked for it
  and in each folder the files of ``tal_core.background.job_folder``

    python -m tal_core.inference.detection_job FOLDER

is the process that works there.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from tal_core.background.job_folder import ACTIVE, FileOf, JobFolder, Status
from tal_core.background.status_writer import StatusWriter, run_job
from tal_core.data.features.store import read_feature_file
from tal_core.data.formats.detections import read_detections, write_detections
from tal_core.inference.detection_input import INCOMING, DetectionInput, features_of_video, safe_name
from tal_core.postprocessing.candidates import load_snippet_scores, save_snippet_scores
from tal_core.types import InputError, TimeGrid
from tal_core.video.drawing.burn_in import burn_in
from tal_core.video.frames import Damage

__all__ = ["ACTIVE", "BurnIn", "DetectionJob", "list_detections", "open_detection", "start"]

KEPT = 20
"""Detections that stay in the workspace; older ones go when a new one starts."""
_MODULE = "tal_core.inference.detection_job"
_BURN_IN = "burn_in"


class DetectionStatus(Status):
    """At the end also ``labels``, ``duration`` in s and ``damage``."""

    labels: list[str] = Field(default_factory=list)
    duration: float = 0.0
    damage: str = ""


@dataclass(frozen=True)
class DetectionJob(JobFolder):
    """The detections of one run in one file.

    Its request: ``run``, ``source`` (path), ``name`` (video id), ``kind`` (video or features), ``duration``
    of a video in seconds, ``layout`` and ``created``.
    """

    kind = "detection"
    required = ("run", "source", "name", "kind")
    status_type = DetectionStatus
    when_killed = "Detect again."

    detections_file = FileOf("detections.json")
    snippet_scores_file = FileOf("snippet_scores.npz")

    def request(self) -> dict[str, Any]:
        request = super().request()
        return {**request, "source": str(self.folder / request["source"])}

    def table(self) -> pd.DataFrame:
        return read_detections(self.detections_file)

    def scores(self) -> tuple[np.ndarray, TimeGrid, list[str]] | None:
        """Class scores per snippet ``(T, K)``, their grid and the classes; None if the method has none."""
        path = self.snippet_scores_file
        return load_snippet_scores(path, self.request()["name"]) if path.exists() else None

    @property
    def burn_in(self) -> BurnIn:
        """The job that draws the detections into the video; its folder may not be there."""
        return BurnIn(self.folder / _BURN_IN)


@dataclass(frozen=True)
class BurnIn(JobFolder):
    """The detections that were shown, drawn into the video."""

    kind = "burnt-in video"
    required = ("source",)
    when_killed = "Burn in again."

    shown_file = FileOf("shown.json")
    video_file = FileOf("video.mp4")


def start(home: Path, run: Any, source: DetectionInput, *, layout: str = "auto") -> DetectionJob:
    """Detect in a file by a run, in the background. A file that was taken in moves into the new folder.

    Raises:
        InputError: if the workspace can't be written.
    """
    clean_up(home)
    uploaded = home / INCOMING in source.path.parents
    own = f"source{source.path.suffix.lower()}"
    created = {"created": time.time()}
    request = {
        "run": str(Path(run)),
        "source": own if uploaded else str(source.path),
        "name": source.name,
        "kind": "video" if source.video else "features",
        "duration": source.video.duration if source.video else 0.0,
        "layout": layout,
    }
    ascii_name = safe_name(source.name).encode("ascii", "ignore").decode().strip("._-")[:40] or "file"
    job = DetectionJob.create(
        home / "detect",
        {**request, **created},
        {"state": "created", **created},
        first=f"{datetime.now():%Y%m%d-%H%M%S}-{ascii_name}",
        fill=lambda folder: source.path.rename(folder / own) if uploaded else None,
    )
    if uploaded:
        with suppress(OSError):
            source.path.parent.rmdir()
    job.launch(home, _MODULE)
    return job


def burn(home: Path, detection: DetectionJob, shown: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Draw the ``shown`` detections into the video, in the background; an earlier such video goes.

    Raises:
        InputError: if one is being made already, or the workspace can't be written.
    """
    job = detection.burn_in
    if job.running:
        raise InputError("is being drawn already", where="the video", hint="Wait for it, or stop it.")
    shutil.rmtree(job.folder, ignore_errors=True)
    BurnIn.create(
        detection.folder,
        {"source": detection.request()["source"], "colors": dict(colors)},
        {"state": "created", "created": time.time()},
        name=_BURN_IN,
        fill=lambda folder: write_detections(shown, BurnIn(folder).shown_file),
    )
    job.launch(home, _MODULE)


def open_detection(home: Path, detect_id: str) -> DetectionJob:
    """The detection of this id. Raises InputError if there is none; only the newest ``KEPT`` stay."""
    return DetectionJob.open_in(home / "detect", detect_id)


def list_detections(home: Path) -> list[DetectionJob]:
    """All of the workspace, newest first."""
    return DetectionJob.list_in(home / "detect")


def remove(detection: DetectionJob) -> None:
    """Delete a detection, its uploaded file included; a process that works there stops."""
    for job in (detection.burn_in, detection):
        with suppress(InputError):
            job.request_stop()
    shutil.rmtree(detection.folder, ignore_errors=True)


def clean_up(home: Path, keep: int = KEPT - 1) -> None:
    """Remove all but the newest ``keep`` detections; those at work stay."""
    for old in list_detections(home)[keep:]:
        if not old.running:
            remove(old)


# --- the process --------------------------------------------------------------------------------------


def detect(detection: DetectionJob, writer: StatusWriter[Any]) -> dict[str, Any]:
    """Do the work of a detection; returns fields of the last status. Raises StopRequested."""
    from tal_core.inference.predict import load_model, predict_features

    request = detection.request()
    writer.progress(0, 0, "loading the run")
    model = load_model(Path(request["run"]))
    damage = Damage()
    source = Path(request["source"])
    if request["kind"] == "video":
        features, grid = features_of_video(source, model.info, writer.progress, damage)
    else:
        features = read_feature_file(source, request["layout"], model.info.num_features)
        grid = model.info.grid
    writer.progress(0, 0, "detecting")
    table, scores = predict_features(model, features, grid, video_id=request["name"])
    if scores is not None:
        by_video = {request["name"]: (scores, grid)}
        save_snippet_scores(detection.snippet_scores_file, by_video, model.info.labels)
    seconds = request["duration"] or grid.seconds(len(features) - 0.5)
    write_detections(table, detection.detections_file)
    fields = {"labels": model.info.labels, "duration": float(seconds), "damage": str(damage)}
    return {"message": f"{len(table)} detections", **fields}


def draw(job: BurnIn, writer: StatusWriter[Any]) -> dict[str, Any]:
    """Burn detections in; as ``detect``."""
    request = job.request()
    notes = burn_in(
        Path(request["source"]),
        read_detections(job.shown_file),
        job.video_file,
        request["colors"],
        progress=writer.progress,
    )
    return {"message": " ".join(["The video is ready.", *notes])}


def main(folder: str) -> int:
    """The background process."""
    path = Path(folder)
    if path.name == _BURN_IN:
        drawing = BurnIn(path)
        writer: StatusWriter[Any] = StatusWriter(drawing)
        return run_job(writer, lambda: draw(drawing, writer))
    detection = DetectionJob(path)
    writer = StatusWriter(detection)
    return run_job(writer, lambda: detect(detection, writer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
