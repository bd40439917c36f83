"""VGG Image Annotator 3: its project file (JSON) and its CSV export.

A metadata entry belongs to a view (a list of files), has times ``z`` (two of them make a segment) and
attribute values ``av``. A value is an option's id where the attribute has options, else text. Attributes are
the tiers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from tal_core.data.formats.files import read_text
from tal_core.types import InputError, finding

_HEADER = "CSV_HEADER"
_CHECKBOX = 2
_PLAYABLE = (4, 8)  # VIA's file types video and audio; 2 is an image


def is_via(value: Any) -> bool:
    """Whether a JSON value is a VIA 3 project."""
    return isinstance(value, dict) and {"metadata", "attribute", "file", "view"} <= set(value)


def read_via(project: dict[str, Any], path: Path) -> Read:
    """Segments, videos and findings of a project. Raises InputError if its parts don't fit together."""
    try:
        attributes = {str(key): dict(entry) for key, entry in project["attribute"].items()}
        views = {str(key): [str(fid) for fid in view["fid_list"]] for key, view in project["view"].items()}
        files = {
            str(key): (str(entry.get("fname") or entry.get("src") or ""), entry.get("type"))
            for key, entry in project["file"].items()
        }
        entries = [
            (str(key), str(entry["vid"]), list(entry["z"]), dict(entry["av"]))
            for key, entry in project["metadata"].items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        hint = "Save the project with VIA 3 again."
        raise InputError("not a sound VIA project", where=path, hint=hint) from None
    notes: list[dict] = []
    videos = {}
    for view, members in views.items():
        shown = [files[fid] for fid in members if fid in files]
        name = next((name for name, kind in shown if kind in _PLAYABLE and name), None)
        if name is not None:
            videos[view] = video_of(name)
    images = len(views) - len(videos)
    if images:
        detail = f"{images} of {len(views)} views show no video ({path.name})"
        notes.append(finding("info", "views", detail, advice="Images can't be used."))
    known = [(key, videos[view], z, av) for key, view, z, av in entries if view in videos]
    return _collect(known, attributes, [VideoRow(video) for video in videos.values()], path, notes)


def is_via_csv(path: Path) -> bool:
    """Whether a CSV file is VIA's export: its header stands in a comment, or names VIA's columns."""
    lines = read_text(path)[:20000].splitlines()
    head = [line for line in lines if line.startswith("#")] + [x for x in lines if not x.startswith("#")][:1]
    return any(_HEADER in line or ("file_list" in line and "temporal" in line) for line in head)


def read_via_csv(path: Path) -> Read:
    """Segments, videos and findings of VIA's CSV. Raises InputError naming the first faulty line."""
    comments, lines = {}, []
    for line_number, line in enumerate(read_text(path).splitlines(), 1):
        name, _, text = line.lstrip("# ").partition("=")
        if line.startswith("#"):
            comments[name.strip()] = text.strip().rstrip(",")
        elif line.strip():
            lines.append((line_number, line))
    header = comments.get(_HEADER) or (lines.pop(0)[1] if lines else "")
    columns = [column.strip().strip('"') for column in header.split(",")]
    attributes = _attributes(comments.get("ATTRIBUTE") or comments.get("ATTRIBUTES") or "{}", path)
    entries, videos = [], []
    for line_number, line in lines:
        where = f"line {line_number}"
        row = dict(zip(columns, next(csv.reader(io.StringIO(line))), strict=False))
        try:
            files = json.loads(row["file_list"])
            values = json.loads(row["metadata"])
            times = _times(row)
            video = video_of(files[0])
            values = dict(values)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError):
            hint = "It needs file_list, metadata and times as VIA writes them."
            raise InputError(f"{where} is not an entry of VIA", where=path, hint=hint) from None
        videos.append(VideoRow(video))
        entries.append((where, video, times, values))
    return _collect(entries, attributes, videos, path, [])


def _times(row: dict[str, str]) -> list:
    if "temporal_coordinates" in row:
        return list(json.loads(row["temporal_coordinates"]))
    return [row["temporal_segment_start"], row["temporal_segment_end"]]


def _attributes(text: str, path: Path) -> dict[str, dict]:
    """Attributes by id; older versions of VIA give only their names."""
    try:
        value = json.loads(text)
        return {str(k): entry if isinstance(entry, dict) else {"aname": entry} for k, entry in value.items()}
    except (ValueError, AttributeError):
        raise InputError("its line ATTRIBUTE is damaged", where=path, hint="Export it again.") from None


def _collect(
    entries: list[tuple[str, str, list, dict]],
    attributes: dict[str, dict],
    videos: list[VideoRow],
    path: Path,
    notes: list[dict],
) -> Read:
    """Tables of ``(where, video, times, values)``."""
    marks: list[Mark] = []
    points, empty = [], []
    for where, video, times, values in entries:
        if len(times) != 2:
            points.append(video)
            continue
        start, end = (number(time, "a time", path, f"entry {where}") for time in times)
        labels = list(_labels(values, attributes))
        empty += [] if labels else [video]
        marks += [Mark(video, start, end, label, tier, f"entry {where}") for tier, label in labels]
    skipped(notes, counted(points), path, "they are no temporal segments (a region, a frame, the file)", "")
    hint = "Choose a value for them in VIA, or remove them."
    skipped(notes, counted(empty), path, "they have no label", hint)
    return tables(marks, videos, path, notes)


def _labels(values: dict, attributes: dict[str, dict]) -> Iterator[tuple[str, str]]:
    """Tier and label of each value; ``values`` may go by the attribute's id or by its name."""
    for key, value in values.items():
        attribute = attributes.get(str(key), {})
        options = attribute.get("options")
        options = options if isinstance(options, dict) else {}
        chosen = [str(value)]
        if attribute.get("type") == _CHECKBOX:
            chosen = str(value).split(",")
        for choice in chosen:
            label = " ".join(str(options.get(choice, choice)).split())
            if label and label != "_DEFAULT":
                yield str(attribute.get("aname") or key), label
