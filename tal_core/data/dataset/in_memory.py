"""A dataset of arrays and tables: for notebooks, measurements and tests, without files or a registry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.formats.class_scores import ClassScores
from tal_core.types import GROUND_TRUTH_COLUMNS, VIDEO_COLUMNS, Annotations, InputError, TimeGrid


class InMemoryDataset:
    """Holds what a ``FeatureDataset`` is asked for.

    ``features``: (T, D) float16 or float32 by video. ``segments``: ground truth, ``GROUND_TRUTH_COLUMNS``.
    ``grid``: where snippets lie in time, for all videos or by video. ``subset_of``: each video's subset,
    ``training_subset`` where it isn't named. ``video_scores``: (K,) video class scores by video. Without
    ``tiou`` mAP is averaged over 0.3, 0.4, ..., 0.7.

    Raises:
        InputError: if there is no video, features are no finite ``(T, D)`` arrays or differ in their
            channels, or segments belong to a video without features.
    """

    extractor: dict[str, Any] | None = None

    def __init__(
        self,
        features: Mapping[str, np.ndarray],
        segments: pd.DataFrame,
        grid: TimeGrid | Mapping[str, TimeGrid],
        subset_of: Mapping[str, str] | None = None,
        *,
        name: str = "memory",
        training_subset: str = "training",
        evaluation_subset: str = "testing",
        tiou: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7),
        video_scores: Mapping[str, np.ndarray] | None = None,
    ):
        self.name, self.training_subset, self.evaluation_subset = name, training_subset, evaluation_subset
        self.tiou = list(tiou)
        self._features = dict(features)
        self.num_features = _channels(self._features, name)
        self._grids = dict.fromkeys(features, grid) if isinstance(grid, TimeGrid) else dict(grid)
        self._subset_of = {video: (subset_of or {}).get(video, training_subset) for video in features}
        self._video_scores = video_scores
        segments = segments[list(GROUND_TRUTH_COLUMNS)].reset_index(drop=True)
        if strangers := sorted(set(segments["video_id"]) - set(features)):
            raise InputError(f"segments of {strangers[0]!r} have no features", where=name, hint="Add them.")
        ends = [len(array) * self.grid(video).stride for video, array in self._features.items()]
        rows = zip(features, self._subset_of.values(), ends, [np.nan] * len(ends), strict=True)
        self.annotations = Annotations(segments, pd.DataFrame(list(rows), columns=list(VIDEO_COLUMNS)))

    @cached_property
    def labels(self) -> list[str]:
        """Class names in alphabetical order."""
        return self.annotations.labels

    @property
    def subsets(self) -> list[str]:
        return list(dict.fromkeys(self._subset_of.values()))

    def videos(self, subset: str | None = None, usable: bool = True) -> list[str]:
        """Video ids of a subset (of all if ``None``); all are usable."""
        del usable
        if subset is not None and subset not in self.subsets:
            hint = f"Subsets: {', '.join(self.subsets)}."
            raise InputError(f"there is no subset {subset!r}", where=f"dataset {self.name}", hint=hint)
        return [video for video, part in self._subset_of.items() if subset in (None, part)]

    def ground_truth(self, subset: str | None = None, videos: Sequence[str] | None = None) -> pd.DataFrame:
        """Annotated segments of a subset, or of the given videos."""
        table, wanted = self.annotations.ground_truth, set(self.videos(subset))
        if videos is not None:
            wanted &= set(videos)
        return table[table["video_id"].isin(wanted)].reset_index(drop=True)

    def lengths(self, videos: Sequence[str]) -> np.ndarray:
        """Snippets of each of ``videos`` (V,) int64."""
        return np.array([len(self._features[video]) for video in videos], np.int64)

    def dtypes(self, videos: Sequence[str]) -> list[str]:
        return [self._features[video].dtype.name for video in videos]

    def duration(self, video_id: str) -> float:
        """Seconds that the video's snippets take."""
        return len(self._features[video_id]) * self.grid(video_id).stride

    def grid(self, video_id: str) -> TimeGrid:
        """Where the video's snippets lie in time."""
        return self._grids[video_id]

    def features(
        self, video_id: str, start: int = 0, stop: int | None = None, *, as_stored: bool = False
    ) -> np.ndarray:
        """Snippets ``start:stop`` of a video, float32 (T, D); with ``as_stored`` as they were given."""
        if video_id not in self._features:
            raise InputError(f"there is no video {video_id!r}", where=f"dataset {self.name}")
        part = self._features[video_id][start:stop]
        return part if as_stored else part.astype(np.float32, copy=False)

    def class_scores(self, videos: Sequence[str], labels: Sequence[str] | None = None) -> ClassScores:
        """Video class scores of ``videos``; raises ``InputError`` if one has none."""
        columns = [self.labels.index(label) for label in labels or self.labels]
        rows = self._video_scores or {}
        by_video = {video: np.asarray(row, np.float32)[columns] for video, row in rows.items()}
        scores = ClassScores(Path(self.name), list(labels or self.labels), by_video)
        scores.check(videos)
        return scores

    def fingerprint(self) -> str:
        """A short hash of the annotations, the split, the grids and the features' shapes."""
        content = hashlib.sha256(self.annotations.ground_truth.to_csv(index=False).encode())
        for video, array in self._features.items():
            content.update(f"{video} {self._subset_of[video]} {array.shape} {self.grid(video)}".encode())
        return content.hexdigest()[:16]


def _channels(features: Mapping[str, np.ndarray], name: str) -> int:
    """The number D that all arrays share."""
    shapes = {array.shape for array in features.values()}
    if not shapes or any(len(shape) != 2 or 0 in shape for shape in shapes):
        what = f"features have shapes {sorted(shapes)[:3]}" if shapes else "there are no features"
        raise InputError(what, where=name, hint="Give an array (snippets, channels) by video.")
    if len({shape[1] for shape in shapes}) > 1:
        raise InputError("features differ in their channels", where=name, hint="Use one extractor for all.")
    apart = {id(array): array for array in features.values()}
    if not all(np.isfinite(array).all() for array in apart.values()):
        raise InputError("features contain NaN or infinite values", where=name, hint="Extract them again.")
    return next(iter(shapes))[1]
