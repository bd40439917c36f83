"""Average precision of detections with the protocol of the ActivityNet and THUMOS benchmarks.

Per class and tIoU threshold the detections of all videos are matched with the annotations in order of score
(``matching.greedy_match``); AP is the area under the interpolated precision-recall curve; mAP its mean over
classes. Two protocols decide which annotations count:

``official``  all of them, as in the ActivityNet challenge's script.
``toolbox``   as in OpenTAD and ActionFormer: annotations without length go first, then each one whose label
              and ends (within 0.001 s) repeat an annotation kept earlier in its video. The two programs
              differ on annotations between 0 and 0.001 s; as in OpenTAD they stay, ActionFormer drops them.

Under both, detections in videos without ground truth and detections without length are false positives,
nothing is clipped, a detection whose label is no class of the ground truth is ignored and counted, and equal
scores are ordered by position in the file, the earlier first. An empty union (0/0) is never a match.

``Ambiguous`` segments are neither a class nor positives: annotations and detections of that label are left
out and counted, as in the annotation files that published tables are computed with. THUMOS14's own
kit (TH14eventdetpr.m) goes further: an unmatched detection of any class with any overlap with an ambiguous
segment is no false positive either. Passing the ``ambiguous`` table to `evaluate` asks for that rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd

from tal_core.evaluation.matching import greedy_match, overlapping_pairs, pairs_in_videos, positions
from tal_core.evaluation.result import Evaluation, format_table, parse_tiou
from tal_core.types import AMBIGUOUS, InputError

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "clean_ground_truth",
    "evaluate",
    "format_table",
    "parse_tiou",
    "precision_recall",
]

PROTOCOLS = ("official", "toolbox")
DUPLICATE_TOLERANCE = 1e-3  # seconds; of OpenTAD and ActionFormer


def evaluate(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    *,
    protocol: str = "official",
    videos: Sequence[str] | None = None,
    ambiguous: pd.DataFrame | None = None,
) -> Evaluation:
    """AP per class and tIoU threshold of ``detections`` against the ``ground_truth`` of one subset.

    ``detections``: every row of the file, in its order, other subsets' videos included. ``videos``: all
    videos of the subset (only counted). ``ambiguous``: see the module's text. Raises `InputError` on an
    empty ground truth, thresholds outside (0, 1] and an unknown protocol.
    """
    ranking = rank(ground_truth, detections, tiou, protocol, ambiguous)
    return Evaluation(
        tiou=ranking.tiou,
        labels=ranking.labels,
        ap=average_precision(ranking.hit, ranking.counted, ranking.first, ranking.num_positive),
        num_videos=len(set(videos)) if videos is not None else int(ground_truth["video_id"].nunique()),
        num_ground_truth=int(ranking.num_positive.sum()),
        num_detections=len(detections),
        ignored=ranking.ignored,
    )


def precision_recall(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    *,
    labels: Sequence[str] | None = None,
    protocol: str = "official",
    ambiguous: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Precision-recall curves, one row per class, threshold and detection, by descending score.

    Columns ``label, tiou, score, precision, recall, interpolated``; the area under ``interpolated`` over
    ``recall`` is the AP. ``labels`` restricts the classes. Raises as `evaluate` does.
    """
    if labels is not None:
        ground_truth = ground_truth[ground_truth["label"].isin(labels)]
        detections = detections[detections["label"].isin(labels)]
    ranking = rank(ground_truth, detections, tiou, protocol, ambiguous)
    curves = []
    for index, rows in ranking.per_class():
        hit, num_positive = ranking.hit[:, rows], int(ranking.num_positive[index])
        counted = None if ranking.counted is None else ranking.counted[:, rows]
        precision = precisions(hit, counted, num_positive)
        recall = np.cumsum(hit, axis=1) / num_positive
        interpolated = _envelope(precision)
        for k, threshold in enumerate(ranking.tiou):
            curves.append(
                pd.DataFrame(
                    {
                        "label": ranking.labels[index],
                        "tiou": threshold,
                        "score": ranking.score[rows],
                        "precision": precision[k],
                        "recall": recall[k],
                        "interpolated": interpolated[k],
                    }
                )
            )
    return pd.concat(curves, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """N detections by class (alphabetical) and descending score, matched with G annotations at K thresholds.

    ``truth``: the annotations that count; its index is that of the table handed in. ``truth_class``: (G,).
    ``row``: the detections' rows in theirs. ``first``: ``(C + 1,)`` where each class begins. ``matched``:
    ``(K, N)`` position in ``truth`` of the annotation a true positive takes, else -1. ``counted``:
    ``(K, N)``, false for what is excused from the precision; None if all count. ``ignored``: how many
    annotations and detections don't count, by reason.
    """

    tiou: list[float]
    labels: list[str]
    truth: pd.DataFrame
    truth_class: np.ndarray
    row: np.ndarray
    first: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: dict[str, int]
    counted: np.ndarray | None = None

    @cached_property
    def hit(self) -> np.ndarray:
        """``(K, N)``: the true positives."""
        return self.matched >= 0

    @cached_property
    def num_positive(self) -> np.ndarray:
        """``(C,)`` annotations of each class."""
        return np.bincount(self.truth_class, minlength=len(self.labels))

    @cached_property
    def class_of(self) -> np.ndarray:
        """``(N,)`` the class of each detection."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.first))

    def per_class(self) -> Iterator[tuple[int, slice]]:
        return per_class(self.first)


def rank(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    protocol: str = "official",
    ambiguous: pd.DataFrame | None = None,
) -> Ranking:
    """Ranks and matches detections as `evaluate` does, for whoever asks more of them. Raises the same."""
    thresholds = check_thresholds(tiou)
    truth, ignored = clean_ground_truth(ground_truth, protocol)
    check_annotated(truth)
    labels = sorted(truth["label"].unique())
    videos = pd.Index(truth["video_id"].unique())
    class_of, rows, first = class_order(labels, detections)
    num_ambiguous = int((detections["label"] == AMBIGUOUS).sum())
    ignored["ambiguous_detections"] = num_ambiguous
    ignored["detections_with_unknown_label"] = len(detections) - len(rows) - num_ambiguous

    segments = detections[["start", "end"]].to_numpy(np.float64)[rows]
    video_of = positions(videos, detections["video_id"])[rows]
    truth_class = positions(labels, truth["label"])
    pairs = overlapping_pairs(
        np.where(video_of >= 0, video_of * len(labels) + class_of[rows], -1),
        segments,
        positions(videos, truth["video_id"]) * len(labels) + truth_class,
        truth[["start", "end"]].to_numpy(np.float64),
        min(thresholds),
    )
    matched = greedy_match(pairs, len(rows), len(truth), thresholds)
    counted = None
    if ambiguous is not None:
        excused = np.zeros(len(rows), bool)
        excused[pairs_in_videos(detections.iloc[rows], ambiguous, np.nextafter(0.0, 1.0)).detection] = True
        counted = (matched >= 0) | ~excused
    return Ranking(
        tiou=thresholds,
        labels=labels,
        truth=truth,
        truth_class=truth_class,
        row=rows,
        first=first,
        score=detections["score"].to_numpy(np.float64)[rows],
        matched=matched,
        ignored=ignored,
        counted=counted,
    )


def class_order(labels: Sequence[str], detections: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class of each detection (-1: none of ``labels``), the rows of those with one by class and score, and
    where each class begins among these, ``(C + 1,)``. Equal scores stay in the table's order.
    """
    class_of, score = positions(labels, detections["label"]), detections["score"].to_numpy(np.float64)
    rows = np.flatnonzero(class_of >= 0)
    rows = rows[np.lexsort((-score[rows], class_of[rows]))]
    return class_of, rows, np.searchsorted(class_of[rows], np.arange(len(labels) + 1))


def average_precision(
    hit: np.ndarray,
    counted: np.ndarray | None,
    first: np.ndarray,
    num_positive: np.ndarray,
    weight: float | None = None,
) -> np.ndarray:
    """AP ``(C, K)`` of ranked detections; NaN for a class without positives.

    ``hit``, ``counted``: ``(K, N)``; what isn't counted (None: all is) is as if it weren't there. ``weight``:
    see `precisions`.
    """
    ap = np.full((len(num_positive), len(hit)), np.nan)
    for index, rows in per_class(first):
        if num_positive[index]:
            counts = None if counted is None else counted[:, rows]
            true = hit[:, rows] if counts is None else hit[:, rows] & counts
            best_later = _envelope(precisions(true, counts, int(num_positive[index]), weight))
            ap[index] = (best_later * true).sum(axis=1) / num_positive[index]
    return ap


def precisions(
    true: np.ndarray, counted: np.ndarray | None, num_positive: int, weight: float | None = None
) -> np.ndarray:
    """Precision ``(K, n)`` after each rank of one class; 0 while nothing has been counted.

    It is T / (T + F) of the true and false positives so far, or with a ``weight`` W r W / (r W + F) with the
    recall r: with the mean number of annotations per class DETAD's normalised precision (its section 3).
    """
    found = np.cumsum(true, axis=1)
    total = np.arange(1, found.shape[1] + 1) if counted is None else np.cumsum(counted, axis=1)
    recalled = found if weight is None else found / num_positive * weight
    return recalled / np.maximum(recalled + (total - found), np.finfo(float).tiny)


def per_class(first: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Class index and the rows of its ranked detections, from where each class begins ``(C + 1,)``."""
    for index, (start, stop) in enumerate(pairwise(first.tolist())):
        yield index, slice(start, stop)


def check_annotated(truth: pd.DataFrame, purpose: str = "evaluate") -> None:
    """Raise `InputError` where there is no annotation."""
    if truth.empty:
        raise InputError(
            f"there is no ground truth to {purpose} against",
            hint="Choose a subset whose videos have annotations",
        )


def check_thresholds(tiou: Sequence[float]) -> list[float]:
    """The thresholds as floats. Raises `InputError` without any, and on one outside (0, 1]."""
    thresholds = [float(t) for t in np.atleast_1d(np.asarray(tiou, np.float64))]
    if not thresholds:
        raise InputError("no tIoU threshold is given", hint="Give at least one, e.g. 0.3:0.7:0.1 or 0.5")
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise InputError(
                f"tIoU threshold {threshold:g} is outside its range",
                hint="Give thresholds above 0 and up to 1",
            )
    return thresholds


def clean_ground_truth(
    ground_truth: pd.DataFrame, protocol: str = "official"
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The annotations that count under ``protocol``, and how many of which kind do not.

    Raises `InputError` on an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}", hint=f"Use {' or '.join(PROTOCOLS)}")
    clear = ground_truth[ground_truth["label"] != AMBIGUOUS]
    kept = long = clear
    if protocol == "toolbox":
        long = clear[clear["end"] > clear["start"]]
        kept = long[~_repeats(long)]
    return kept, {
        "ambiguous_annotations": len(ground_truth) - len(clear),
        "zero_length_annotations": len(clear) - len(long),
        "duplicate_annotations": len(long) - len(kept),
    }


def _repeats(table: pd.DataFrame) -> np.ndarray:
    """Marks annotations whose label and ends repeat one that is kept earlier in the same video."""
    repeats = np.zeros(len(table), bool)
    group = table.groupby(["video_id", "label"], sort=False).ngroup().to_numpy()
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    # A repeat has a neighbour within the tolerance when its group is sorted by start: few groups need a look.
    order = np.lexsort((start, group))
    step = (group[order][1:] == group[order][:-1]) & (np.diff(start[order]) <= DUPLICATE_TOLERANCE)
    for suspect in np.unique(group[order][1:][step]):
        kept: list[int] = []
        for row in np.flatnonzero(group == suspect):
            same_start = np.abs(start[row] - start[kept]) <= DUPLICATE_TOLERANCE
            same_end = np.abs(end[row] - end[kept]) <= DUPLICATE_TOLERANCE
            repeats[row] = bool((same_start & same_end).any())
            if not repeats[row]:
                kept.append(int(row))
    return repeats


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at this or any later rank, ``(K, n)``: the interpolated precision."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
