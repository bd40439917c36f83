"""Average precision of frames: what the literature of online action detection reports.

Every snippet of every video is a case; a class's scores rank them. Average precision is the mean of the
precision at each positive; the calibrated one (De Geest et al., Online Action Detection, ECCV 2016) divides
false positives by the number of negatives for each positive, so that rare classes compare with frequent ones.
Cases with equal scores count together, as one step of the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.data.exploring.snippets import snippet_labels
from tal_core.types import InputError, TimeGrid

STAGES = 10


@dataclass(frozen=True)
class FrameEvaluation:
    """AP and calibrated AP of each class, fractions, NaN for a class without a positive; ``labels`` (K,).

    ``stages`` (10,): mean calibrated AP when of each action only one tenth counts, first to last.
    """

    labels: list[str]
    average_precision: np.ndarray
    calibrated: np.ndarray
    stages: np.ndarray
    num_frames: int
    num_videos: int

    @property
    def mean(self) -> float:
        return _mean(self.average_precision)

    @property
    def calibrated_mean(self) -> float:
        """Mean calibrated AP."""
        return _mean(self.calibrated)

    def to_json(self) -> dict[str, Any]:
        """The form of ``frames --json``; null where there is no number."""
        return {
            "mAP": _number(self.mean),
            "calibrated_mAP": _number(self.calibrated_mean),
            "per_class": {
                label: {"AP": _number(plain), "calibrated_AP": _number(calibrated)}
                for label, plain, calibrated in zip(
                    self.labels, self.average_precision, self.calibrated, strict=True
                )
            },
            "stages": [_number(value) for value in self.stages],
            "num_frames": self.num_frames,
            "num_videos": self.num_videos,
        }


def frame_precision(positive: np.ndarray, scores: np.ndarray, *, calibrated: bool = False) -> np.ndarray:
    """Average precision of each class ``(K,)`` from bool and scores ``(N, K)``; NaN without a positive."""
    columns = zip(positive.T.astype(bool), scores.T, strict=True)
    return np.array([_average_precision(one, values, calibrated) for one, values in columns])


def _average_precision(positive: np.ndarray, scores: np.ndarray, calibrated: bool) -> float:
    count = positive.sum()
    if not count:
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = positive[order].cumsum()[ends]
    false = (ends + 1 - true).astype(np.float64)
    if calibrated and count < len(positive):
        false /= (len(positive) - count) / count
    precision = true / (true + false)
    return float((np.diff(true, prepend=0) * precision).sum() / count)


def stage_precision(
    positive: np.ndarray, scores: np.ndarray, lengths: Sequence[int] | None = None
) -> np.ndarray:
    """Mean calibrated AP ``(10,)`` when of every action only one tenth counts, beside all negatives.

    An action is a run of positives of a class, from its first frame to its last, ``L`` later; stage ``g``
    has the frames from ``first + trunc(L g / 10)`` up to ``first + trunc(L (g + 1) / 10)``, at least one.

    Args:
        lengths: of the videos that stand behind one another; by default one.
    """
    ends = np.cumsum([len(positive)] if lengths is None else lengths)
    found = np.full((STAGES, positive.shape[1]), np.nan)
    for label, (is_positive, values) in enumerate(zip(positive.T.astype(bool), scores.T, strict=True)):
        first, last = _runs(is_positive, ends)
        for stage in range(STAGES if len(first) else 0):
            begin = first + ((last - first) * (stage / STAGES)).astype(int)
            end = np.maximum(begin + 1, first + ((last - first) * ((stage + 1) / STAGES)).astype(int))
            inside = np.concatenate([np.arange(*pair) for pair in zip(begin, end, strict=True)])
            chosen = np.concatenate([np.flatnonzero(~is_positive), inside])
            found[stage, label] = _average_precision(is_positive[chosen], values[chosen], True)
    return np.array([_mean(row) for row in found])


def _runs(positive: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of each run of positives; none reaches over a video's end."""
    begins = np.zeros(len(positive) + 1, bool)
    begins[[0, *ends]] = True
    before, after = np.append(False, positive[:-1]), np.append(positive[1:], False)
    first = np.flatnonzero(positive & (~before | begins[:-1]))
    last = np.flatnonzero(positive & (~after | begins[1:]))
    return first, last


def evaluate_frames(
    scores: Mapping[str, tuple[np.ndarray, TimeGrid]],
    labels: Sequence[str],
    ground_truth: pd.DataFrame,
    ambiguous: pd.DataFrame | None = None,
) -> FrameEvaluation:
    """Snippet scores ``(T, K)`` of videos against the segments over the snippets' centres.

    Snippets under an ``ambiguous`` segment are left out, as THUMOS14's protocol does.

    Raises:
        InputError: without videos.
    """
    if not scores:
        hint = "Choose a run whose method scores snippets."
        raise InputError("there are no snippet scores to compare", hint=hint)
    number = pd.Index(labels)
    truth = dict(tuple(ground_truth.groupby("video_id")))
    unclear = {} if ambiguous is None else dict(tuple(ambiguous.groupby("video_id")))
    positives, values = [], []
    for video, (table, grid) in scores.items():
        positive = _labels(truth.get(video), grid, len(table), number)
        kept = ~_labels(unclear.get(video), grid, len(table), None).any(axis=1)
        positives.append(positive[kept])
        values.append(table[kept])
    positive, value = np.concatenate(positives), np.concatenate(values).astype(np.float64)
    return FrameEvaluation(
        labels=list(labels),
        average_precision=frame_precision(positive, value),
        calibrated=frame_precision(positive, value, calibrated=True),
        stages=stage_precision(positive, value, [len(part) for part in positives]),
        num_frames=len(positive),
        num_videos=len(positives),
    )


def _labels(
    segments: pd.DataFrame | None, grid: TimeGrid, length: int, number: pd.Index | None
) -> np.ndarray:
    """Classes of the snippets of a video, bool (T, K); with no ``number`` every segment is of class 0."""
    classes = 1 if number is None else len(number)
    if segments is None:
        return np.zeros((length, classes), bool)
    index = (
        np.zeros(len(segments), int) if number is None else number.get_indexer(pd.Index(segments["label"]))
    )
    known = index >= 0
    positions = grid.index(segments[["start", "end"]].to_numpy(np.float64))[known]
    return snippet_labels(positions, index[known], length, classes)


def evaluate_dataset_frames(
    data: FeatureDataset,
    scores: Mapping[str, tuple[np.ndarray, TimeGrid]],
    labels: Sequence[str],
    subset: str | None = None,
) -> FrameEvaluation:
    """`evaluate_frames` on the videos of a subset (None: on all that have scores). Raises InputError."""
    videos = set(data.videos(subset, usable=False))
    chosen = {video: table for video, table in scores.items() if video in videos}
    truth, unclear = data.ground_truth(subset), data.annotations.ambiguous
    return evaluate_frames(chosen, labels, truth, unclear if len(unclear) else None)


def format_frames(found: FrameEvaluation, title: str) -> str:
    """A table to print, in percent."""
    width = max([len("mean"), *map(len, found.labels)])
    lines = [f"{title}: {found.num_frames} snippets of {found.num_videos} videos"]
    lines.append(f"{'':{width}}  {'AP':>6}  {'calibrated':>10}")
    rows = [*zip(found.labels, found.average_precision, found.calibrated, strict=True)]
    for label, plain, calibrated in [*rows, ("mean", found.mean, found.calibrated_mean)]:
        lines.append(f"{label:{width}}  {100 * plain:6.2f}  {100 * calibrated:10.2f}")
    stages = "  ".join(f"{100 * value:.1f}" for value in found.stages)
    lines.append(f"calibrated, by tenth of an action: {stages}")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
