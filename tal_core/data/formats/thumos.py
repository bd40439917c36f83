"""THUMOS14 text folders: one ``Class_subset.txt`` per class with lines ``video start end``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.formats.files import check_segments, read_text, suffix
from tal_core.types import GROUND_TRUTH_COLUMNS, InputError, empty_table, finding

SUBSETS = {
    "test": "testing", "testing": "testing", "val": "validation", "valid": "validation",
    "validation": "validation", "train": "training", "training": "training",
}  # fmt: skip
_CLASS_FILE = re.compile(rf"(.+)_({'|'.join(SUBSETS)})\.txt(\.gz)?", re.IGNORECASE)


def read_thumos(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """Segments (``Ambiguous`` still among them), videos and findings of a THUMOS14 folder.

    The class files lie in ``folder`` or in its subfolders. Durations come from ``*durations*.txt`` (a line
    with the video file, a line with its seconds) in the folder, its subfolders or beside it.

    Raises:
        InputError: if there is no class file, or a line isn't ``video start end``.
    """
    files = sorted(
        (path, match) for path in folder.rglob("*.txt*") if (match := _CLASS_FILE.fullmatch(path.name))
    )
    if not files:
        raise InputError(
            "no class files in this folder",
            where=folder,
            hint="THUMOS14 files are named Class_test.txt or Class_val.txt, ELAN files video.eaf.",
        )
    tables, notes = [empty_table(GROUND_TRUTH_COLUMNS)], []
    subsets: dict[str, str] = {}
    for path, match in files:
        if not path.stat().st_size:
            notes.append(finding("warning", "empty file", f"{path} has no lines", advice="Copy it again."))
            continue
        table = _read_class_file(path, match[1])
        subset = SUBSETS[match[2].lower()]
        for video_id in table["video_id"].unique():
            if subsets.setdefault(video_id, subset) != subset:
                raise InputError(
                    f"video {video_id!r} is in {subset} here and in {subsets[video_id]} elsewhere",
                    where=path,
                    hint="Keep it in one subset.",
                )
        tables.append(table)
    durations = _read_durations(folder)
    videos = pd.DataFrame({"video_id": list(subsets), "subset": list(subsets.values())}, dtype="str")
    videos["duration"] = videos["video_id"].map(durations).astype("float64")
    videos["fps"] = np.nan
    if not durations:
        advice = "Put th14_test_durations.txt or the like into the folder, or rely on the features."
        notes.append(finding("info", "durations", "no list of durations beside the files", advice=advice))
    return pd.concat(tables, ignore_index=True), videos.sort_values("video_id", ignore_index=True), notes


def _read_class_file(path: Path, label: str) -> pd.DataFrame:
    rows, lines = [], []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            video_id, start, end = line.split()
            rows.append((video_id, float(start), float(end), label))
        except ValueError:
            raise InputError(
                f"line {number}: {line.strip()[:60]!r} is not 'video start end'",
                where=path,
                hint="Correct the line.",
            ) from None
        lines.append(number)
    table = pd.DataFrame(rows, columns=list(GROUND_TRUTH_COLUMNS))
    check_segments(table, path, lambda row: f"line {lines[row]}, video {table['video_id'].iloc[row]!r}")
    return table


def _read_durations(folder: Path) -> dict[str, float]:
    """Seconds per video id, from every list of durations in or beside the folder."""
    durations: dict[str, float] = {}
    for path in sorted({*folder.rglob("*durations*"), *folder.parent.glob("*durations*")}):
        if suffix(path) != ".txt" or not path.is_file():
            continue
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        for name, seconds in zip(lines[::2], lines[1::2], strict=False):
            try:
                durations[Path(re.split(r"[\\/]", name)[-1]).stem] = float(seconds)
            except ValueError:
                raise InputError(
                    f"{seconds[:40]!r} after {name[:60]!r} is not a duration in seconds",
                    where=path,
                    hint="The file has a line with the video and then a line with its seconds.",
                ) from None
    return durations
