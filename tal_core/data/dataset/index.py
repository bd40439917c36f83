"""The dataset index: one row per video, what its features are and whether they can be trained on.

The Parquet file holds the index and, in ``feature<k>_*`` columns, what is known of each stream's file, so
that opening again only lists folders. It is renewed when files change.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tal_core.data.dataset.entry import DatasetEntry
from tal_core.data.dataset.inventory import FILE_COLUMNS
from tal_core.data.dataset.timing import offsets, steps
from tal_core.data.features.store import STREAM_SLACK
from tal_core.types import Annotations, finding
from tal_core.workspace import write_bytes, writing

LENGTH_SLACK = 8
"""Snippets by which a video's features may be shorter or longer than its duration says without a word."""
LENGTH_WARNING, LENGTH_LIMIT = 0.05, 0.25
"""Shares of the expected length beyond which a difference is reported, and the video left out."""
_LIST_UP_TO = 50
_KEPT, _OF_A_FILE = b"tal_studio", re.compile(r"feature\d+_")


def lengths_and_dimensions(
    inventories: list[pd.DataFrame], layouts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Snippets and channels per stream and video, two (S, V) arrays; 0 where there is no sound file."""
    sizes = [
        (files["rows"], files["columns"]) if layout == "TD" else (files["columns"], files["rows"])
        for files, layout in zip(inventories, layouts, strict=True)
    ]
    return np.array([t.to_numpy() for t, _ in sizes]), np.array([d.to_numpy() for _, d in sizes])


def build_index(
    entry: DatasetEntry,
    annotations: Annotations,
    subset: pd.Series,
    inventories: list[pd.DataFrame],
    video_files: dict[str, str],
) -> tuple[pd.DataFrame, list[dict]]:
    """Judge every video of the annotations. Returns the index and the findings on features and time."""
    videos = annotations.videos
    lengths, dimensions = lengths_and_dimensions(inventories, entry.layout or [])
    names = [path.name for path in entry.features]
    reasons = _broken(inventories, lengths, dimensions, names if len(names) > 1 else [""])
    length = lengths.min(axis=0)
    step = steps(entry, videos, length)
    expected = videos["duration"].to_numpy() / step
    difference = np.where(length > 0, length - expected, np.nan)
    gross = (np.abs(difference) > LENGTH_LIMIT * expected) & (np.abs(difference) > LENGTH_SLACK)
    reasons = _first_reason(
        reasons,
        np.where(np.isnan(step) & (length > 0), "no duration or fps to place its snippets in time", ""),
        np.where(gross, _length_texts(length, expected), ""),
    )
    duration = np.where(videos["duration"].isna(), length * step, videos["duration"])
    counts = annotations.ground_truth["video_id"].value_counts()
    index = pd.DataFrame(
        {
            "video_id": videos["video_id"].to_numpy(),
            "subset": subset.to_numpy(),
            "duration": np.where(duration > 0, duration, np.nan),
            "fps": videos["fps"].to_numpy(),
            "length": length,
            "dimension": dimensions.sum(axis=0),
            "dtype": _dtypes(inventories),
            "path": inventories[0]["path"].to_numpy(),
            "snippet_seconds": step,
            "offset_seconds": offsets(entry, step),
            "usable": reasons == "",
            "reason": reasons,
            "num_segments": counts.reindex(videos["video_id"], fill_value=0).to_numpy(),
            "video_path": [video_files.get(video_id, "") for video_id in videos["video_id"]],
            "nonfinite": _nonfinite(inventories),
        }
    )
    index = index.astype(
        dict.fromkeys(("video_id", "subset", "dtype", "path", "reason", "video_path"), "str")
    )
    notes = _broken_findings(index)
    odd = (
        (np.abs(difference) > LENGTH_WARNING * expected)
        & (np.abs(difference) > LENGTH_SLACK)
        & index["usable"]
    )
    texts = pd.Series(_length_texts(length, expected))[odd.to_numpy()]
    advice = "Check the stride, the frame rate and the video's duration."
    notes += grouped_findings("warning", "length", index.loc[odd, "video_id"], texts, advice)
    return index, [*notes, *_conversion_findings(inventories, lengths, index, names)]


def _dtypes(inventories: list[pd.DataFrame]) -> np.ndarray:
    """What each video's streams are stored as (V,); float32, as they are read, where they differ."""
    first, *others = [files["dtype"].to_numpy(object) for files in inventories]
    alike = np.all([other == first for other in others], axis=0) if others else True
    return np.where(alike, first, "float32")


def _nonfinite(inventories: list[pd.DataFrame]) -> np.ndarray:
    """NaN and infinite values per video over all streams (V,), -1 where not all were scanned."""
    values = np.array([files["nonfinite"].to_numpy() for files in inventories])
    return np.where((values < 0).any(axis=0), -1, values.sum(axis=0))


def _broken(
    inventories: list[pd.DataFrame], lengths: np.ndarray, dimensions: np.ndarray, names: list[str]
) -> np.ndarray:
    """Why each video's files can't be used (V,), ``""`` where they can."""
    reasons = np.full(lengths.shape[1], "", object)
    for files, length, dimension, name in zip(inventories, lengths, dimensions, names, strict=True):
        prefix = f"{name}: " if name else ""
        missing = (files["path"] == "").to_numpy()
        sound = dimension[(dimension > 0) & (files["problem"] == "").to_numpy()]
        usual = np.bincount(sound).argmax() if len(sound) else 0
        differs = (dimension != usual) & ~missing
        turned = differs & (length == usual)
        other = [f"{prefix}{d} channels, the other videos have {usual}" for d in dimension]
        shapes = [
            f"{prefix}looks transposed: {t} x {d}, the others are T x {usual}"
            for t, d in zip(length, dimension, strict=True)
        ]
        bad = [f"{prefix}{n} NaN or infinite values" for n in files["nonfinite"]]
        reasons = _first_reason(
            reasons,
            np.where(missing, f"{prefix}no feature file", ""),
            np.where(files["problem"] != "", prefix + files["problem"].astype(object), ""),
            np.where(turned, shapes, ""),
            np.where(differs, other, ""),
            np.where((files["nonfinite"] > 0).to_numpy(), bad, ""),
        )
    apart = np.ptp(lengths, axis=0)
    texts = [f"its streams have {', '.join(map(str, column))} snippets" for column in lengths.T]
    return _first_reason(reasons, np.where(apart > STREAM_SLACK, texts, ""))


def _first_reason(*columns: np.ndarray) -> np.ndarray:
    """Elementwise the first text that isn't empty."""
    reasons = np.asarray(columns[0], object)
    for column in columns[1:]:
        reasons = np.where(reasons == "", np.asarray(column, object), reasons)
    return reasons


def _length_texts(length: np.ndarray, expected: np.ndarray) -> np.ndarray:
    pairs = zip(length, expected, strict=True)
    return np.array([f"{t} snippets, its duration says {e:.0f}" for t, e in pairs], object)


def _broken_findings(index: pd.DataFrame) -> list[dict]:
    broken = index[~index["usable"]]
    missing = broken["reason"].str.endswith("no feature file")
    advice = "Left out of training; in evaluation its annotations count as missed. "
    notes = []
    for kind, rows, hint in (
        ("missing features", broken[missing], "Add the file."),
        ("broken features", broken[~missing], "Make the features of this video again."),
    ):
        notes += grouped_findings("error", kind, rows["video_id"], rows["reason"], advice + hint)
    if 2 * missing.sum() > len(index) and len(index) > _LIST_UP_TO:
        detail = f"only {len(index) - missing.sum()} of {len(index)} annotated videos have a feature file"
        hint = "Is it the right folder, and copied to its end?"
        notes.append(finding("warning", "few features", detail, advice=hint))
    return notes


def _conversion_findings(
    inventories: list[pd.DataFrame], lengths: np.ndarray, index: pd.DataFrame, names: list[str]
) -> list[dict]:
    """What is read otherwise than it is stored, and what was not looked at."""
    notes = []
    for files, name in zip(inventories, names, strict=True):
        whole = files["dtype"].str.match(r"u?int")
        if whole.any():
            detail = (
                f"{int(whole.sum())} files of {name} hold whole numbers ({files['dtype'][whole].iloc[0]})"
            )
            notes.append(finding("info", "dtype", detail, advice="They are read as float32."))
        pairs = zip(index["video_id"].tolist(), files["path"].tolist(), strict=True)
        renamed = [v for v, path in pairs if path and f"{os.sep}{v}." not in path]
        if renamed and not files["key"].any():
            detail = (
                f"{len(renamed)} files of {name} are not named exactly like the video (first: {renamed[0]})"
            )
            notes.append(finding("info", "file names", detail, advice="They are matched all the same."))
    cropped = int(((np.ptp(lengths, axis=0) > 0) & index["usable"]).sum())
    if cropped:
        detail = f"the streams of {cropped} videos differ by up to {STREAM_SLACK} snippets"
        notes.append(finding("info", "streams", detail, advice="The longer stream is cropped."))
    unseen = int((index["usable"] & (index["nonfinite"] < 0)).sum())
    if unseen:
        advice = "Run: python -m tal_core datasets check"
        notes.append(
            finding("info", "not scanned", f"{unseen} videos were not checked for NaN yet", advice=advice)
        )
    return notes


def grouped_findings(level: str, kind: str, videos: pd.Series, details: pd.Series, advice: str) -> list[dict]:
    """One finding per video, or where they are many one per sort of detail, that counts them.

    Details are of one sort if they differ in their numbers only.
    """
    if len(videos) <= _LIST_UP_TO:
        rows = zip(videos, details, strict=True)
        return [finding(level, kind, detail, video_id=video_id, advice=advice) for video_id, detail in rows]
    sorts = details.str.replace(r"\d+", "#", regex=True).to_numpy()
    table = pd.DataFrame({"video": videos.to_numpy(), "detail": details.to_numpy(), "sort": sorts})
    groups = table.groupby("sort", sort=False).agg(
        number=("video", "size"), video=("video", "first"), detail=("detail", "first")
    )
    lines = groups.sort_values("number", ascending=False, kind="stable").itertuples(index=False, name=None)
    return [
        finding(level, kind, f"{number} videos, first {video}: {detail}", advice=advice)
        for number, video, detail in lines
    ]


# --- the Parquet file ---------------------------------------------------------------------------------


def index_path(home: Path, name: str) -> Path:
    return home / "datasets" / f"{name}.index.parquet"


@dataclass(frozen=True)
class SavedIndex:
    """An index as it was saved, and what was found and settled when it was made.

    ``keys`` stand for the state of entry and files that it describes, the entry as given or as settled.
    """

    keys: list[str]
    index: pd.DataFrame
    findings: list[dict]
    entry: DatasetEntry


def load_index(path: Path, key: str) -> SavedIndex | None:
    """The index saved at ``path`` if it describes the files as they are now, which ``key`` stands for."""
    try:
        schema = pq.read_schema(path)
        kept = json.loads((schema.metadata or {})[_KEPT])
        if not key or key not in kept["keys"]:
            return None
        columns = [name for name in schema.names if not _OF_A_FILE.match(name)]
        index = pq.read_table(path, columns=columns).to_pandas()
        return SavedIndex(
            kept["keys"], index, kept["findings"], DatasetEntry.model_validate_json(kept["entry"])
        )
    except (OSError, pa.ArrowInvalid, ValueError, KeyError):  # absent, damaged or of an older form
        return None


def load_inventories(path: Path, streams: int) -> list[pd.DataFrame | None]:
    """What a former index knows of each stream's files; ``None`` where there is no usable index."""
    try:
        table = pq.read_table(path).to_pandas().set_index("video_id")
        return [_file_columns(table, k) for k in range(streams)]
    except (OSError, pa.ArrowInvalid, KeyError):  # absent, damaged or of an older form: it is made anew
        return [None] * streams


def _file_columns(table: pd.DataFrame, stream: int) -> pd.DataFrame:
    prefix = f"feature{stream}_"
    return table[[prefix + column for column in FILE_COLUMNS]].rename(
        columns=lambda c: c.removeprefix(prefix)
    )


def save_index(kept: SavedIndex, inventories: list[pd.DataFrame], path: Path) -> None:
    """Replace the index file, if anything in it changed: whole, or not at all.

    Raises:
        InputError: if it can't be written; the former index then stays.
    """
    parts = [files.reset_index(drop=True).add_prefix(f"feature{k}_") for k, files in enumerate(inventories)]
    table = pa.Table.from_pandas(pd.concat([kept.index, *parts], axis=1), preserve_index=False)
    said = {"keys": kept.keys, "findings": kept.findings, "entry": kept.entry.model_dump_json()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEPT: json.dumps(said).encode()})
    try:
        if pq.read_table(path).equals(table, check_metadata=True):
            return
    except (OSError, pa.ArrowInvalid):
        pass  # absent or damaged: it is written below
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, sink.getvalue())
