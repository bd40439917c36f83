"""Feature stores: folders (or .h5 files) with one array per video, one or several streams.

Whatever a file's own order, features leave here time first, (T, D); as float32, or float16 where
that is stored and wanted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tal_core.data.features.arrays import (
    H5_SUFFIXES,
    SUFFIXES,
    Header,
    Source,
    h5_keys,
    read_array,
    read_header,
)
from tal_core.data.formats.video_ids import find_name
from tal_core.types import InputError

STREAM_SLACK = 8
"""Snippets by which the streams of one video may differ in length; the longer ones are cropped."""

_SAMPLE = 200


@dataclass(frozen=True)
class Stream:
    """One folder of features, listed but not opened.

    ``sources``: feature id (file name without ending, or key in the ``.h5``) to array. ``stamps``: size in
    bytes and modification time in ns of each file. ``twice``: files whose id another file already has.
    """

    root: Path
    sources: dict[str, Source]
    stamps: dict[str, tuple[int, int]]
    twice: list[Path]

    def digest(self) -> bytes:
        """A hash of all names, sizes and times, which changes when any file does."""
        names = "\0".join(f"{s.file}\0{s.key}" for s in self.sources.values())
        content = hashlib.blake2b(names.encode("utf-8", "surrogateescape"), digest_size=16)
        content.update(np.array(list(self.stamps.values()), np.int64).tobytes())
        content.update("\0".join(map(str, self.twice)).encode("utf-8", "surrogateescape"))
        return content.digest()

    def changes(self) -> tuple[int, int, int]:
        """How many files went, how many changed, and of how many, since they were listed."""
        files = {source.file: self.stamps[name] for name, source in self.sources.items()}
        gone = changed = 0
        for file, stamp in files.items():
            try:
                stat = os.stat(file)  # noqa: PTH116  # 20 000 times, a Path is slow
            except OSError:
                gone += 1
            else:
                changed += (stat.st_size, stat.st_mtime_ns) != stamp
        return gone, changed, len(files)

    def find(self, video_id: str) -> str | None:
        """The feature id of a video: its own id, or one that ``names.find_name`` takes for it."""
        return find_name(video_id, self.sources)


class FeatureHeader(NamedTuple):
    """Snippets, channels (all streams together) and stored dtype of one video."""

    length: int
    dimension: int
    dtype: np.dtype


class FeatureStore:
    """Reads the features of videos from one or several streams, concatenated along the channels."""

    def __init__(self, streams: Sequence[Stream], layouts: Sequence[str]):
        self.streams = list(streams)
        self.layouts = list(layouts)

    def video_ids(self) -> list[str]:
        """Videos that every stream has, by name."""
        return sorted(set.intersection(*(set(stream.sources) for stream in self.streams)))

    def header(self, video_id: str) -> FeatureHeader:
        """Length and dimension of a video, from the file headers alone. Raises as ``read``."""
        headers = [read_header(source) for source in self._sources(video_id)]
        for header, source in zip(headers, self._sources(video_id), strict=True):
            _check_two_dimensions(header, source)
        axes = [layout == "DT" for layout in self.layouts]
        length = min(h.shape[axis] for h, axis in zip(headers, axes, strict=True))
        dimension = sum(h.shape[1 - axis] for h, axis in zip(headers, axes, strict=True))
        return FeatureHeader(length, dimension, headers[0].dtype)

    def read(
        self, video_id: str, start: int = 0, stop: int | None = None, *, as_stored: bool = False
    ) -> np.ndarray:
        """Snippets ``start:stop`` of a video, float32 (T, D); with ``as_stored`` float16 stays float16.

        Raises:
            InputError: if a stream lacks the video or its file can't be read.
        """
        parts = [
            read_array(source, start, stop, time_axis=int(layout == "DT"), as_stored=as_stored)
            for source, layout in zip(self._sources(video_id), self.layouts, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        length = min(len(part) for part in parts)
        return np.concatenate([part[:length] for part in parts], axis=1)

    def changes(self) -> tuple[int, int, int]:
        """Files of all streams that went, that changed, and their number, since they were listed."""
        gone, changed, total = zip(*(stream.changes() for stream in self.streams), strict=True)
        return sum(gone), sum(changed), sum(total)

    def _sources(self, video_id: str) -> list[Source]:
        names = [stream.find(video_id) for stream in self.streams]
        for stream, name in zip(self.streams, names, strict=True):
            if name is None:
                raise InputError(
                    f"no features of video {video_id!r}", where=stream.root, hint="Add the file."
                )
        return [stream.sources[name] for stream, name in zip(self.streams, names, strict=True) if name]


def open_features(folders: Sequence[Path], layout: str = "auto") -> FeatureStore:
    """Open feature folders (or ``.h5`` files), one per stream.

    ``layout``: ``TD`` (time, channels), ``DT`` (channels, time), or ``auto``: the dimension that all files
    share is the channels'.

    Raises:
        InputError: if a folder holds no features, or the layout can't be told.
    """
    streams = [list_stream(Path(folder)) for folder in folders]
    if layout != "auto":
        return FeatureStore(streams, [check_layout(layout)] * len(streams))
    layouts = []
    for stream in streams:
        sources = list(stream.sources.values())[:_SAMPLE]
        shapes = [header.shape for header in map(read_header, sources) if len(header.shape) == 2]
        layouts.append(decide_layout(np.array(shapes).reshape(-1, 2), stream.root))
    return FeatureStore(streams, layouts)


def read_feature_file(path: Path, layout: str = "auto", dimension: int | None = None) -> np.ndarray:
    """All features of a single file, float32 (T, D).

    With ``auto``, ``dimension`` (what the model expects) tells time from channels.

    Raises:
        InputError: if the file can't be used, or its layout can't be told.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("no such file", where=path, hint="Check the path.")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"unknown ending {path.suffix!r}", where=path, hint=f"Known: {', '.join(SUFFIXES)}.")
    source = Source(str(path))
    header = read_header(source)
    _check_two_dimensions(header, source)
    if layout == "auto":
        fits = [
            name for name, size in (("TD", header.shape[1]), ("DT", header.shape[0])) if size == dimension
        ]
        if dimension is not None and not fits:
            raise InputError(
                f"shape {header.shape} has no {dimension} channels",
                where=path,
                hint="Use the features that the model was trained on.",
            )
        if not fits:
            raise InputError(
                f"is shape {header.shape} (time, channels)?",
                where=path,
                hint="Say so with --layout TD or DT.",
            )
        layout = fits[0]
    return read_array(source, time_axis=int(check_layout(layout) == "DT"))


def check_layout(layout: str) -> str:
    """``TD`` or ``DT``. Raises ``InputError`` for anything else."""
    if layout.upper() not in ("TD", "DT"):
        raise InputError(
            f"unknown layout {layout!r}", hint="Use auto, TD (time, channels) or DT (channels, time)."
        )
    return layout.upper()


def decide_layout(shapes: np.ndarray, where: Path, expected: np.ndarray | None = None) -> str:
    """Tell from all shapes (N, 2) of a stream which axis is time.

    The axis whose size most files share is the channels'. Where both are shared alike (videos of one length,
    a single file) the ``expected`` lengths (N,) decide, NaN where unknown.

    Raises:
        InputError: if it can't be told.
    """
    if len(shapes) == 0:
        return "TD"
    common = [np.unique(shapes[:, axis], return_counts=True)[1].max() / len(shapes) for axis in (0, 1)]
    if common[0] != common[1] and max(common) >= 0.5:
        return "TD" if common[1] > common[0] else "DT"
    if expected is not None and np.isfinite(expected).any():
        misfit = np.nanmedian(
            np.abs(np.log(np.maximum(shapes, 1)) - np.log(np.maximum(expected, 1))[:, None]), axis=0
        )
        if misfit[0] != misfit[1]:
            return "TD" if misfit[0] < misfit[1] else "DT"
    example = tuple(int(size) for size in shapes[0])
    raise InputError(
        f"is an array of shape {example} (time, channels) or (channels, time)?",
        where=where,
        hint="Say so with --layout TD or --layout DT.",
    )


def list_stream(root: Path) -> Stream:
    """List the feature files under ``root`` (two levels deep at most), or the videos in an ``.h5`` file.

    Raises:
        InputError: if there are none.
    """
    root = Path(root)
    if root.is_file() and root.suffix.lower() in H5_SUFFIXES:
        return _h5_stream(root)
    if not root.is_dir():
        raise InputError(
            "no such feature folder", where=root, hint="Give a folder of feature files, or one .h5 file."
        )
    sources: dict[str, Source] = {}
    stamps: dict[str, tuple[int, int]] = {}
    twice: list[Path] = []
    for entry in _files(root, depth=2):
        stem, ending = os.path.splitext(entry.name)  # noqa: PTH122  # 20 000 times, a Path is slow
        if ending.lower() not in SUFFIXES or stem.startswith("."):
            continue
        if stem in sources:
            twice.append(Path(entry.path))
            continue
        try:
            stat = entry.stat()
        except OSError:  # gone since the folder was listed: as if it had never been there
            continue
        sources[stem] = Source(entry.path)
        stamps[stem] = (stat.st_size, stat.st_mtime_ns)
    if not sources:
        raise InputError(
            "no feature files in this folder", where=root, hint=f"Known endings: {', '.join(SUFFIXES)}."
        )
    only = next(iter(sources.values())).path
    if len(sources) == 1 and only.suffix.lower() in H5_SUFFIXES and len(h5_keys(only)) > 1:
        return _h5_stream(only)
    return Stream(root, sources, stamps, twice)


def _h5_stream(path: Path) -> Stream:
    stat = path.stat()
    keys = h5_keys(path)
    if not keys:
        raise InputError("no arrays in this file", where=path, hint="Write one dataset per video.")
    return Stream(
        path,
        {k: Source(str(path), k) for k in keys},
        dict.fromkeys(keys, (stat.st_size, stat.st_mtime_ns)),
        [],
    )


def _files(folder: Path, depth: int) -> list[os.DirEntry]:
    """Files of a folder and of its subfolders, by name; links to folders are not followed."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"can't be listed ({error.strerror})", where=folder, hint="Check its permissions."
        ) from error
    found = [entry for entry in entries if entry.is_file()]
    if depth > 0:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _files(Path(entry.path), depth - 1)
    return found


def _check_two_dimensions(header: Header, source: Source) -> None:
    problem = shape_problem(header)
    if problem:
        raise InputError(problem, where=source, hint="Write a 2-D array (time, channels).")


def shape_problem(header: Header) -> str:
    """Why an array of this shape can't be features; ``""`` if it can."""
    if len(header.shape) != 2:
        return f"{len(header.shape)}-D array of shape {header.shape}, not (time, channels)"
    return "" if min(header.shape) else f"empty array of shape {header.shape}"
