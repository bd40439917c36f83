"""What is known of every feature file without opening it again; kept in the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from tal_core.data.features.arrays import Source, read_array, read_header
from tal_core.data.features.store import Stream, shape_problem
from tal_core.types import InputError, Progress

NOT_SCANNED = -1
SCAN_AT_ONCE = 2 * 1024**3
"""Bytes of unscanned features up to which their content is checked without being asked."""

FILE_COLUMNS = {
    "path": "str", "key": "str", "size": "int64", "mtime": "int64", "rows": "int64", "columns": "int64",
    "dtype": "str", "problem": "str", "nonfinite": "int64",
}  # fmt: skip
_CHUNK = 4 * 1024**2
_THREADS = 8


def take_inventory(
    stream: Stream, video_ids: list[str], old: pd.DataFrame | None, progress: Progress | None
) -> pd.DataFrame:
    """One row per video (same order): its file, stamp, shape, dtype and what is wrong with it.

    Rows of ``old`` whose file is unchanged are kept; only the headers of the others are read. Videos
    without a file have the path ``""``.
    """
    names = [stream.find(video_id) for video_id in video_ids]
    now = pd.DataFrame(
        {
            "path": [stream.sources[n].file if n else "" for n in names],
            "key": [stream.sources[n].key if n else "" for n in names],
            "size": [stream.stamps[n][0] if n else 0 for n in names],
            "mtime": [stream.stamps[n][1] if n else 0 for n in names],
        },
        index=pd.Index(video_ids, dtype="str"),
    )
    now = now.assign(rows=0, columns=0, dtype="", problem="", nonfinite=NOT_SCANNED).astype(FILE_COLUMNS)
    if old is not None:
        before = old.reindex(now.index)
        same = (before[["path", "key", "size", "mtime"]] == now[["path", "key", "size", "mtime"]]).all(axis=1)
        kept = ["rows", "columns", "dtype", "problem", "nonfinite"]
        now.loc[same, kept] = before.loc[same, kept].astype({c: FILE_COLUMNS[c] for c in kept})
        todo = np.flatnonzero(~same & (now["path"] != ""))
    else:
        todo = np.flatnonzero(now["path"] != "")
    if len(todo):
        sources = [stream.sources[name] for row in todo if (name := names[row]) is not None]
        found = _in_threads(_examine, sources, progress, f"Reading feature headers of {stream.root.name}")
        header = ["rows", "columns", "dtype", "problem"]
        now.loc[now.index[todo], header] = pd.DataFrame(found).to_numpy(object)
    return now.astype(FILE_COLUMNS)


def _examine(source: Source) -> tuple[int, int, str, str]:
    """Rows, columns, dtype and problem of one file."""
    try:
        if not source.key and source.path.stat().st_size == 0:
            return 0, 0, "", "empty file (0 bytes)"
        header = read_header(source)
    except InputError as error:
        return 0, 0, "", error.what
    except OSError as error:
        return 0, 0, "", f"can't be read ({error.strerror or error})"
    problem = shape_problem(header)
    rows, columns = header.shape if len(header.shape) == 2 else (0, 0)
    return rows, columns, str(header.dtype), problem


def unscanned_bytes(inventory: pd.DataFrame) -> int:
    """Bytes of array content that has not been checked for NaN and infinite values."""
    rows = inventory[_unscanned(inventory)]
    return sum(
        int(r * c) * np.dtype(d).itemsize
        for r, c, d in zip(rows["rows"], rows["columns"], rows["dtype"], strict=True)
    )


def scan(inventory: pd.DataFrame, progress: Progress | None) -> pd.DataFrame:
    """Count the NaN and infinite values of all sound files not scanned yet (column ``nonfinite``)."""
    todo = _unscanned(inventory)
    if not todo.any():
        return inventory
    inventory = inventory.copy()
    rows = inventory.loc[todo, ["path", "key", "rows", "columns", "dtype"]].itertuples(index=False, name=None)
    found = _in_threads(_count_nonfinite, list(rows), progress, "Checking feature values")
    inventory.loc[todo, "nonfinite"] = [nonfinite for nonfinite, _ in found]
    inventory.loc[todo, "problem"] = [problem for _, problem in found]
    return inventory


def _unscanned(inventory: pd.DataFrame) -> np.ndarray:
    sound = (inventory["path"] != "") & (inventory["problem"] == "")
    return (sound & (inventory["nonfinite"] == NOT_SCANNED)).to_numpy()


def _count_nonfinite(row: tuple[str, str, int, int, str]) -> tuple[int, str]:
    """Non-finite values of one file, and why it can't be read through if it can't."""
    path, key, rows, columns, dtype = row
    source = Source(path, key)
    if np.dtype(dtype).kind != "f":
        return 0, ""
    # only these formats can read a part without reading everything before it
    partial = source.path.suffix.lower() in (".npy", ".h5", ".hdf5")
    step = max(1, _CHUNK // columns) if partial else rows
    try:
        parts = (read_array(source, start, start + step) for start in range(0, rows, step))
        return sum(int(part.size - np.isfinite(part).sum()) for part in parts), ""
    except InputError as error:
        return NOT_SCANNED, error.what


def _in_threads(work: Callable, items: list, progress: Progress | None, message: str) -> list:
    """``[work(i) for i in items]`` on several threads (reading waits for the disk), with progress."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(_counted(pool.map(work, items), len(items), progress, message))


def _counted(results: Iterable, total: int, progress: Progress | None, message: str) -> Iterable:
    every = max(1, total // 100)
    for done, result in enumerate(results, 1):
        if progress is not None and (done % every == 0 or done == total):
            progress(done, total, message)
        yield result
