"""One mean feature vector per video, kept in the workspace, so that whole datasets can be compared."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.dataset.dataset import Dataset
from tal_core.types import InputError, Progress
from tal_core.workspace import write_bytes, writing

_AT_ONCE = 4096
"""Snippets in memory at a time."""
_SAVE_SECONDS = 20.0
"""What an interruption may cost."""


@dataclass(frozen=True)
class PooledFeatures:
    """Mean features of a dataset's usable videos, in the order of its index.

    ``directions``: float16 (V, D), the means scaled to length 1, or 0 where the mean is. ``norms``: float32
    (V,), their length before; NaN where a video is not pooled yet or can't be read. ``unread``: why not, by
    video.
    """

    videos: list[str]
    directions: np.ndarray
    norms: np.ndarray
    unread: dict[str, str]

    @property
    def missing(self) -> int:
        """Videos still to be pooled, those that can't be read left out."""
        return int(np.isnan(self.norms).sum()) - len(self.unread)

    def complete(self) -> PooledFeatures:
        """The same without the videos that have no vector."""
        known = np.flatnonzero(~np.isnan(self.norms))
        if len(known) == len(self.videos):
            return self
        videos = [self.videos[place] for place in known]
        return PooledFeatures(videos, self.directions[known], self.norms[known], {})


def pooled_path(home: Path, name: str) -> Path:
    """Where a dataset's mean features are kept."""
    return home / "datasets" / f"{name}.pooled.npz"


def load_pooled(home: Path, dataset: Dataset) -> PooledFeatures:
    """What is pooled already. Vectors of files that have changed since count as missing."""
    return _load(home, dataset)[0]


def pool_features(home: Path, dataset: Dataset, progress: Progress | None = None) -> PooledFeatures:
    """Mean features of all usable videos. Only files that are new or have changed are read.

    Saves now and then, so an interrupted call costs little. Videos that can't be read are named in
    ``unread`` and tried again at the next call.

    Raises:
        InputError: if the workspace can't be written to.
    """
    pooled, stamps = _load(home, dataset)
    lengths = dataset.index.set_index("video_id")["length"]
    todo = np.flatnonzero(np.isnan(pooled.norms))
    path, saved, unsaved = pooled_path(home, dataset.name), time.monotonic(), False
    try:
        for done, place in enumerate(todo):
            try:
                mean = _mean(dataset, pooled.videos[place], int(lengths[pooled.videos[place]]))
            except InputError as error:
                pooled.unread[pooled.videos[place]] = str(error.what)
                continue
            norm = float(np.linalg.norm(mean))
            pooled.directions[place] = mean / norm if norm else 0.0
            pooled.norms[place], unsaved = norm, True
            if progress:
                progress(done + 1, len(todo), f"{done + 1} of {len(todo)} videos")
            if time.monotonic() - saved > _SAVE_SECONDS:
                _save(path, pooled, stamps)
                saved, unsaved = time.monotonic(), False
    finally:
        if unsaved:
            _save(path, pooled, stamps)
    return pooled


def _mean(dataset: Dataset, video_id: str, length: int) -> np.ndarray:
    """Mean of a video's snippets (D,) float64. Raises ``InputError`` if it can't be read or isn't finite."""
    total = np.zeros(dataset.num_features)
    for start in range(0, length, _AT_ONCE):
        total += dataset.features(video_id, start, start + _AT_ONCE).sum(axis=0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise InputError("NaN or infinite values", where=f"video {video_id}")
    return total / length


def _stamps(dataset: Dataset, videos: Sequence[str]) -> np.ndarray:
    """A hash per video (V,) uint64 of where its features are, how they are read and when they changed."""
    rows = dataset.index.set_index("video_id").loc[list(videos), ["length", "dimension"]]
    stamps = np.zeros(len(videos), np.uint64)
    for place, (video_id, length, dimension) in enumerate(rows.itertuples()):
        parts = [str(dataset.store.layouts), str(length), str(dimension)]
        for stream in dataset.store.streams:
            name = stream.find(video_id) or ""
            parts += [str(stream.sources.get(name)), str(stream.stamps.get(name))]
        digest = hashlib.blake2b("|".join(parts).encode(), digest_size=8).digest()
        stamps[place] = int.from_bytes(digest, "little")
    return stamps


def _load(home: Path, dataset: Dataset) -> tuple[PooledFeatures, np.ndarray]:
    """What is pooled already, and the stamps of all videos."""
    videos = dataset.videos()
    stamps = _stamps(dataset, videos)
    directions = np.zeros((len(videos), dataset.num_features if videos else 0), np.float16)
    norms = np.full(len(videos), np.nan, np.float32)
    try:
        with np.load(pooled_path(home, dataset.name), allow_pickle=False) as file:
            known = {name: np.asarray(file[name]) for name in ("videos", "stamps", "directions", "norms")}
        places = pd.Index(known["videos"].astype(object)).get_indexer(videos)
        same = places >= 0
        same[same] = known["stamps"][places[same]] == stamps[same]
        directions[same] = known["directions"][places[same]]
        norms[same] = known["norms"][places[same]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # absent or damaged: it is made anew
    return PooledFeatures(videos, directions, norms, {}), stamps


def _save(path: Path, pooled: PooledFeatures, stamps: np.ndarray) -> None:
    known = ~np.isnan(pooled.norms)
    content = io.BytesIO()
    np.savez(
        content,
        videos=np.array(pooled.videos, dtype=str)[known],
        stamps=stamps[known],
        directions=pooled.directions[known],
        norms=pooled.norms[known],
    )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
