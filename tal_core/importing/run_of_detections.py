"""A finished run from detections that another program made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from tal_core.data.dataset.dataset import Dataset, open_dataset
from tal_core.data.dataset.protocol import evaluated_videos
from tal_core.data.formats.blocked import without_blocked
from tal_core.data.formats.detections import read_detections, write_detections
from tal_core.data.formats.files import suffix
from tal_core.data.formats.video_ids import PREFIX, with_or_without_prefix
from tal_core.runs.evaluate_run import average_text, evaluate_run
from tal_core.runs.recorder import RunRecorder
from tal_core.runs.run import Run, create_run
from tal_core.types import InputError, Progress

IMPORTED = "imported"
"""Where other runs name their method."""

"""In front of ActivityNet's video ids in some files and not in others."""

_READ = (".json", ".csv", ".tsv")
_UNREAD = (".pkl", ".pickle", ".npy", ".npz", ".pt", ".pth", ".mat", ".h5", ".hdf5")


class ImportedSettings(BaseModel):
    """What ``config.json`` says of such a run beside dataset and method: where its detections come from."""

    model_config = ConfigDict(frozen=True)

    detections_file: str
    video_prefix: str = ""

    @property
    def epochs(self) -> int:
        return 0


def import_detections(
    home: Path,
    dataset: str,
    path: Path,
    *,
    run_id: str | None = None,
    prefix: str | None = None,
    progress: Progress | None = None,
) -> tuple[Run, list[str]]:
    """A run that holds a file of detections (ActivityNet results JSON or CSV); see `keep_detections`.

    Raises:
        InputError: if the file can't be read or has nothing to do with the dataset, or the id is taken.
    """
    detections = read_foreign(path)
    data = open_dataset(home, dataset, progress)
    return keep_detections(home, data, detections, Path(path).name, run_id=run_id, prefix=prefix)


def read_foreign(path: Path) -> pd.DataFrame:
    """Detections of a file that another program wrote.

    Raises:
        InputError: for a kind of file that isn't read (pickles never are), a faulty or an empty one.
    """
    ending = suffix(path)
    if ending in _UNREAD:
        pickled = ending in (".pkl", ".pickle", ".pt", ".pth")
        what = "pickles can run any code, so they are never opened" if pickled else f"{ending} isn't read"
        hint = (
            'Save the results as JSON: {"results": {video: [{"segment": [start, end], "label": name,'
            ' "score": x}]}}, or as CSV with video_id, start, end, label, score.'
        )
        raise InputError(what, where=path, hint=hint)
    detections = read_detections(path)
    if detections.empty:
        raise InputError("there are no detections in it", where=path, hint="Give a file that has some.")
    return detections


def keep_detections(
    home: Path,
    data: Dataset,
    detections: pd.DataFrame,
    name: str,
    *,
    run_id: str | None = None,
    prefix: str | None = None,
) -> tuple[Run, list[str]]:
    """A finished run of the method "imported" with these detections, evaluated where that is possible.

    ``name``: the file they are from. ``prefix`` goes in front of every video id; without it an id that the
    dataset only knows with, or without, ``v_`` is renamed. Also returns sentences for the user: what was
    renamed, what the dataset doesn't know.

    Raises:
        InputError: if no video, or no label, is one of the dataset's, or the id is taken; no run is made.
    """
    detections, notes = fit_videos(detections, data, prefix)
    _check_belongs(detections, data, name)
    proposals = not detections["label"].any()
    notes += _strangers(detections, data, proposals)
    run = create_run(
        home,
        data.name,
        IMPORTED,
        ImportedSettings(detections_file=name, video_prefix=prefix or ""),
        run_id,
    )
    with run.removed_on_failure():
        _write(run, data, detections, name, notes)
    return run, notes


def fit_videos(
    detections: pd.DataFrame, data: Dataset, prefix: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Detections under the dataset's video ids and outside its blocked videos; sentences on what was done."""
    detections, notes = rename_videos(detections, data.index["video_id"].tolist(), prefix)
    rest = without_blocked(detections, data.blocked)
    if len(rest) < len(detections):
        notes.append(f"{len(detections) - len(rest)} detections of blocked videos were left out.")
    return rest, notes


def rename_videos(
    detections: pd.DataFrame, known: Sequence[str], prefix: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Detections under the dataset's video ids, and a sentence on what was renamed.

    Without a ``prefix``, ids that aren't ``known`` get or lose ``v_`` if that makes them known and no other
    video of the file has that id.
    """
    ids, there = pd.unique(detections["video_id"]), set(known)
    if prefix is not None:
        names = {old: prefix + old for old in ids}
        notes = [f"{prefix!r} was put in front of all {len(ids)} video ids."] if prefix else []
    else:
        taken = there & set(ids)
        fitting = {old: with_or_without_prefix(old) for old in ids if old not in there}
        names = {old: new for old, new in fitting.items() if new in there and new not in taken}
        added = sum(len(new) > len(old) for old, new in names.items())
        notes = [
            f"{count} of {len(ids)} video ids match only {word} {PREFIX!r} in front, so they were renamed."
            for count, word in ((added, "with"), (len(names) - added, "without"))
            if count
        ]
    if not names:
        return detections, notes
    return detections.assign(video_id=detections["video_id"].replace(names).astype("str")), notes


def _check_belongs(detections: pd.DataFrame, data: Dataset, name: str) -> None:
    """Raise InputError unless at least one video, and one label where there are labels, is the dataset's."""
    other = "Choose the dataset that it was made for, or"
    for column, known, words, hint in (
        ("video_id", data.index["video_id"].tolist(), "videos", "give --prefix if the ids differ by that."),
        ("label", data.labels, "labels", "rename them in the file."),
    ):
        found = pd.unique(detections[column])
        if not set(found) & set(known) and any(found):
            what = f"none of its {len(found)} {words} is one of the dataset {data.name}"
            examples = f"(the file has {_some(found)}, the dataset {_some(known)})"
            raise InputError(f"{what} {examples}", where=name, hint=f"{other} {hint}")


def _some(names: Iterable[str]) -> str:
    return ", ".join(f"“{name}”" for name in list(names)[:2]) + (", …" if len(list(names)) > 2 else "")


def _strangers(detections: pd.DataFrame, data: Dataset, proposals: bool) -> list[str]:
    """Sentences on detections of videos and labels that the dataset doesn't know."""
    notes = []
    for column, known, word, effect in (
        ("video_id", data.index["video_id"], "videos", "they count as false positives"),
        ("label", data.labels, "labels", "they are ignored in evaluation"),
    ):
        strange = ~detections[column].isin(set(known))
        if strange.any() and not (column == "label" and proposals):
            names = pd.unique(detections.loc[strange, column])
            unknown = f"{len(names)} unknown {word} ({_some(names)})"
            notes.append(f"{int(strange.sum())} detections are of {unknown}: {effect}.")
    return notes


def _write(run: Run, data: Dataset, detections: pd.DataFrame, name: str, notes: list[str]) -> None:
    """Detections, evaluation, environment, log and status of a new run."""
    with RunRecorder(run) as recorder:
        write_detections(detections, run.detections_file, extra={"imported_from": name})
        environment = {
            "imported_from": name,
            "dataset": {"name": data.name, "fingerprint": data.fingerprint(), "labels": data.labels},
        }
        run.write_json(run.environment_file, environment)
        message = f"Imported {len(detections)} detections from {name}"
        subset = data.evaluation_subset
        videos = evaluated_videos(data, usable=False)
        if not videos:
            message += "; no annotated videos were held out, so there is no mAP."
        elif not detections["label"].any():
            message += "; they are proposals without classes, so there is no mAP."
        elif not detections["video_id"].isin(videos).any():
            message += f"; none is in a video of the subset {subset!r}, so there is no mAP."
        elif evaluation := evaluate_run(data, detections):
            run.write_json(run.evaluation_file, evaluation.to_json())
            recorder.update(average_mAP=evaluation.average_mAP)
            where = f"the {evaluation.num_videos} videos of subset {subset!r}"
            message += f": {average_text(evaluation)} on {where}."
        for line in (message, *notes):
            recorder.log(line)
        recorder.finish("finished", phase="", message=message)
