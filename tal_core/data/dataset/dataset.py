"""An open dataset: annotations, index and features together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from tal_core.data.dataset.annotation_cache import read_kept_annotations
from tal_core.data.dataset.entry import DatasetEntry, load_entry
from tal_core.data.dataset.index import (
    SavedIndex,
    build_index,
    index_path,
    lengths_and_dimensions,
    load_index,
    load_inventories,
    save_index,
)
from tal_core.data.dataset.inventory import SCAN_AT_ONCE, scan, take_inventory, unscanned_bytes
from tal_core.data.dataset.subsets import choose_subsets, split_videos
from tal_core.data.dataset.timing import check_timing, derive_timing, steps
from tal_core.data.features.store import FeatureStore, Stream, decide_layout, list_stream
from tal_core.data.formats.blocked import leave_out, read_blocked
from tal_core.data.formats.class_scores import ClassScores, read_class_scores
from tal_core.data.formats.video_ids import VIDEO_SUFFIXES, find_name
from tal_core.types import FINDING_COLUMNS, Annotations, InputError, Progress, TimeGrid, finding
from tal_core.workspace import writing

_LOCK_SECONDS = 900


@dataclass(frozen=True)
class Dataset:
    """A registered dataset, ready to explore and train on.

    ``index``: one row per video (see ``index.build_index``). ``findings``: everything odd
    (``FINDING_COLUMNS``). ``blocked``: videos that annotations and detections leave out. Tables are shared
    by all callers, so copy before changing one.
    """

    entry: DatasetEntry
    annotations: Annotations
    index: pd.DataFrame
    findings: pd.DataFrame
    store: FeatureStore = field(repr=False)
    blocked: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.entry.name

    @cached_property
    def labels(self) -> list[str]:
        """Class names in alphabetical order; the position is the class's index in every model."""
        return self.annotations.labels

    @cached_property
    def subsets(self) -> list[str]:
        """Subsets that have videos, in order of appearance."""
        return [name for name in self.index["subset"].unique() if name]

    @property
    def training_subset(self) -> str:
        return self.entry.training_subset

    @property
    def evaluation_subset(self) -> str:
        return self.entry.evaluation_subset

    @property
    def tiou(self) -> list[float]:
        """The dataset's usual tIoU thresholds."""
        return list(self.entry.tiou)

    @property
    def extractor(self) -> dict[str, Any] | None:
        """Settings of the extractor that made the features from the videos, if this program did."""
        return self.entry.extractor

    @property
    def num_features(self) -> int:
        """Channels of the features, D. Raises ``InputError`` if no video is usable."""
        usable = self.index.loc[self.index["usable"], "dimension"]
        if usable.empty:
            raise InputError(
                "no video has usable features",
                where=f"dataset {self.name}",
                hint="See: python -m tal_core datasets check.",
            )
        return int(usable.iloc[0])

    def videos(self, subset: str | None = None, usable: bool = True) -> list[str]:
        """Video ids of a subset (of all if ``None``), by default only those with usable features."""
        keep = self._in_subset(subset)
        if usable:
            keep = keep & self.index["usable"].to_numpy()
        return self.index["video_id"][keep].tolist()

    def ground_truth(self, subset: str | None = None, videos: Sequence[str] | None = None) -> pd.DataFrame:
        """Annotated segments of a subset, videos without features included, or of the given videos."""
        keep = self._in_subset(subset)
        if videos is not None:
            given = np.zeros(len(self.index), bool)
            given[[self._places[video] for video in videos if video in self._places]] = True
            keep = keep & given
        return self.annotations.ground_truth[keep[self._of_segment]].reset_index(drop=True)

    def lengths(self, videos: Sequence[str]) -> np.ndarray:
        """Snippets of each of ``videos`` (V,) int64; 0 where there are no features."""
        lengths = self._columns["length"]
        return np.array([lengths[self._places[video]] for video in videos], np.int64)

    def dtypes(self, videos: Sequence[str]) -> list[str]:
        """What the features of each of ``videos`` are stored as."""
        dtypes = self._columns["dtype"]
        return [dtypes[self._places[video]] for video in videos]

    def duration(self, video_id: str) -> float:
        """Seconds; from the features where the annotations don't say."""
        return float(self._row(video_id)["duration"])

    def grid(self, video_id: str) -> TimeGrid:
        """Where the video's snippets lie in time."""
        row = self._row(video_id)
        return TimeGrid(row["snippet_seconds"], row["offset_seconds"])

    def features(
        self, video_id: str, start: int = 0, stop: int | None = None, *, as_stored: bool = False
    ) -> np.ndarray:
        """Snippets ``start:stop`` of a video, float32 (T, D); with ``as_stored`` float16 stays float16.

        Raises:
            InputError: if the video is unknown, has no usable features, or its file has changed or gone.
        """
        row = self._row(video_id)
        length = row["length"]
        if not length:
            raise InputError(
                row["reason"], where=f"video {video_id}", hint="See: python -m tal_core datasets check."
            )
        start, stop, _ = slice(start, stop).indices(length)
        try:
            part = self.store.read(video_id, start, stop, as_stored=as_stored)
        except InputError as error:
            raise self._changed(error.what, error.where) from error
        if part.shape != (max(0, stop - start), row["dimension"]):
            what = f"has other snippets or channels than the {length} x {row['dimension']} that were indexed"
            raise self._changed(what, f"features of {video_id}")
        return part

    def _changed(self, what: str, where: object) -> InputError:
        """The error for a file that can't be read as indexed; it counts all that changed since."""
        gone, changed, total = self.store.changes()
        if gone + changed:
            what += (
                f"; since the dataset was opened {gone} of {total} feature files went and {changed} changed"
            )
        hint = "Put the files back, or wait until they are copied; or check anew: python -m tal_core datasets"
        return InputError(what, where=where, hint=f"{hint} check {self.name}.")

    def class_scores(self, videos: Sequence[str], labels: Sequence[str] | None = None) -> ClassScores:
        """Video-level class scores of ``videos``, in the order of ``labels`` (the dataset's by default).

        Raises:
            InputError: if the dataset has none, they can't be used, or one of ``videos`` has none.
        """
        if self.entry.class_scores is None:
            raise InputError(
                "there are no video-level class scores",
                where=f"dataset {self.name}",
                hint="Add them (datasets add ... --class-scores FILE --replace), or let the method learn the"
                " classes (classifier=head, classes=all).",
            )
        scores = read_class_scores(self.entry.class_scores, self.labels if labels is None else labels)
        scores.check(videos)
        return scores

    def video_path(self, video_id: str) -> Path | None:
        """The video file, if the dataset has one."""
        path = self._row(video_id)["video_path"]
        return Path(path) if path else None

    def fingerprint(self) -> str:
        """A short hash that changes with the annotations, the split, the grid or the features' shapes."""
        columns = [
            "video_id",
            "subset",
            "duration",
            "length",
            "dimension",
            "snippet_seconds",
            "offset_seconds",
            "usable",
        ]
        content = hashlib.sha256()
        for table in (self.annotations.ground_truth, self.annotations.ambiguous, self.index[columns]):
            content.update(table.to_csv(index=False).encode())
        return content.hexdigest()[:16]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Row of each video in the index."""
        return {video: row for row, video in enumerate(self.index["video_id"].tolist())}

    @cached_property
    def _of_segment(self) -> np.ndarray:
        """Row of each annotated segment's video in the index."""
        videos = self.annotations.ground_truth["video_id"].tolist()
        return np.fromiter((self._places[video] for video in videos), np.int64, len(videos))

    @cached_property
    def _columns(self) -> dict[str, list]:
        """What is asked of single videos, by column; plain lists are quicker than a table."""
        wanted = (
            "length",
            "dimension",
            "dtype",
            "reason",
            "duration",
            "snippet_seconds",
            "offset_seconds",
            "video_path",
        )
        return {name: self.index[name].tolist() for name in wanted}

    def _row(self, video_id: str) -> dict[str, Any]:
        row = self._places.get(video_id)
        if row is None:
            raise InputError(
                f"there is no video {video_id!r}", where=f"dataset {self.name}", hint="Check its id."
            )
        return {name: values[row] for name, values in self._columns.items()}

    def _in_subset(self, subset: str | None) -> np.ndarray:
        """Which rows of the index are in a subset (V,)."""
        if subset is None:
            return np.ones(len(self.index), bool)
        codes, names = pd.factorize(self.index["subset"])
        known = {name.lower(): code for code, name in enumerate(names) if name}
        if subset.lower() not in known:
            raise InputError(
                f"there is no subset {subset!r}",
                where=f"dataset {self.name}",
                hint=f"Subsets: {', '.join(name for name in names if name)}.",
            )
        wanted = [code for code, name in enumerate(names) if name.lower() == subset.lower()]
        return np.isin(codes, wanted)


def open_dataset(
    home: Path, name: str, progress: Progress | None = None, *, scan_all: bool = False
) -> Dataset:
    """Open a registered dataset. Only files that changed since the last time are looked at.

    ``scan_all``: check the content of every feature file for NaN, however big the dataset is.

    Raises:
        InputError: if the dataset is unknown, or its annotations or features can't be used at all.
    """
    return open_entry(home, load_entry(home, name), progress, scan_all=scan_all)


def open_entry(
    home: Path, entry: DatasetEntry, progress: Progress | None = None, *, scan_all: bool = False
) -> Dataset:
    """Open the dataset that ``entry`` describes, registered or not, and settle what it leaves open."""
    path = index_path(home, entry.name)
    parts = _list_parts(entry, path)
    # Opening what is indexed already takes no lock, so any number of processes can.
    known = None if scan_all else load_index(path, parts.key(entry))
    if known is None:
        with _locked(path, progress):
            # The process that held the lock before may have just made it.
            known = None if scan_all else load_index(path, parts.key(entry))
            known = known or _make_index(parts, path, progress, scan_all)
    annotations, notes = parts.annotations, pd.DataFrame(known.findings, columns=list(FINDING_COLUMNS))
    findings = pd.concat([notes.astype("str"), annotations.findings], ignore_index=True)
    store = FeatureStore(parts.streams, known.entry.layout or [])
    return Dataset(known.entry, annotations, known.index, findings, store, parts.blocked)


@dataclass(frozen=True)
class _Parts:
    """What a dataset is made of, its feature files listed but not opened.

    ``state``: a hash of all of it but the entry, names, sizes and times of files; ``""``: not known.
    """

    entry: DatasetEntry
    annotations: Annotations
    streams: list[Stream]
    video_files: dict[str, str]
    blocked: frozenset[str]
    state: str

    def key(self, entry: DatasetEntry) -> str:
        """What stands for these parts, described by ``entry``."""
        text = f"{self.state} {entry.model_dump_json()}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if self.state else ""


def _list_parts(entry: DatasetEntry, index: Path) -> _Parts:
    """Read the annotations and list the files of a dataset whose index is at ``index``."""
    kept = index.with_name(f"{entry.name}.annotations.arrow")
    annotations, content = read_kept_annotations(entry.annotations, entry.video_info, kept, entry.tiers)
    blocked = read_blocked(entry.blocked) if entry.blocked is not None else frozenset()
    if entry.blocked is not None:
        annotations = leave_out(annotations, blocked, entry.blocked)
    streams = [list_stream(folder) for folder in entry.features]
    video_files = _video_files(entry.videos, annotations.videos["video_id"])
    state = hashlib.blake2b(f"{content} {video_files} {sorted(blocked)}".encode(), digest_size=16)
    for stream in streams:
        state.update(stream.digest())
    known = state.hexdigest() if content else ""
    return _Parts(entry, annotations, streams, video_files, blocked, known)


def _make_index(parts: _Parts, path: Path, progress: Progress | None, scan_all: bool) -> SavedIndex:
    """Look at the files that changed since the index at ``path`` was made, judge all, save the index."""
    entry, annotations, streams = parts.entry, parts.annotations, parts.streams
    videos = annotations.videos
    check_timing(entry, videos)
    entry = entry.model_copy(update=choose_subsets(entry, videos, annotations.ground_truth))
    inventories = [
        take_inventory(stream, videos["video_id"].tolist(), old, progress)
        for stream, old in zip(streams, load_inventories(path, len(streams)), strict=True)
    ]
    if scan_all or sum(map(unscanned_bytes, inventories)) <= SCAN_AT_ONCE:
        inventories = [scan(files, progress) for files in inventories]
    entry = _complete(entry, videos, inventories)
    subset = split_videos(entry, videos, annotations.ground_truth)
    index, notes = build_index(entry, annotations, subset, inventories, parts.video_files)
    notes += _stream_findings(streams, inventories)
    notes += [finding("info", "derived", text) for text in entry.derived]
    if entry.videos is not None and (shown := int((index["video_path"] != "").sum())) < len(index):
        notes.append(finding("info", "video files", f"{shown} of {len(index)} videos can be watched"))
    keys = sorted({parts.key(parts.entry), parts.key(entry)} - {""})
    kept = SavedIndex(keys, index, notes, entry)
    save_index(kept, inventories, path)
    return kept


def _complete(entry: DatasetEntry, videos: pd.DataFrame, inventories: list[pd.DataFrame]) -> DatasetEntry:
    """Settle layout and timing from the features where the entry leaves them open."""
    if entry.layout is None:
        expected = videos["duration"].to_numpy() / steps(entry, videos)
        layouts = []
        for files, folder in zip(inventories, entry.features, strict=True):
            sound = (files["rows"] > 0).to_numpy() & (files["columns"] > 0).to_numpy()
            layouts.append(
                decide_layout(files.loc[sound, ["rows", "columns"]].to_numpy(), folder, expected[sound])
            )
        entry = entry.model_copy(update={"layout": layouts})
    if len(entry.layout or []) != len(entry.features):
        raise InputError("layout needs one value per feature folder", where=f"dataset {entry.name}")
    lengths = lengths_and_dimensions(inventories, entry.layout or [])[0].min(axis=0)
    if not lengths.any():
        raise InputError(
            f"none of {len(videos)} annotated videos has readable features ({_first_trouble(inventories)})",
            where=", ".join(map(str, entry.features)),
            hint="Files must be named after the videos, like <video id>.npy.",
        )
    return entry.model_copy(update=derive_timing(entry, videos, lengths))


def _first_trouble(inventories: list[pd.DataFrame]) -> str:
    for files in inventories:
        problem = files["problem"].mask(files["path"] == "", "no feature file")
        if (problem != "").any():
            return f"{problem[problem != ''].index[0]}: {problem[problem != ''].iloc[0]}"
    return "no video"


def _stream_findings(streams: list[Stream], inventories: list[pd.DataFrame]) -> list[dict]:
    """Feature files that belong to no video, or to one that has a file already."""
    notes = []
    for stream, files in zip(streams, inventories, strict=True):
        used = set(zip(files["path"], files["key"], strict=True))
        spare = [name for name, s in stream.sources.items() if (s.file, s.key) not in used]
        if spare:
            detail = (
                f"{len(spare)} files of {stream.root.name} belong to no annotated video (first: {spare[0]})"
            )
            notes.append(finding("info", "spare features", detail, advice="They are not used."))
        if stream.twice:
            detail = (
                f"{len(stream.twice)} files of {stream.root.name} repeat a name (first: {stream.twice[0]})"
            )
            notes.append(
                finding("warning", "file names", detail, advice="The first in alphabetical order is used.")
            )
    return notes


def _video_files(folder: Path | None, video_ids: pd.Series) -> dict[str, str]:
    """Video id to video file, for the files in ``folder`` and below; ids are only looked up, never joined."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InputError("no such video folder", where=folder, hint="Correct it, or leave the videos out.")
    files: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES):
        files.setdefault(path.stem, str(path))
    return {video: files[name] for video in video_ids if (name := find_name(video, files))}


@contextmanager
def _locked(path: Path, progress: Progress | None) -> Iterator[None]:
    """Hold the index of one dataset: two processes never index at once."""
    lock = FileLock(path.with_name(path.name.replace(".parquet", ".lock")))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            if progress is not None:
                progress(0, 1, "Waiting for another process that indexes this dataset")
            _wait(lock, path)
    try:
        yield
    finally:
        lock.release()


def _wait(lock: FileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        what = f"another process has been indexing this dataset for {_LOCK_SECONDS // 60} minutes"
        raise InputError(what, where=path, hint="Try again later.") from None
