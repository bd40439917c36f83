"""What the readers of annotation tools share: ELAN, VIA and Label Studio.

Such tools keep several kinds of labels in one file: ELAN's tiers, VIA's attributes, Label Studio's controls.
All of them are called tiers here, and a person may choose which of them are the classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd

from tal_core.data.formats.files import check_segments
from tal_core.types import GROUND_TRUTH_COLUMNS, VIDEO_COLUMNS, InputError, finding

TIER = "tier"


class Mark(NamedTuple):
    """One labelled segment of a tool's file; ``where`` says where in it, for errors."""

    video_id: str
    start: float
    end: float
    label: str
    tier: str
    where: str


class VideoRow(NamedTuple):
    """``VIDEO_COLUMNS`` of one video; ``""`` and NaN where the file is silent."""

    video_id: str
    subset: str = ""
    duration: float = np.nan
    fps: float = np.nan


Read = tuple[pd.DataFrame, pd.DataFrame, list[dict]]
"""Segments (ground-truth columns and ``tier``), videos (``VIDEO_COLUMNS``) and findings of a file."""


def tables(marks: Sequence[Mark], videos: Sequence[VideoRow], path: Path, notes: list[dict]) -> Read:
    """The checked tables of a tool's file; of a video that comes twice the first row counts.

    Raises:
        InputError: if a time isn't finite, or a segment ends before it starts.
    """
    table = pd.DataFrame([mark[:5] for mark in marks], columns=[*GROUND_TRUTH_COLUMNS, TIER])
    table = table.astype({"start": "float64", "end": "float64"})
    table = table.astype(dict.fromkeys(("video_id", "label", TIER), "str"))
    check_segments(table, path, lambda row: marks[row].where)
    rows = pd.DataFrame(videos, columns=list(VIDEO_COLUMNS)).drop_duplicates("video_id", ignore_index=True)
    rows = rows.astype({"video_id": "str", "subset": "str", "duration": "float64", "fps": "float64"})
    return table, rows, notes


def choose_tiers(table: pd.DataFrame, tiers: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[dict]]:
    """Segments of the chosen tiers (of all if none is chosen), without their column, and what to say of it.

    Raises:
        InputError: if the file has no tier of that name, or none at all.
    """
    if TIER not in table:
        if tiers:
            hint = "Leave --tiers out: it is for ELAN, VIA and Label Studio files."
            raise InputError("has no tiers", where=path, hint=hint)
        return table, []
    sizes = table[TIER].value_counts(sort=False)
    unknown = [tier for tier in tiers if tier not in sizes]
    if unknown:
        known = ", ".join(map(repr, sizes.index)) or "none"
        raise InputError(f"has no tier {unknown[0]!r}", where=path, hint=f"Tiers with segments: {known}.")
    notes = []
    if len(sizes) > 1:
        names = ", ".join(f"{tier} ({size})" for tier, size in sizes.items())
        used = f"only {', '.join(tiers)} is used" if tiers else "all of them are used"
        advice = "" if tiers else "Choose some (--tiers) if others hold comments or other things."
        notes.append(
            finding("info", "tiers", f"labels of {len(sizes)} tiers: {names}; {used}", advice=advice)
        )
    if tiers:
        table = table[table[TIER].isin(tiers)].reset_index(drop=True)
    return table.drop(columns=TIER), notes


def video_of(media: str) -> str:
    """The video id that a media path or address stands for: its file name without ending.

    Knows Label Studio's ``/data/local-files/?d=folder/video.mp4``.
    """
    parts = urlsplit(media.strip())
    named = parse_qs(parts.query).get("d")
    is_path = re.match(r"[A-Za-z]:[\\/]", media) or not parts.scheme
    path = named[0] if named else unquote(media if is_path and not parts.query else parts.path)
    name = re.split(r"[\\/]", path.strip().rstrip("/\\"))[-1]
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def skipped(notes: list[dict], counts: Mapping[str, int], path: Path, what: str, advice: str) -> None:
    """Add one finding per video with entries that were left out; ``what`` says why."""
    for video_id, count in counts.items():
        word = "entry is" if count == 1 else "entries are"
        detail = f"{count} {word} left out: {what} ({Path(path).name})"
        notes.append(finding("warning", "left out", detail, video_id=video_id, advice=advice))


def number(value: object, what: str, path: Path, where: str, make: Callable = float) -> float:
    """``value`` as a number. Raises InputError naming the place if it is none."""
    try:
        if isinstance(value, bool) or value is None:
            raise ValueError
        return make(value)
    except (TypeError, ValueError):
        hint = "Correct it, or export the file again."
        raise InputError(f"{where}: {what} is {value!r:.60}, not a number", where=path, hint=hint) from None


def counted(videos: Iterable[str]) -> dict[str, int]:
    """How often each video comes, in order of appearance."""
    counts: dict[str, int] = {}
    for video in videos:
        counts[video] = counts.get(video, 0) + 1
    return counts
