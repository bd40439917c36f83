"""What detections are compared with: ground truth of a subset, from files or tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tal_core.data.dataset.subsets import evaluation_subset, in_subset
from tal_core.data.formats.annotations import AMBIGUOUS, read_annotations
from tal_core.data.formats.blocked import leave_out, read_blocked, without_blocked
from tal_core.data.formats.detections import read_detections
from tal_core.data.formats.files import check_segments
from tal_core.types import DETECTION_COLUMNS, GROUND_TRUTH_COLUMNS, VIDEO_COLUMNS, Annotations, InputError


class Inputs(NamedTuple):
    """All annotations, the ground truth and the video ids of ``subset``, and the detections."""

    annotations: Annotations
    subset: str
    truth: pd.DataFrame
    videos: list[str]
    detections: pd.DataFrame

    @property
    def durations(self) -> pd.Series:
        """Seconds by video id; NaN where the annotations are silent."""
        return self.annotations.videos.set_index("video_id")["duration"]


def read_inputs(
    ground_truth: Path | str | pd.DataFrame | Annotations,
    detections: Path | str | pd.DataFrame,
    *,
    subset: str | None = None,
    video_info: Path | None = None,
    blocked: Path | None = None,
    on_blocked: Callable[[pd.DataFrame], None] = lambda findings: None,
) -> Inputs:
    """Read and check both sides; tables go through the same checks as files.

    ``subset``: by default the one meant for evaluation; a plain table has none. ``blocked``: a file of videos
    that are left out of both; what that removes is a finding, told to ``on_blocked``.

    Raises:
        InputError: if either can't be used, or the subset has no annotated video.
    """
    annotations, where = as_annotations(ground_truth, video_info), _name(ground_truth)
    names = read_blocked(blocked) if blocked else frozenset()
    if blocked:
        annotations = leave_out(annotations, names, blocked)
        on_blocked(annotations.findings[annotations.findings["kind"] == "blocked videos"])
    subset = subset or evaluation_subset(annotations)
    truth, videos = in_subset(annotations, subset, where=where)
    return Inputs(annotations, subset, truth, videos, without_blocked(as_detections(detections), names))


def as_annotations(
    ground_truth: Path | str | pd.DataFrame | Annotations, video_info: Path | pd.DataFrame | None = None
) -> Annotations:
    """Annotations from a file, or a table with `GROUND_TRUTH_COLUMNS` and, if known, `VIDEO_COLUMNS`.

    Raises:
        InputError: as ``read_annotations``; for a table without a needed column or with faulty times.
    """
    if isinstance(ground_truth, Annotations):
        return ground_truth
    if not isinstance(ground_truth, pd.DataFrame):
        return read_annotations(Path(ground_truth), video_info)
    table = _checked(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    videos = ground_truth.drop_duplicates("video_id").reindex(columns=list(VIDEO_COLUMNS))
    videos["subset"] = videos["subset"].astype("object").fillna("")
    videos = videos.astype({"video_id": "str", "subset": "str", "duration": "float64", "fps": "float64"})
    unsure = (table["label"] == AMBIGUOUS).to_numpy()
    truth, ambiguous = table[~unsure].reset_index(drop=True), table[unsure].reset_index(drop=True)
    return Annotations(truth, videos.reset_index(drop=True), ambiguous)


def as_detections(detections: Path | str | pd.DataFrame) -> pd.DataFrame:
    """Detections from a file, or a table with `DETECTION_COLUMNS`, order kept.

    Raises:
        InputError: as ``read_detections``; for a table without a needed column or with faulty times.
    """
    if isinstance(detections, pd.DataFrame):
        return _checked(detections, DETECTION_COLUMNS, "detections")
    return read_detections(Path(detections))


def _checked(table: pd.DataFrame, columns: Sequence[str], name: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in table]
    if missing:
        hint = f"Give a table with the columns {', '.join(columns)}."
        raise InputError(f"has no column {', '.join(missing)}", where=name, hint=hint)
    kinds = {column: "float64" if column in ("start", "end", "score") else "str" for column in columns}
    try:
        checked = table[list(columns)].astype(kinds).reset_index(drop=True)
    except (ValueError, TypeError) as error:
        raise InputError(f"{error}", where=name, hint="Times and scores are numbers of seconds.") from None
    check_segments(checked, Path(name), lambda row: f"row {row}, video {checked['video_id'].iloc[row]!r}")
    return checked


def _name(source: object) -> object:
    return source if isinstance(source, Path | str) else "ground truth"
