"""Label Studio's JSON export: regions on a video's timeline (in frames), on audio or time series (seconds).

Frames of a timeline count from 1 and a range holds its last frame: frames 25 to 48 at 24 per second are
1.0 s to 2.0 s. The export doesn't say the frame rate of the labelling, so it is looked for in the task's
data (``fps``, ``frame_rate``), in regions that give both frames and seconds, in ``--video-info``; else it is
Label Studio's default. The names of the labelling controls are the tiers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tal_core.data.formats.annotation_tools import (
    Mark,
    Read,
    VideoRow,
    counted,
    number,
    skipped,
    tables,
    video_of,
)
from tal_core.data.formats.video_info import DURATION, FPS, SUBSET
from tal_core.types import InputError, finding

DEFAULT_FPS = 24.0
"""What the <Video> tag assumes unless it says frameRate."""

_TIMELINE = "timelinelabels"
_SECONDS = ("labels", "timeserieslabels")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # put in front of the name of an uploaded file


def is_label_studio(value: Any) -> bool:
    """Whether a JSON value is an export of Label Studio: a list of tasks with data and annotations."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in value)
        and any("annotations" in task or "completions" in task for task in value)
    )


def read_label_studio(tasks: list[dict], path: Path, rates: Mapping[str, float] | None = None) -> Read:
    """Segments, videos and findings of an export. ``rates``: frames per second by video, where known.

    Of several annotations of a task the ground truth counts, else the latest that wasn't skipped.

    Raises:
        InputError: if a task names no video, or a region's times are none.
    """
    marks: list[Mark] = []
    notes: list[dict] = []
    videos: dict[str, VideoRow] = {}
    assumed: list[str] = []
    for place, task in enumerate(tasks, 1):
        video = _video(task, place, path)
        regions = _regions(task, video, place, path, notes)
        rate, duration = _rate(task, regions, (rates or {}).get(video, np.nan))
        if video in videos:
            detail = f"is in several tasks of {path.name}; the regions of all of them are used"
            notes.append(finding("warning", "video twice", detail, video_id=video))
        videos.setdefault(video, VideoRow(video, _said(task, ("subset", *SUBSET)), duration, rate))
        found = _marks(regions, video, rate, path, notes)
        if np.isnan(rate) and any(region.get("type") == _TIMELINE for region in regions):
            assumed.append(video)
        marks += found
    if assumed:
        detail = (
            f"the frame rate of {len(assumed)} labelled timelines isn't known (first: {assumed[0]}); "
            f"{DEFAULT_FPS:g} frames per second are assumed, Label Studio's default"
        )
        hint = "If the <Video> tag set another frameRate, give it as column fps of a --video-info CSV."
        notes.append(finding("warning", "frame rate", detail, advice=hint))
    return tables(marks, list(videos.values()), path, notes)


def _video(task: dict, place: int, path: Path) -> str:
    """The task's video: that of its regions' ``$video``, which is the data field with a media address."""
    data = {key: value for key, value in task["data"].items() if isinstance(value, str) and value.strip()}
    first = [key for key in ("video", "video_url", "audio", "url") if key in data]
    media = [key for key, value in data.items() if re.search(r"\.\w{2,4}($|\?)", value)]
    key = next(iter([*first, *media]), None)
    name = video_of(data[key]) if key else video_of(str(task.get("file_upload") or ""))
    if not name:
        hint = "Its data need the address of a video, such as video: /data/upload/1/film.mp4."
        raise InputError(f"task {place} names no video", where=path, hint=hint)
    uploaded = "/upload/" in data[key] if key else True
    return _UPLOAD.sub("", name, count=1) if uploaded and _UPLOAD.match(name) else name


def _regions(task: dict, video: str, place: int, path: Path, notes: list[dict]) -> list[dict]:
    """The regions of the one annotation of a task that counts."""
    given = task.get("annotations", task.get("completions")) or []
    sound = isinstance(given, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("result", []), list)
        and all(isinstance(region, dict) for region in one.get("result", []))
        for one in given
    )
    if not sound:
        hint = "Export as JSON again."
        raise InputError(f"task {place}: its annotations are damaged", where=path, hint=hint)
    kept = [one for one in given if not one.get("was_cancelled")]
    if len(kept) < len(given):
        detail = f"{len(given) - len(kept)} annotations were skipped by their annotator and are left out"
        notes.append(finding("info", "left out", detail, video_id=video))
    if not kept:
        return []
    chosen = max(kept, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
    if len(kept) > 1:
        kind = "the one marked as ground truth" if chosen.get("ground_truth") else "the latest one"
        detail = f"has {len(kept)} annotations in {path.name}; {kind} is used"
        notes.append(finding("warning", "several annotations", detail, video_id=video,
                             advice="Mark the right one as ground truth in Label Studio."))  # fmt: skip
    return chosen.get("result", [])


def _rate(task: dict, regions: list[dict], otherwise: float) -> tuple[float, float]:
    """Frames per second of a task's timeline and the video's seconds; NaN where not known."""
    duration = _positive(_said(task, ("duration", *DURATION)))
    rate = _positive(_said(task, ("fps", *FPS)))
    for region in regions:
        value = region.get("value")
        value = value if isinstance(value, dict) else {}
        seconds = _positive(value.get("duration"))
        frames = _positive(value.get("framesCount"))
        length = seconds if np.isfinite(seconds) else _positive(region.get("original_length"))
        duration = length if np.isnan(duration) else duration
        rate = frames / seconds if np.isnan(rate) else rate
    return (rate if np.isfinite(rate) else otherwise), duration


def _said(task: dict, names: tuple[str, ...]) -> str:
    return next((str(task["data"][name]).strip() for name in names if task["data"].get(name)), "")


def _positive(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return np.nan
    return found if np.isfinite(found) and found > 0 else np.nan


def _marks(regions: list[dict], video: str, rate: float, path: Path, notes: list[dict]) -> list[Mark]:
    """Segments of a task's regions; what can't be one is counted."""
    marks: list[Mark] = []
    other: Counter[str] = Counter()
    empty, without = [], []
    for place, region in enumerate(regions, 1):
        kind, value = str(region.get("type")), region.get("value")
        where = f"video {video!r}, region {place}"
        if kind not in (_TIMELINE, *_SECONDS) or not isinstance(value, dict) or "text" in value:
            other[kind] += 1
            continue
        spans = _spans(kind, value, rate, path, where)
        labels = [str(label).strip() for label in value.get(kind) or () if str(label).strip()]
        # Where rectangles and a timeline share a video, each rectangle comes again as a timeline's region.
        without += [] if spans else [video]
        empty += [] if labels or not spans else [video]
        tier = str(region.get("from_name") or kind)
        marks += [Mark(video, *span, label, tier, where) for span in spans for label in labels]
    for kind, count in other.items():
        detail = f"{count} regions of type {kind} are left out: they are no labelled times ({path.name})"
        notes.append(finding("info", "left out", detail, video_id=video))
    skipped(notes, counted(without), path, "they have no range of time", "")
    skipped(notes, counted(empty), path, "they have no label", "Label them, or delete them.")
    return marks


def _spans(kind: str, value: dict, rate: float, path: Path, where: str) -> list[tuple[float, float]]:
    """Seconds of a region: of each range of frames, or its start and end."""
    if kind in _SECONDS:
        if value.get("start") is None or value.get("end") is None:
            return []
        start, end = (number(value[key], key, path, where) for key in ("start", "end"))
        return [(start, end)]
    rate = rate if np.isfinite(rate) else DEFAULT_FPS
    ranges = value.get("ranges") or []
    if not isinstance(ranges, list) or not all(isinstance(one, dict) for one in ranges):
        raise InputError(f"{where}: its ranges are damaged", where=path, hint="Export as JSON again.")
    frames = [
        tuple(number(one.get(key), f"{key} of a range", path, where) for key in ("start", "end"))
        for one in ranges
    ]
    return [(max(0.0, first - 1) / rate, last / rate) for first, last in frames]
