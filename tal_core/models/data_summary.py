"""What suggested settings and warnings need to know of a dataset: sizes and lengths, on the feature grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tal_core.data.dataset.protocol import FeatureDataset


@dataclass(frozen=True)
class DataSummary:
    """Sizes of a dataset's training subset; lengths count snippets.

    ``lengths`` and ``counts`` (V,): snippets and segments of each usable training video. ``segments`` (N,)
    lengths of their ground truth, ``segment_classes`` (N,) its class indices and ``starts`` (N,) where it
    begins on the video's grid. ``same_class_overlap``: share of segments that overlap another of their class.
    ``evaluation_lengths`` (W,): snippets of each usable video of the evaluation subset. ``unseen``: classes
    that are evaluated and never trained. ``stride``: median seconds from snippet to snippet.
    """

    num_features: int
    num_classes: int
    stride: float
    lengths: np.ndarray
    counts: np.ndarray
    segments: np.ndarray
    segment_classes: np.ndarray
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    same_class_overlap: float = 0.0
    evaluation_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    unseen: tuple[str, ...] = ()

    @property
    def num_videos(self) -> int:
        return len(self.lengths)


def summarise(dataset: FeatureDataset) -> DataSummary:
    """The summary of a dataset; reads its tables only, no features."""
    training = dataset.videos(dataset.training_subset)
    there = dataset.evaluation_subset in dataset.subsets
    evaluated = dataset.videos(dataset.evaluation_subset) if there else []
    truth = dataset.ground_truth(videos=training)
    grids = np.array([(grid.stride, grid.offset) for grid in map(dataset.grid, training)]).reshape(-1, 2)
    strides, offsets = grids[pd.Index(training).get_indexer(pd.Index(truth["video_id"]))].T
    number = {label: k for k, label in enumerate(dataset.labels)}
    seen = set(truth["label"])
    held_out = dataset.ground_truth(videos=evaluated)["label"].unique()
    return DataSummary(
        num_features=dataset.num_features,
        num_classes=len(dataset.labels),
        stride=float(np.median(grids[:, 0])) if training else 1.0,
        lengths=dataset.lengths(training),
        counts=truth["video_id"].value_counts().reindex(training, fill_value=0).to_numpy(np.int64),
        segments=(truth["end"] - truth["start"]).to_numpy(float) / strides,
        segment_classes=truth["label"].map(number).to_numpy(np.int64),
        starts=(truth["start"].to_numpy(float) - offsets) / strides,
        same_class_overlap=_same_class_overlap(truth),
        evaluation_lengths=dataset.lengths(evaluated),
        unseen=tuple(label for label in dataset.labels if label in set(held_out) - seen),
    )


def _same_class_overlap(truth: pd.DataFrame) -> float:
    """Share of segments that overlap the one before or after them of the same video and class."""
    if truth.empty:
        return 0.0
    ordered = truth.sort_values(["video_id", "label", "start"])
    groups = ordered.groupby(["video_id", "label"], sort=False)
    reached = groups["end"].cummax().groupby([ordered["video_id"], ordered["label"]], sort=False).shift()
    behind = (ordered["start"] < reached).to_numpy()
    ahead = (groups["start"].shift(-1) < ordered["end"]).to_numpy()
    return float((behind | ahead).mean())
