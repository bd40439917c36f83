"""Frame accuracy, segmental edit score and F1: what the action segmentation literature reports.

One label for each frame is made of segments that may overlap or leave gaps, and compared as in Lea et al.,
Temporal Convolutional Networks for Action Segmentation and Detection, CVPR 2017. Background, the frames under
no segment, counts in accuracy and is left out of edit and F1. Each figure is computed for every video and
averaged over the videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.evaluation.matching import positions
from tal_core.segments import temporal_iou
from tal_core.types import InputError

OVERLAPS = (10, 25, 50)
BACKGROUND = -1
MOST_FRAMES = 100_000_000


@dataclass(frozen=True)
class Segmentation:
    """Percent. ``per_video``: ``video_id, accuracy, edit, F1@10, F1@25, F1@50``; ``step`` in seconds."""

    per_video: pd.DataFrame
    step: float

    def means(self) -> dict[str, float]:
        """Of each figure over the videos: the form of ``segmentation --json``."""
        return {name: float(self.per_video[name].mean()) for name in self.per_video.columns[1:]}


def segmentation_scores(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    durations: Mapping[str, float],
    step: float,
    min_score: float = -math.inf,
) -> Segmentation:
    """Compare segments as labelled frames, ``step`` seconds apart.

    Where detections overlap, a frame has the label of the best-scored (equal: the first in the table); where
    annotations do, that of the one which began last. Detections below ``min_score`` are left out.
    ``durations`` has the videos to count; where one is not finite, the video ends with its last annotation.

    Raises:
        InputError: without videos, or if ``step`` isn't positive or makes too many frames.
    """
    if not (math.isfinite(step) and step > 0):
        raise InputError(f"a step of {step:g} s is out of range", hint="Give one above 0, such as 0.1")
    if not durations:
        raise InputError("there are no videos to compare", hint="Choose a subset with videos")
    labels = pd.Index(pd.unique(pd.concat([ground_truth["label"], detections["label"]])))
    # The last painted is seen, so the strongest claim comes last.
    truth = _by_video(ground_truth.sort_values("start", kind="stable"), labels)
    kept = detections[detections["score"] >= min_score]
    found = _by_video(kept.iloc[::-1].sort_values("score", kind="stable"), labels)
    nothing = np.zeros((0, 2)), np.zeros(0, np.int64)
    ends = {video: _end(video, duration, truth) for video, duration in durations.items()}
    if sum(ends.values()) / step > MOST_FRAMES:
        raise InputError(
            f"a step of {step:g} s makes more than {MOST_FRAMES:,} frames", hint="Give a longer one"
        )
    rows = []
    for video, end in ends.items():
        frames = math.ceil(end / step - 0.5)
        actual = paint(*truth.get(video, nothing), frames, step)
        predicted = paint(*found.get(video, nothing), frames, step)
        rows.append((video, *compare_frames(actual, predicted)))
    columns = ["video_id", "accuracy", "edit", *(f"F1@{overlap}" for overlap in OVERLAPS)]
    return Segmentation(pd.DataFrame(rows, columns=columns), step)


def usual_step(data: FeatureDataset) -> float:
    """Seconds between the snippets of a dataset's features; a tenth where there are none."""
    videos = data.videos(data.evaluation_subset) or data.videos()
    return max(0.01, round(data.grid(videos[0]).stride, 3)) if videos else 0.1


def compare_subset(
    data: FeatureDataset,
    detections: pd.DataFrame,
    subset: str | None,
    step: float,
    min_score: float = -math.inf,
) -> Segmentation:
    """`segmentation_scores` of all videos of a subset (None: of the dataset). Raises the same."""
    durations = {video: data.duration(video) for video in data.videos(subset, usable=False)}
    return segmentation_scores(data.ground_truth(subset), detections, durations, step, min_score)


def _by_video(table: pd.DataFrame, labels: pd.Index) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Segments ``(N, 2)`` and label numbers of each video, order kept."""
    segments, number = table[["start", "end"]].to_numpy(np.float64), positions(labels, table["label"])
    rows = table.groupby("video_id", sort=False).indices
    return {str(video): (segments[index], number[index]) for video, index in rows.items()}


def _end(video: str, duration: float, truth: Mapping[str, tuple]) -> float:
    if math.isfinite(duration) and duration > 0:
        return float(duration)
    return float(truth[video][0][:, 1].max()) if video in truth else 0.0


def paint(segments: np.ndarray, labels: np.ndarray, frames: int, step: float) -> np.ndarray:
    """``(frames,)`` labels: frame ``i`` is the moment ``(i + 0.5) * step``; later segments cover earlier."""
    painted = np.full(frames, BACKGROUND)
    first, last = np.ceil(segments / step - 0.5).clip(0, frames).astype(np.int64).T
    for begin, stop, label in zip(first, last, labels, strict=True):
        painted[begin:stop] = label
    return painted


def compare_frames(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, ...]:
    """Accuracy, edit score and F1 at each overlap of two label sequences ``(T,)``, in percent.

    Two sequences without any segment agree fully.
    """
    accuracy = 100 * float((actual == predicted).mean()) if len(actual) else 100.0
    true_runs, found_runs = runs(actual), runs(predicted)
    edit = edit_score(true_runs[:, 2].tolist(), found_runs[:, 2].tolist())
    return accuracy, edit, *(f1_score(true_runs, found_runs, overlap / 100) for overlap in OVERLAPS)


def runs(frames: np.ndarray) -> np.ndarray:
    """Stretches of equal labels that aren't background, ``(N, 3)``: first frame, the one behind, label."""
    change = np.flatnonzero(np.diff(frames, prepend=BACKGROUND - 1, append=BACKGROUND - 1))
    found = np.stack([change[:-1], change[1:], frames[change[:-1]]], axis=1)
    return found[found[:, 2] != BACKGROUND]


def edit_score(actual: Sequence[int], predicted: Sequence[int]) -> float:
    """100 x (1 - edit distance / length of the longer), of two sequences of segment labels."""
    longer = max(len(actual), len(predicted))
    return 100.0 if longer == 0 else 100 * (1 - edit_distance(actual, predicted) / longer)


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Insertions, deletions and replacements that turn one sequence into the other (Levenshtein)."""
    others, place = np.asarray(second), np.arange(len(second) + 1)
    row = place
    for label in first:
        least = np.minimum(row[1:] + 1, row[:-1] + (others != label))
        least = np.concatenate([row[:1] + 1, least])
        row = np.minimum.accumulate(least - place) + place  # or reached by insertions from the left
    return int(row[-1])


def f1_score(actual: np.ndarray, predicted: np.ndarray, overlap: float) -> float:
    """F1 in percent of predicted `runs` against actual ones.

    In order of time, a prediction is right if the actual run of its label with the highest IoU reaches
    ``overlap`` and no prediction before was right on it.
    """
    if len(actual) == len(predicted) == 0:
        return 100.0
    iou = temporal_iou(predicted[:, None], actual) * (predicted[:, None, 2] == actual[:, 2])
    if iou.size == 0:
        return 0.0
    best = iou.argmax(axis=1)
    right = len(np.unique(best[iou.max(axis=1) >= overlap]))
    return 100 * 2 * right / (len(actual) + len(predicted))
