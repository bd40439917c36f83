"""Lists of videos that a benchmark leaves out: those of ActivityNet that can't be had any more, for one.

As in the challenge's scripts a blocked video is in neither the ground truth nor the detections.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.formats.files import read_json, read_text, suffix
from tal_core.data.formats.video_ids import PREFIX, without_prefix
from tal_core.types import Annotations, InputError, finding

_HINT = 'Write ["id", "id", ...], or in a .txt file one id a line.'


def read_blocked(path: Path) -> frozenset[str]:
    """The video ids in a JSON list (``.json``) or a text file with one id a line; each also gzipped.

    Raises:
        InputError: if the file can't be read, or is no list of ids.
    """
    path = Path(path)
    ids = read_json(path) if suffix(path) == ".json" else read_text(path).split("\n")
    if not isinstance(ids, list) or not all(isinstance(video, str) for video in ids):
        raise InputError("is no list of video ids", where=path, hint=_HINT)
    found = frozenset(video.strip() for video in ids if video.strip())
    if not found:
        raise InputError("names no video", where=path, hint=_HINT)
    return found


def are_blocked(videos: pd.Series, blocked: frozenset[str]) -> np.ndarray:
    """Which of some video ids are blocked (N,); ids with and without the prefix ``v_`` are the same video."""
    names = {without_prefix(video) for video in blocked}
    return videos.str.removeprefix(PREFIX).isin(names).to_numpy(bool)


def leave_out(annotations: Annotations, blocked: frozenset[str], path: Path) -> Annotations:
    """Annotations without the blocked videos, and a finding that counts them. ``path``: the file to name.

    Raises:
        InputError: if none of them is annotated here, or no annotated segment is left.
    """
    videos = annotations.videos["video_id"]
    gone = set(videos[are_blocked(videos, blocked)])
    if not gone:
        what = f"none of its {len(blocked)} videos is in the annotations"
        examples = f"(the file has {min(blocked)!r}, the annotations {videos.iloc[0]!r})"
        raise InputError(f"{what} {examples}", where=path, hint="Give the list of this benchmark.")
    tables = {
        name: table[~table["video_id"].isin(gone)].reset_index(drop=True)
        for name in ("ground_truth", "videos", "ambiguous", "findings")
        for table in [getattr(annotations, name)]
    }
    if tables["ground_truth"].empty:
        raise InputError("it blocks every annotated video", where=path, hint="Give a shorter list.")
    segments = len(annotations.ground_truth) - len(tables["ground_truth"])
    detail = f"{len(gone)} videos with {segments} annotations are left out ({path.name})"
    spare = len({without_prefix(video) for video in blocked}) - len(gone)
    advice = f"{spare} more of its ids are of videos that aren't annotated." if spare else ""
    tables["findings"] = pd.concat(
        [tables["findings"], pd.DataFrame([finding("info", "blocked videos", detail, advice=advice)])],
        ignore_index=True,
    ).astype("str")
    return replace(annotations, **tables)


def without_blocked(detections: pd.DataFrame, blocked: frozenset[str]) -> pd.DataFrame:
    """Detections (or other rows with ``video_id``) outside the blocked videos; itself if there are none."""
    gone = are_blocked(detections["video_id"], blocked) if blocked else np.zeros(len(detections), bool)
    return detections[~gone].reset_index(drop=True) if gone.any() else detections
