"""Annotation files in and out.

Read: ActivityNet JSON (with ``database``, or flat with ``duration_second``), the DETAD form with its extra
characteristics, THUMOS14 text folders, CSV; ELAN, VIA and Label Studio files; each also gzipped. Written:
ActivityNet JSON and CSV.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.formats.annotation_tools import TIER, choose_tiers
from tal_core.data.formats.elan import is_elan, read_elan
from tal_core.data.formats.entries import entries_table
from tal_core.data.formats.files import check_segments, numbers, read_columns, read_json, suffix
from tal_core.data.formats.findings import annotation_findings
from tal_core.data.formats.label_studio import is_label_studio, read_label_studio
from tal_core.data.formats.thumos import read_thumos
from tal_core.data.formats.via import is_via, is_via_csv, read_via, read_via_csv
from tal_core.data.formats.video_info import DURATION, FPS, SUBSET, VIDEO, fill_from, read_video_info
from tal_core.types import (
    AMBIGUOUS,
    FINDING_COLUMNS,
    GROUND_TRUTH_COLUMNS,
    VIDEO_COLUMNS,
    Annotations,
    InputError,
)
from tal_core.workspace import write_text, writing

FORMS = (
    "ActivityNet JSON, a THUMOS14 text folder, ELAN .eaf files, a VIA 3 project or its CSV, Label Studio's "
    "JSON (not JSON-MIN), or CSV with the columns video_id, start, end, label"
)


def read_annotations(
    path: Path, video_info: Path | pd.DataFrame | None = None, tiers: Sequence[str] = ()
) -> Annotations:
    """Read an annotation file, or a folder of THUMOS14 text or ELAN files; the form is recognised.

    Text that the file doesn't give (a video's subset) is ``""``; numbers (duration, fps) are NaN.
    ``video_info``: a CSV that adds subset, duration or fps of the videos, for files that lack them, or such a
    table, indexed by video. ``tiers``: of ELAN, VIA and Label Studio files only these tiers, attributes or
    controls; all by default.

    Raises:
        InputError: naming file, video and field, if the annotations can't be used as they are.
    """
    path = Path(path)
    file = None if isinstance(video_info, pd.DataFrame) else video_info
    info = video_info if isinstance(video_info, pd.DataFrame) else None
    if file is not None:
        info = read_video_info(file)
    rates = dict(zip(info.index, info["fps"], strict=True)) if info is not None and "fps" in info else {}
    table, videos, notes = _read(path, rates)
    table, more = choose_tiers(table, tiers, path)
    notes = [*notes, *more]
    if info is not None:
        videos, more = fill_from(videos, info, file)
        notes = [*notes, *more]
    unsure = (table["label"] == AMBIGUOUS).to_numpy()
    truth, ambiguous = table[~unsure].reset_index(drop=True), table[unsure].reset_index(drop=True)
    if truth.empty:
        raise InputError("no annotated segment in it", where=path, hint=f"Known forms: {FORMS}.")
    notes = [*notes, *annotation_findings(truth, ambiguous, videos)]
    return Annotations(
        truth, videos, ambiguous, pd.DataFrame(notes, columns=list(FINDING_COLUMNS), dtype="str")
    )


def list_tiers(path: Path) -> dict[str, int]:
    """Segments of each tier of an ELAN, VIA or Label Studio file; empty for other files. Raises as
    ``read_annotations``."""
    table = _read(Path(path), {})[0]
    if TIER not in table:
        return {}
    counts = table[TIER].value_counts(sort=False)
    return {str(tier): int(count) for tier, count in counts.items()}


def _read(path: Path, rates: Mapping[str, float]) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Segments, videos and findings of a file in any form; ``rates``: frames per second by video."""
    if is_elan(path):
        return read_elan(path)
    if path.is_dir():
        return read_thumos(path)
    if suffix(path) in (".csv", ".tsv"):
        return read_via_csv(path) if is_via_csv(path) else _read_csv(path)
    value = read_json(path)
    if is_via(value):
        return read_via(value, path)
    if is_label_studio(value):
        return read_label_studio(value, path, rates)
    return _read_activitynet(value, path)


def write_annotations(annotations: Annotations, path: Path) -> None:
    """Write ActivityNet JSON (``.json``) or CSV (``.csv``).

    In CSV a video without annotations is a line without times and label; ``read_annotations`` knows it.

    Raises:
        InputError: for another file ending, or if the file can't be written.
    """
    path = Path(path)
    table = pd.concat([annotations.ground_truth, annotations.ambiguous], ignore_index=True)
    if path.suffix == ".csv":
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            listed = annotations.videos[["video_id"]].merge(table, on="video_id", how="left")
            listed.merge(annotations.videos, on="video_id", how="left").to_csv(path, index=False)
    elif path.suffix == ".json":
        write_text(
            path, json.dumps({"version": "TAL Studio", "database": _database(table, annotations.videos)})
        )
    else:
        raise InputError("unknown file ending", where=path, hint="Use .json or .csv.")


def only_videos(annotations: Annotations, chosen: Container[str]) -> Annotations:
    """The part of ``annotations`` that is about the ``chosen`` videos; findings are left out."""

    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table[[video in chosen for video in table["video_id"]]].reset_index(drop=True)

    return Annotations(part(annotations.ground_truth), part(annotations.videos), part(annotations.ambiguous))


def _database(table: pd.DataFrame, videos: pd.DataFrame) -> dict[str, dict[str, Any]]:
    database: dict[str, dict[str, Any]] = {}
    for video_id, subset, duration, fps in videos[list(VIDEO_COLUMNS)].itertuples(index=False):
        entry: dict[str, Any] = {"subset": subset} if subset else {}
        entry |= {"duration": duration} if np.isfinite(duration) else {}
        entry |= {"fps": fps} if np.isfinite(fps) else {}
        database[video_id] = {**entry, "annotations": []}
    for video_id, start, end, label in table[list(GROUND_TRUTH_COLUMNS)].itertuples(index=False):
        database[video_id]["annotations"].append({"segment": [start, end], "label": label})
    return database


# --- ActivityNet JSON ---------------------------------------------------------------------------------


def _read_activitynet(value: Any, path: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Segments, videos and findings of ActivityNet JSON in either form, or of the DETAD form."""
    if isinstance(value, dict) and "results" in value:
        raise InputError("this is a detections file", where=path, hint="Give the annotation file instead.")
    database = value.get("database", value) if isinstance(value, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError("unknown form", where=path, hint=f"Known forms: {FORMS}.")
    for video_id, entry in database.items():
        if not isinstance(entry, dict):
            hint = "Write an object with subset, duration and annotations."
            if database is value:
                raise InputError("unknown form", where=path, hint=f"Known forms: {FORMS}.")
            raise InputError(f"video {video_id!r} is not an object", where=path, hint=hint)
        if not video_id.strip():
            raise InputError("a video has an empty id", where=path, hint="Give every video its id.")
    if database is value and not any("annotations" in entry for entry in database.values()):
        raise InputError("unknown form", where=path, hint=f"Known forms: {FORMS}.")
    lists = {video_id: _annotations(entry) for video_id, entry in database.items()}
    table = entries_table(lists, path, score=False)
    rows = [(video_id, *_video_fields(video_id, entry, path)) for video_id, entry in database.items()]
    return table, _video_table(rows), []


def _video_fields(video_id: str, entry: dict, path: Path) -> tuple[str, float, float]:
    """Subset, duration in seconds and fps of one entry."""

    def number(*names: str) -> float:
        name = next((n for n in names if entry.get(n) is not None), None)
        if name is None:
            return np.nan
        value = entry[name]
        if type(value) not in (int, float) or not np.isfinite(value) or value <= 0:
            raise InputError(
                f"video {video_id!r}: {name} is {value!r}",
                where=path,
                hint="Write a number above 0, or leave the field out.",
            )
        return float(value)

    subset = entry.get("subset")
    if subset is not None and not isinstance(subset, str):
        raise InputError(f"video {video_id!r}: subset is {subset!r}", where=path, hint="Write it as text.")
    duration = number("duration", "duration_second")
    fps = number("fps", "frame_rate")
    frames = number("duration_frame")
    if np.isnan(fps) and frames > 0 and duration > 0:
        fps = frames / duration
    if np.isnan(duration):
        duration = _duration_from_coverage(_annotations(entry))
    return (subset or "").strip(), duration, fps


def _annotations(entry: dict) -> Any:
    """The entry's list of annotations; videos without any may leave it out or write null."""
    value = entry.get("annotations")
    return [] if value is None else value


def _duration_from_coverage(annotations: list[dict]) -> float:
    """DETAD gives no duration but each instance's ``coverage = length / duration``."""
    durations = [
        a["length"] / a["coverage"]
        for a in annotations
        if type(a.get("length")) in (int, float)
        and type(a.get("coverage")) in (int, float)
        and a["coverage"] > 0
    ]
    return float(np.median(durations)) if durations else np.nan


def _video_table(rows: list[tuple[str, str, float, float]]) -> pd.DataFrame:
    videos = pd.DataFrame(rows, columns=list(VIDEO_COLUMNS))
    return videos.astype({"video_id": "str", "subset": "str", "duration": "float64", "fps": "float64"})


# --- CSV ----------------------------------------------------------------------------------------------

_CSV_COLUMNS = {
    "video_id": VIDEO,
    "start": ("t_start", "t-start", "start_time", "start_seconds", "begin", "onset"),
    "end": ("t_end", "t-end", "end_time", "end_seconds", "stop", "offset"),
    "label": ("class", "action", "activity", "class_name", "category"),
    "subset": SUBSET,
    "duration": DURATION,
    "fps": FPS,
}


def _read_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Segments and videos of a CSV; a row with neither times nor label only names a video."""
    cells = read_columns(path, _CSV_COLUMNS, required=("video_id", "start", "end", "label"))
    for column in ("subset", "duration", "fps"):
        if column not in cells:
            cells[column] = ""
    _require(cells["video_id"] != "", "video_id is empty", path)
    for column in ("start", "end", "duration", "fps"):
        cells[column] = numbers(cells, column, path)
    only_video = cells["start"].isna() & cells["end"].isna() & (cells["label"] == "")
    _require(only_video | (cells["label"] != ""), "label is empty", path)
    for column in ("duration", "fps"):
        _require(
            cells[column].isna() | ((cells[column] > 0) & np.isfinite(cells[column])),
            f"{column} must be above 0",
            path,
        )
    lines = np.flatnonzero(~only_video)
    table = cells.loc[~only_video, list(GROUND_TRUTH_COLUMNS)].reset_index(drop=True)
    check_segments(table, path, lambda row: f"line {lines[row] + 2}, video {table['video_id'].iloc[row]!r}")
    return table, _one_row_per_video(cells, path), []


def _require(good: pd.Series, what: str, path: Path) -> None:
    if not good.all():
        line = int(np.flatnonzero(~good.to_numpy())[0]) + 2
        raise InputError(f"line {line}: {what}", where=path, hint="Complete the line or remove it.")


def _one_row_per_video(cells: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Collapse the video columns; different values for one video are an error."""
    known = cells[list(VIDEO_COLUMNS)].copy()
    known["subset"] = known["subset"].mask(known["subset"] == "")
    grouped = known.groupby("video_id", sort=False)
    for column in ("subset", "duration", "fps"):
        values = known[["video_id", column]].dropna().drop_duplicates()
        several = values["video_id"].duplicated()
        if several.any():
            video_id = values.loc[several, "video_id"].iloc[0]
            raise InputError(
                f"video {video_id!r} has several values of {column}", where=path, hint="Keep one."
            )
    videos = grouped.first().reset_index()
    videos["subset"] = videos["subset"].fillna("").astype("str")
    return videos
