"""What everything that trains, predicts or measures asks of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tal_core.data.formats.class_scores import ClassScores
from tal_core.types import Annotations, TimeGrid


class FeatureDataset(Protocol):
    """Features and annotations of videos; ``Dataset`` reads them from files, ``InMemoryDataset`` holds them.

    Tables are shared by all callers, so copy before changing one.
    """

    @property
    def name(self) -> str:
        """What runs and messages call it."""

    @property
    def labels(self) -> list[str]:
        """Class names in alphabetical order; the position is the class's index in every model."""

    @property
    def subsets(self) -> list[str]:
        """Subsets that have videos, in order of appearance."""

    @property
    def training_subset(self) -> str:
        """The subset that trains."""

    @property
    def evaluation_subset(self) -> str:
        """The subset that evaluates; it may have no videos."""

    @property
    def tiou(self) -> list[float]:
        """The tIoU thresholds that mAP is averaged over."""

    @property
    def num_features(self) -> int:
        """Channels of the features, D. Raises ``InputError`` if no video is usable."""

    @property
    def extractor(self) -> dict[str, Any] | None:
        """Settings of the extractor that made the features from the videos, if this program did."""

    @property
    def annotations(self) -> Annotations:
        """Everything the annotations say, of all videos."""

    def videos(self, subset: str | None = None, usable: bool = True) -> list[str]:
        """Video ids of a subset (of all if ``None``), by default only those with usable features.

        Raises:
            InputError: if there is no such subset.
        """

    def ground_truth(self, subset: str | None = None, videos: Sequence[str] | None = None) -> pd.DataFrame:
        """Annotated segments of a subset, videos without features included, or of the given videos.

        Raises:
            InputError: if there is no such subset.
        """

    def lengths(self, videos: Sequence[str]) -> np.ndarray:
        """Snippets of each of ``videos`` (V,) int64; 0 where there are no features."""

    def dtypes(self, videos: Sequence[str]) -> list[str]:
        """What the features of each of ``videos`` are stored as: ``"float16"``, ``"float32"``, ..."""

    def duration(self, video_id: str) -> float:
        """Seconds; from the features where the annotations don't say."""

    def grid(self, video_id: str) -> TimeGrid:
        """Where the video's snippets lie in time."""

    def features(
        self, video_id: str, start: int = 0, stop: int | None = None, *, as_stored: bool = False
    ) -> np.ndarray:
        """Snippets ``start:stop`` of a video, float32 (T, D); with ``as_stored`` float16 stays float16.

        Raises:
            InputError: if the video is unknown or has no usable features.
        """

    def class_scores(self, videos: Sequence[str], labels: Sequence[str] | None = None) -> ClassScores:
        """Video class scores of ``videos``, in the order of ``labels`` (the dataset's by default).

        Raises:
            InputError: if the dataset has none, or one of ``videos`` has none.
        """

    def fingerprint(self) -> str:
        """A short hash that changes with the annotations, the split, the grid or the features' shapes."""


def evaluated_videos(dataset: FeatureDataset, usable: bool = True) -> list[str]:
    """The videos of the evaluation subset; none where it has no annotated segment."""
    subset = dataset.evaluation_subset
    if subset not in dataset.subsets or dataset.ground_truth(subset).empty:
        return []
    return dataset.videos(subset, usable)
