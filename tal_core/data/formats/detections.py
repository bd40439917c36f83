"""Detections in and out: ActivityNet result JSON and CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.formats.entries import entries_table
from tal_core.data.formats.files import check_segments, numbers, read_columns, read_json, suffix
from tal_core.data.formats.video_info import VIDEO
from tal_core.types import DETECTION_COLUMNS, InputError
from tal_core.workspace import write_text, writing

_CSV_COLUMNS = {
    "video_id": VIDEO,
    "start": ("t_start", "t-start", "start_time", "xmin", "begin"),
    "end": ("t_end", "t-end", "end_time", "xmax", "stop"),
    "label": ("class", "action", "activity", "class_name", "category"),
    "score": ("confidence", "probability", "prob"),
}


def read_detections(path: Path) -> pd.DataFrame:
    """Detections (``DETECTION_COLUMNS``, float64) in file order; the label of proposals is ``""``.

    Zero-length detections and duplicates stay; ``detection_findings`` reports them.

    Raises:
        InputError: naming file, video, entry and field of the first fault.
    """
    path = Path(path)
    if suffix(path) in (".csv", ".tsv"):
        return _read_csv(path)
    value = read_json(path)
    if isinstance(value, dict) and "database" in value:
        raise InputError("this is an annotation file", where=path, hint="Give the detections file instead.")
    results = value.get("results", value) if isinstance(value, dict) else None
    if not isinstance(results, dict) or (
        results is value and not all(isinstance(v, list) for v in results.values())
    ):
        raise InputError(
            "unknown form",
            where=path,
            hint='Write {"results": {video: [{"segment": [start, end], "label": name, "score": x}]}}.',
        )
    return entries_table(results, path, score=True)


def _read_csv(path: Path) -> pd.DataFrame:
    cells = read_columns(path, _CSV_COLUMNS, required=("video_id", "start", "end", "score"))
    if "label" not in cells:
        cells["label"] = ""
    for column in ("start", "end", "score"):
        cells[column] = numbers(cells, column, path)
    for column in ("video_id", "label"):
        empty = (cells[column] == "").to_numpy()
        if empty.any() and not (column == "label" and empty.all()):
            line = int(np.flatnonzero(empty)[0]) + 2
            raise InputError(
                f"line {line}: {column} is empty", where=path, hint="Complete or remove the line."
            )
    table = cells[list(DETECTION_COLUMNS)]
    check_segments(table, path, lambda row: f"line {row + 2}, video {table['video_id'].iloc[row]!r}")
    return table


def write_detections(table: pd.DataFrame, path: Path, *, extra: dict[str, Any] | None = None) -> None:
    """Write detections as ActivityNet result JSON (``.json``) or CSV (``.csv``), order kept per video.

    ``extra``: further fields of the JSON beside ``results``.

    Raises:
        InputError: for another file ending, or if the file can't be written.
    """
    path = Path(path)
    if path.suffix == ".csv":
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            table[list(DETECTION_COLUMNS)].to_csv(path, index=False)
        return
    if path.suffix != ".json":
        raise InputError("unknown file ending", where=path, hint="Use .json or .csv.")
    write_text(path, detections_json(table, extra=extra))


def detections_json(table: pd.DataFrame, *, extra: dict[str, Any] | None = None) -> str:
    """Detections as ActivityNet result JSON, order kept per video; ``extra``: see `write_detections`."""
    results: dict[str, list[dict[str, Any]]] = {}
    for video_id, start, end, label, score in table[list(DETECTION_COLUMNS)].itertuples(index=False):
        results.setdefault(video_id, []).append({"segment": [start, end], "label": label, "score": score})
    document = {"version": "TAL Studio", **(extra or {}), "results": results, "external_data": {}}
    return json.dumps(document, allow_nan=False)
