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
from itertools import pairwise

import numpy as np
import pandas as pd

from tal_core.evaluation.matching import greedy_match, overlapping_pairs
from tal_core.evaluation.result import Evaluation, format_table, parse_tiou
from tal_core.types import InputError

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
AMBIGUOUS = "Ambiguous"
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
    ap = np.zeros((len(ranking.labels), len(ranking.tiou)))
    for index, rows in ranking.per_class():
        hit = ranking.hit[:, rows]
        best_later = _envelope(_precision(hit, ranking.counted[:, rows]))
        ap[index] = (best_later * hit).sum(axis=1) / ranking.num_positive[index]
    return Evaluation(
        tiou=ranking.tiou,
        labels=ranking.labels,
        ap=ap,
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
        hit = ranking.hit[:, rows]
        precision = _precision(hit, ranking.counted[:, rows])
        recall = np.cumsum(hit, axis=1) / ranking.num_positive[index]
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


@dataclass(frozen=True)
class Ranking:
    """Detections by class and descending score, and what each is at each of K thresholds."""

    tiou: list[float]
    labels: list[str]
    truth: pd.DataFrame  # the annotations that count; their index is that of the table handed in
    num_positive: np.ndarray  # (C,) annotations
    first: np.ndarray  # (C + 1,) where each class begins among the ranked detections
    row: np.ndarray  # (N,) row of each in the table of detections
    score: np.ndarray  # (N,)
    matched: np.ndarray  # (K, N) row in ``truth`` of the annotation it takes, -1 for none
    hit: np.ndarray  # (K, N) matched with an annotation
    counted: np.ndarray  # (K, N) counts in the precision; all but excused detections
    ignored: dict[str, int]

    def per_class(self) -> Iterator[tuple[int, slice]]:
        """Class index and its rows."""
        for index, (start, stop) in enumerate(pairwise(self.first.tolist())):
            yield index, slice(start, stop)


def rank(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    protocol: str = "official",
    ambiguous: pd.DataFrame | None = None,
) -> Ranking:
    """Ranks and matches detections as `evaluate` does, for whoever asks more of them. Raises the same."""
    thresholds = _check_thresholds(tiou)
    ground_truth, ignored = clean_ground_truth(ground_truth, protocol)
    if ground_truth.empty:
        raise InputError(
            "there is no ground truth to evaluate against",
            hint="Choose a subset whose videos have annotations",
        )
    labels = sorted(ground_truth["label"].unique())
    videos = pd.Index(ground_truth["video_id"].unique())
    class_of = pd.Index(labels).get_indexer(detections["label"])
    known = class_of >= 0
    num_ambiguous = int((detections["label"] == AMBIGUOUS).sum())
    ignored["ambiguous_detections"] = num_ambiguous
    ignored["detections_with_unknown_label"] = int((~known).sum()) - num_ambiguous

    score = detections["score"].to_numpy(np.float64)
    rows = np.flatnonzero(known)
    rows = rows[np.lexsort((-score[rows], class_of[rows]))]  # stable: equal scores stay in file order
    segments = detections[["start", "end"]].to_numpy(np.float64)[rows]
    video_of = videos.get_indexer(detections["video_id"])[rows]

    group = np.where(video_of >= 0, video_of * len(labels) + class_of[rows], -1)
    truth_class = pd.Index(labels).get_indexer(ground_truth["label"])
    pairs = overlapping_pairs(
        group,
        segments,
        videos.get_indexer(ground_truth["video_id"]) * len(labels) + truth_class,
        ground_truth[["start", "end"]].to_numpy(np.float64),
        min(thresholds),
    )
    matched = greedy_match(pairs, len(rows), len(ground_truth), thresholds)
    hit = matched >= 0
    counted = np.ones_like(hit)
    if ambiguous is not None:
        counted = hit | ~_touches(detections["video_id"].to_numpy()[rows], segments, ambiguous)
    return Ranking(
        tiou=thresholds,
        labels=labels,
        truth=ground_truth,
        num_positive=np.bincount(truth_class, minlength=len(labels)),
        first=np.searchsorted(class_of[rows], np.arange(len(labels) + 1)),
        row=rows,
        score=score[rows],
        matched=matched,
        hit=hit,
        counted=counted,
        ignored=ignored,
    )


def _check_thresholds(tiou: Sequence[float]) -> list[float]:
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


def _touches(video_ids: np.ndarray, segments: np.ndarray, others: pd.DataFrame) -> np.ndarray:
    """Marks segments that overlap any of ``others`` in the same video by more than nothing."""
    videos = pd.Index(others["video_id"].unique())
    pairs = overlapping_pairs(
        videos.get_indexer(video_ids),
        segments,
        videos.get_indexer(others["video_id"]),
        others[["start", "end"]].to_numpy(np.float64),
        np.nextafter(0.0, 1.0),
    )
    touches = np.zeros(len(segments), bool)
    touches[pairs.detection] = True
    return touches


def _precision(hit: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Precision after each rank, ``(K, n)``; 0 while nothing has been counted."""
    return np.cumsum(hit, axis=1) / np.maximum(np.cumsum(counted, axis=1), 1)


def _envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at this or any later rank, ``(K, n)``: the interpolated precision."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
