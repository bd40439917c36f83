"""Detections in one file, made in the background and kept in the workspace for a while.

    detection = start(home, run, inspect(path))
    detection.status(), detection.table(), detection.scores()
    burn(home, detection, shown, colors)

<home>/detect/<id>/
  request.json         the run, the file and what it holds
  source.*             the file, if it was uploaded
  detections.json      ActivityNet result form
  snippet_scores.npz   where the method has some
  burn_in/             video.mp4 with the detections drawn in, once someone asked for it
  and in each folder the files of ``tal_core.background.job``

    python -m tal_core.inference.detection_job FOLDER

is the process that works there.
"""

from __future__ import annotations

import json
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

from tal_core.background import job
from tal_core.data.features.store import read_feature_file
from tal_core.data.formats.detections import read_detections, write_detections
from tal_core.inference.detection_input import INCOMING, Found, features_of_video, safe_name
from tal_core.postprocessing.candidates import load_snippet_scores, save_snippet_scores
from tal_core.types import InputError, TimeGrid
from tal_core.video.drawing.burn_in import Stopped, burn_in
from tal_core.video.frames import Damage
from tal_core.workspace import check_name, write_json, writing

KEPT = 20
"""Detections that stay in the workspace; older ones go when a new one starts."""
_MODULE = "tal_core.inference.detection_job"
_BURN_IN, _BURNT = "burn_in", "video.mp4"


@dataclass(frozen=True)
class Detection:
    """The detections of one run in one file."""

    folder: Path

    @property
    def detect_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def request(self) -> dict[str, Any]:
        """``run``, ``source`` (path), ``name`` (video id), ``kind`` (video or features), ``duration`` of a
        video in seconds, ``layout`` and ``created``. Raises InputError if it is gone."""
        return _read_json(self.folder / "request.json")

    def status(self) -> dict[str, Any]:
        """As ``background.read_status``; at the end also ``labels``, ``duration`` in s and ``damage``."""
        return job.read_status(self.folder)

    def table(self) -> pd.DataFrame:
        """The detections, once finished."""
        return read_detections(self.folder / "detections.json")

    def scores(self) -> tuple[np.ndarray, TimeGrid, list[str]] | None:
        """Class scores per snippet ``(T, K)``, their grid and the classes; None if the method has none."""
        path = self.folder / "snippet_scores.npz"
        return load_snippet_scores(path, self.request()["name"]) if path.exists() else None

    @property
    def burning(self) -> Path:
        """The folder of the video with the detections drawn in; it may not be there."""
        return self.folder / _BURN_IN

    @property
    def burnt(self) -> Path:
        """That video; it may not be there."""
        return self.burning / _BURNT


def start(home: Path, run: Any, found: Found, *, layout: str = "auto") -> Detection:
    """Detect in a file by a run, in the background. A file that was taken in moves into the new folder.

    Raises:
        InputError: if the workspace can't be written.
    """
    root = home / "detect"
    clean_up(home)
    with writing(root):
        folder = _new_folder(root, found.name)
        source = found.path
        if home / INCOMING in source.parents:
            source = source.rename(folder / f"source{source.suffix.lower()}")
            found.path.parent.rmdir()
    request = {
        "run": str(Path(run)),
        "source": str(source),
        "name": found.name,
        "kind": "video" if found.video else "features",
        "duration": found.video.duration if found.video else 0.0,
        "layout": layout,
        "created": time.time(),
    }
    write_json(folder / "request.json", request)
    job.launch(_MODULE, folder, home)
    return Detection(folder)


def burn(home: Path, detection: Detection, shown: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Draw the ``shown`` detections into the video, in the background; an earlier such video goes.

    Raises:
        InputError: if one is being made already, or the workspace can't be written.
    """
    folder = detection.burning
    if folder.exists():
        with suppress(InputError):
            if job.read_status(folder)["state"] in job.ACTIVE:
                raise InputError("is being drawn already", where="the video", hint="Wait for it, or stop it.")
        shutil.rmtree(folder, ignore_errors=True)
    with writing(folder):
        folder.mkdir(parents=True)
    write_detections(shown, folder / "shown.json")
    write_json(folder / "request.json", {"source": detection.request()["source"], "colors": dict(colors)})
    job.launch(_MODULE, folder, home)


def open_detection(home: Path, detect_id: str) -> Detection:
    """The detection of this id. Raises InputError if there is none (any more)."""
    folder = home / "detect" / check_name(detect_id, "detection")
    if not (folder / "request.json").is_file():
        hint = f"Only the newest {KEPT} are kept; detect again."
        raise InputError(f"there is no detection {detect_id!r}", hint=hint)
    return Detection(folder)


def list_detections(home: Path) -> list[Detection]:
    """All of the workspace, newest first."""
    folders = [path.parent for path in (home / "detect").glob("[!.]*/request.json")]
    return [Detection(folder) for folder in sorted(folders, key=lambda one: one.name, reverse=True)]


def remove(detection: Detection) -> None:
    """Delete a detection, its uploaded file included; a process that works there stops."""
    for folder in (detection.burning, detection.folder):
        if folder.is_dir():
            with suppress(InputError):
                job.request_stop(folder)
    shutil.rmtree(detection.folder, ignore_errors=True)


def clean_up(home: Path, keep: int = KEPT - 1) -> None:
    """Remove all but the newest ``keep`` detections; those at work stay."""
    for old in list_detections(home)[keep:]:
        try:
            busy = old.status()["state"] in job.ACTIVE
        except InputError:
            busy = False
        if not busy:
            remove(old)


def _new_folder(root: Path, name: str) -> Path:
    ascii_name = safe_name(name).encode("ascii", "ignore").decode().strip("._-")[:40] or "file"
    first = f"{datetime.now():%Y%m%d-%H%M%S}-{ascii_name}"
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = root / (first if number == 1 else f"{first}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise InputError("too many detections were started at once", where=name, hint="Wait a second.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        hint = "It was removed; detect again."
        raise InputError(f"can't be read ({error.strerror})", where=path, hint=hint) from None
    except (ValueError, TypeError):
        raise InputError("is not a JSON object", where=path, hint="Detect again.") from None


# --- the process --------------------------------------------------------------------------------------


def detect(detection: Detection, report: job.Reporter) -> dict[str, Any]:
    """Do the work of a detection; returns fields of the last status. Raises Stopped when asked to stop."""
    from tal_core.inference.predict import load_model, predict_features  # pylint: disable=import-outside-toplevel

    request = detection.request()
    report.progress(0, 0, "loading the run")
    model = load_model(Path(request["run"]))
    damage = Damage()
    source = Path(request["source"])
    if request["kind"] == "video":

        def progress(done: int, total: int, message: str) -> None:
            if report.stopped():
                raise Stopped
            report.progress(done, total, message)

        features, grid = features_of_video(source, model.info, progress, damage)
    else:
        features = read_feature_file(source, request["layout"], model.info.num_features)
        grid = model.info.grid
    if report.stopped():
        raise Stopped
    report.progress(0, 0, "detecting")
    table, scores = predict_features(model, features, grid, video_id=request["name"])
    if scores is not None:
        kept = {request["name"]: (scores, grid)}
        save_snippet_scores(detection.folder / "snippet_scores.npz", kept, model.info.labels)
    seconds = request["duration"] or grid.seconds(len(features) - 0.5)
    write_detections(table, detection.folder / "detections.json")
    said = {"message": f"{len(table)} detections", "labels": model.info.labels}
    return {**said, "duration": float(seconds), "damage": str(damage)}


def draw(folder: Path, report: job.Reporter) -> dict[str, Any]:
    """Burn detections in; as ``detect``."""
    request = _read_json(folder / "request.json")
    notes = burn_in(
        Path(request["source"]),
        read_detections(folder / "shown.json"),
        folder / _BURNT,
        request["colors"],
        progress=report.progress,
        stop=report.stopped,
    )
    return {"message": " ".join(["The video is ready.", *notes])}


def main(folder: str) -> int:
    """The background process."""
    place = Path(folder)
    with job.Reporter(place) as report:
        try:
            done = draw(place, report) if place.name == _BURN_IN else detect(Detection(place), report)
        except Stopped:
            report.end("stopped", "Stopped.")
        except InputError as error:
            print(error, file=sys.stderr)
            report.end("failed", "Failed", error=str(error))
            return 2
        except BaseException as error:
            report.end("failed", "Failed", error=f"{type(error).__name__}: {error}")
            raise
        else:
            report.end("finished", **done)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
