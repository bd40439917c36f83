"""Lists of ``{"segment": [start, end], "label": ..., "score": ...}`` per video into a checked table.

Annotation and result files of the ActivityNet family share this part. The quick path below handles
ActivityNet's 360 000 detections in about a second; only a faulty file is walked through entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from tal_core.data.formats.files import check_segments
from tal_core.types import InputError

_NUMBER = frozenset({int, float})


def entries_table(lists: Mapping[str, list[dict]], path: Path, *, score: bool) -> pd.DataFrame:
    """Ground-truth (or with ``score`` detection) table of all entries, in file order.

    Labels that are numbers become text. In result files without any label (proposals) it is ``""``.

    Raises:
        InputError: naming file, video, entry and field of the first fault.
    """
    try:
        counts = np.fromiter((len(entries) for entries in lists.values()), np.int64, len(lists))
        entries = list(chain.from_iterable(lists.values()))
        segments = [entry["segment"] for entry in entries]
        times = list(chain.from_iterable(segments))
        scores = [entry["score"] for entry in entries] if score else []
        labels = [entry.get("label", "") for entry in entries]
    except (AttributeError, KeyError, TypeError):
        _explain(lists, path, score)
    proposals = score and not any(label != "" for label in labels)
    sound = (
        set(map(len, segments)) <= {2}
        and set(map(type, segments)) <= {list}
        and {*map(type, times), *map(type, scores)} <= _NUMBER
        and set(map(type, labels)) <= {str, int}
        and (proposals or all(label != "" for label in labels))
    )
    if not sound:
        _explain(lists, path, score)
    videos = list(lists)
    rows = np.repeat(np.arange(len(videos)), counts)
    try:
        flat = np.array(times, np.float64).reshape(-1, 2)
    except OverflowError:
        raise InputError("a time is too large a number", where=path, hint="Write seconds.") from None
    columns = {
        "video_id": pd.Series(videos, dtype="str").take(rows).reset_index(drop=True),
        "start": flat[:, 0],
        "end": flat[:, 1],
        "label": pd.Series(list(map(str, labels)), dtype="str"),
    }
    if score:
        columns["score"] = np.array(scores, np.float64)
    table = pd.DataFrame(columns)

    def entry(row: int) -> str:
        return f"video {videos[rows[row]]!r}, entry {row - int(counts[: rows[row]].sum()) + 1}"

    check_segments(table, path, entry)
    return table


def _explain(lists: Mapping[str, Any], path: Path, score: bool) -> NoReturn:
    """Raise the ``InputError`` that describes the first fault of ``lists``."""
    for video_id, entries in lists.items():
        if not isinstance(entries, list):
            raise InputError(
                f"video {video_id!r}: expected a list of entries, found {_kind(entries)}",
                where=path,
                hint='Write [{"segment": [start, end], "label": name}, ...].',
            )
        for number, entry in enumerate(entries, 1):
            fault = _fault(entry, score)
            if fault:
                what, hint = fault
                raise InputError(f"video {video_id!r}, entry {number}: {what}", where=path, hint=hint)
    raise InputError(
        "some entries have a label and some have none", where=path, hint="Give all of them a label, or none."
    )


def _fault(entry: Any, score: bool) -> tuple[str, str] | None:
    """What is wrong with one entry and how to fix it."""
    if not isinstance(entry, dict):
        return f"is {_kind(entry)}, not an object", 'Write {"segment": [start, end], "label": name}.'
    segment = entry.get("segment")
    if not isinstance(segment, list) or len(segment) != 2 or not all(type(t) in _NUMBER for t in segment):
        found = f"segment is {segment!r}" if "segment" in entry else "segment is missing"
        return found[:120], "Write [start, end] as two numbers, in seconds."
    if score and type(entry.get("score")) not in _NUMBER:
        return f"score is {entry.get('score')!r}"[:120], "Write it as a number without quotes."
    label = entry.get("label", "")
    if type(label) not in (str, int):
        return f"label is {label!r}"[:120], "Write the class name as text."
    if label == "" and not score:
        return "label is missing or empty", "Give every annotation a class name."
    return None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
