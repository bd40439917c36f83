"""The one-to-one matching of detections with ground truth.

Most works on arrays: positions in tables, group numbers instead of video and class names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from tal_core.segments import temporal_iou

_PAIRS_AT_ONCE = 1 << 21
"""Pairs held in memory at a time while overlaps are computed (about 150 MB)."""


@dataclass(frozen=True)
class Pairs:
    """Overlapping detections and annotations: parallel arrays, ordered by detection, then annotation."""

    detection: np.ndarray
    ground_truth: np.ndarray
    tiou: np.ndarray

    def where(self, mask: np.ndarray) -> Pairs:
        """The pairs that ``mask`` selects, in the same order."""
        return Pairs(self.detection[mask], self.ground_truth[mask], self.tiou[mask])


def positions(names: Sequence[str] | pd.Index, column: pd.Series) -> np.ndarray:
    """``(N,)``: where each value of ``column`` stands among the distinct ``names``; -1 if it doesn't."""
    return pd.Index(names).get_indexer(pd.Index(column))


def pairs_in_videos(detections: pd.DataFrame, ground_truth: pd.DataFrame, minimum: float) -> Pairs:
    """All pairs of rows of two tables in one video, whatever their labels, with a tIoU of at least that."""
    videos = pd.Index(ground_truth["video_id"].unique())
    return overlapping_pairs(
        positions(videos, detections["video_id"]),
        detections[["start", "end"]].to_numpy(np.float64),
        positions(videos, ground_truth["video_id"]),
        ground_truth[["start", "end"]].to_numpy(np.float64),
        minimum,
    )


def overlapping_pairs(
    detection_group: np.ndarray,
    detection_segments: np.ndarray,
    ground_truth_group: np.ndarray,
    ground_truth_segments: np.ndarray,
    minimum: float,
) -> Pairs:
    """All pairs of one group (a video, or a class in a video) with a tIoU of at least ``minimum``.

    Groups are integers ``(N,)`` and ``(G,)``, segments ``(N, 2)`` and ``(G, 2)`` seconds. Only pairs within
    a group are ever formed, and of those a bounded number at a time.
    """
    order = np.argsort(ground_truth_group, kind="stable")
    grouped = ground_truth_group[order]
    first = np.searchsorted(grouped, detection_group, side="left")
    count = np.searchsorted(grouped, detection_group, side="right") - first
    found = []
    for block in _blocks(count):
        detection = np.repeat(np.arange(block.start, block.stop), count[block])
        step = np.arange(len(detection)) - np.repeat(np.cumsum(count[block]) - count[block], count[block])
        ground_truth = order[np.repeat(first[block], count[block]) + step]
        tiou = temporal_iou(ground_truth_segments[ground_truth], detection_segments[detection])
        found.append(Pairs(detection, ground_truth, tiou).where(tiou >= minimum))
    return Pairs(*(np.concatenate([getattr(p, name) for p in found]) for name in Pairs.__annotations__))


def _blocks(count: np.ndarray) -> Iterator[slice]:
    """Slices of detections with about ``_PAIRS_AT_ONCE`` pairs each (at least one slice)."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_ONCE, total, _PAIRS_AT_ONCE)) + 1
    edges = [0, *np.unique(cuts).tolist(), len(count)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def greedy_match(
    pairs: Pairs, num_detections: int, num_ground_truth: int, thresholds: Sequence[float]
) -> np.ndarray:
    """The annotation each detection takes at each threshold, -1 for none; ``(K, N)``.

    The protocol's rule: by rank, each detection takes the annotation with the highest tIoU that is still
    free, if that reaches the threshold. A detection's number in ``pairs`` is its rank; equal tIoUs go by the
    annotation's position.

    As every annotation prefers the better ranked detection, this is the stable matching of Gale and Shapley
    (1962), which deferred acceptance reaches in a few rounds over whole arrays: each detection asks for its
    favourite, an annotation keeps the best rank that asked, who is refused asks for the next favourite.
    """
    order = np.lexsort((-pairs.tiou, pairs.detection))
    favourite, tiou = pairs.ground_truth[order], pairs.tiou[order]
    asking, length = np.unique(pairs.detection, return_counts=True)  # only detections with any overlap
    owner = np.repeat(np.arange(len(asking)), length)
    first = np.cumsum(length) - length
    passing = np.array([np.bincount(owner[tiou >= t], minlength=len(asking)) for t in thresholds])
    holder = _defer(favourite, first, passing, num_ground_truth)

    matched = np.full((len(thresholds), num_detections), -1)
    threshold, annotation = np.nonzero(holder < passing.size)
    seeker = holder[threshold, annotation]
    matched[threshold, asking[seeker - threshold * len(asking)]] = annotation
    return matched


def _defer(
    favourite: np.ndarray, first: np.ndarray, passing: np.ndarray, num_ground_truth: int
) -> np.ndarray:
    """Deferred acceptance. Who holds each annotation at each threshold, ``(K, G)``.

    A seeker is one detection at one threshold, numbered ``threshold * len(first) + detection``, so the
    smaller number of a threshold ranks better; ``passing.size`` stands for nobody. The favourites of a
    detection begin at ``first`` and the leading ``passing[threshold]`` of them reach the threshold.
    """
    nobody = passing.size
    holder = np.full(len(passing) * num_ground_truth, nobody)
    cursor = np.tile(first, len(passing))
    end = (first + passing).ravel()
    seeking = np.flatnonzero(cursor < end)
    while seeking.size:
        slot = seeking // len(first) * num_ground_truth + favourite[cursor[seeking]]
        before = holder[slot]
        np.minimum.at(holder, slot, seeking)
        accepted = holder[slot] == seeking
        displaced = before[accepted & (before < nobody)]
        seeking = np.concatenate([seeking[~accepted], displaced])
        cursor[seeking] += 1
        seeking = seeking[cursor[seeking] < end[seeking]]
    return holder.reshape(len(passing), num_ground_truth)
