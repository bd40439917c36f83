"""Detections ranked class by class, with what became of each at several tIoU thresholds.

The common ground of every diagnosis: matched once, so that each question is arithmetic on arrays. The
protocol is DETAD's (Alwassel, Caba Heilbron, Escorcia, Ghanem: Diagnosing Error in Temporal Action Detectors,
ECCV 2018): annotations without length, or longer than their video, don't count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd

from tal_core.evaluation.average_precision import clean_ground_truth
from tal_core.evaluation.matching import greedy_match, overlapping_pairs
from tal_core.evaluation.outcomes import BACKGROUND_TIOU, nearest_annotation, outcome_codes
from tal_core.types import InputError


@dataclass(frozen=True)
class Ranked:
    """N detections by class (alphabetical) and descending score, matched with G annotations at K thresholds.

    ``truth``: the annotations that count; its index is their row in the table handed in. ``row``: the
    detections' rows in theirs. ``first``: ``(C + 1,)`` where each class begins. ``matched``: ``(K, N)``
    position in ``truth`` of the annotation a true positive took, else -1. ``outcome``: ``(K, N)`` positions
    in ``OUTCOMES``. ``nearest``: ``(N,)`` position of the annotation with the highest tIoU, -1 for none.
    ``ignored``: how many annotations and detections don't count, by reason.
    """

    tiou: list[float]
    labels: list[str]
    truth: pd.DataFrame
    truth_class: np.ndarray
    row: np.ndarray
    first: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    outcome: np.ndarray
    nearest: np.ndarray
    ignored: dict[str, int]

    @cached_property
    def hit(self) -> np.ndarray:
        """``(K, N)``: the true positives."""
        return self.matched >= 0

    @cached_property
    def num_positive(self) -> np.ndarray:
        """``(C,)`` annotations of each class."""
        return np.bincount(self.truth_class, minlength=len(self.labels))

    @property
    def mean_positive(self) -> float:
        """Annotations per class, the N of normalised precision."""
        return len(self.truth) / len(self.labels)

    @cached_property
    def class_of(self) -> np.ndarray:
        """``(N,)`` the class of each detection."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.first))

    @cached_property
    def multiple(self) -> np.ndarray:
        """``(N,)`` rank within the class as a multiple of its G annotations: 0 for the best G, then 1."""
        rank = np.arange(len(self.row)) - self.first[self.class_of]
        return rank // self.num_positive[self.class_of]

    def found(self, threshold: int, kept: np.ndarray | None = None) -> np.ndarray:
        """``(G,)``: annotations that a detection took at a threshold; only ``kept`` ones if given."""
        matched = self.matched[threshold] if kept is None else self.matched[threshold][kept]
        found = np.zeros(len(self.truth), bool)
        found[matched[matched >= 0]] = True
        return found


def rank_detections(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    durations: pd.Series | None = None,
) -> Ranked:
    """Ranks and matches ``detections`` with the ``ground_truth`` of one subset.

    ``durations``: seconds by video id, for annotations longer than their video; NaN or none where unknown.
    Detections of other videos are background errors; those whose label is no class are ignored. Equal
    scores go by position, the earlier first. Raises `InputError` on an empty ground truth and on thresholds
    outside (0, 1].
    """
    if len(tiou) == 0 or not all(0 < t <= 1 for t in tiou):
        raise InputError("tIoU thresholds must be above 0 and up to 1", hint="Give one, e.g. 0.5")
    truth, ignored = _annotations_that_count(ground_truth, durations)
    labels = sorted(truth["label"].unique())
    class_of = pd.Index(labels).get_indexer(detections["label"])
    ignored["detections_with_unknown_label"] = int((class_of < 0).sum())
    score = detections["score"].to_numpy(np.float64)
    rows = np.flatnonzero(class_of >= 0)
    rows = rows[np.lexsort((-score[rows], class_of[rows]))]  # stable: equal scores stay in file order
    truth_class = pd.Index(labels).get_indexer(truth["label"])
    matched, outcome, nearest = _match(truth, truth_class, detections.iloc[rows], class_of[rows], tiou)
    return Ranked(
        tiou=[float(t) for t in tiou],
        labels=labels,
        truth=truth,
        truth_class=truth_class,
        row=rows,
        first=np.searchsorted(class_of[rows], np.arange(len(labels) + 1)),
        score=score[rows],
        matched=matched,
        outcome=outcome,
        nearest=nearest,
        ignored=ignored,
    )


def _annotations_that_count(
    ground_truth: pd.DataFrame, durations: pd.Series | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The annotations that DETAD keeps (their index: their row), and how many it doesn't, by reason."""
    clear, counts = clean_ground_truth(ground_truth.reset_index(drop=True))
    length = clear["end"] - clear["start"]
    empty = (length <= 0).to_numpy()
    beyond = np.zeros(len(clear), bool)
    if durations is not None:
        beyond = (length > clear["video_id"].map(durations).astype("float64")).to_numpy() & ~empty
    truth = clear[~empty & ~beyond]
    if truth.empty:
        raise InputError(
            "there is no ground truth to diagnose against",
            hint="Choose a subset whose videos have annotations",
        )
    return truth, {
        "ambiguous_annotations": counts["ambiguous_annotations"],
        "annotations_without_length": int(empty.sum()),
        "annotations_longer_than_their_video": int(beyond.sum()),
    }


def _match(
    truth: pd.DataFrame,
    truth_class: np.ndarray,
    ranked: pd.DataFrame,
    class_of: np.ndarray,
    tiou: Sequence[float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``matched``, ``outcome`` and ``nearest`` of `Ranked`."""
    videos = pd.Index(truth["video_id"].unique())
    pairs = overlapping_pairs(
        videos.get_indexer(ranked["video_id"]),
        ranked[["start", "end"]].to_numpy(np.float64),
        videos.get_indexer(truth["video_id"]),
        truth[["start", "end"]].to_numpy(np.float64),
        min(*tiou, BACKGROUND_TIOU),
    )
    same_label = class_of[pairs.detection] == truth_class[pairs.ground_truth]
    candidates = pairs.where(same_label & (pairs.tiou >= min(tiou)))
    matched = greedy_match(candidates, len(ranked), len(truth), tiou)
    nearest, overlap, label_fits = nearest_annotation(pairs, same_label, len(ranked))
    outcome = np.stack([outcome_codes(m, overlap, label_fits, t) for m, t in zip(matched, tiou, strict=True)])
    return matched, outcome.astype(np.int8), nearest


def normalised(ranked: Ranked) -> np.ndarray:
    """The weight ``(C,)`` for `average_precision` that makes precision DETAD's normalised one."""
    return np.full(len(ranked.labels), ranked.mean_positive)


def average_precision(
    hit: np.ndarray, kept: np.ndarray, first: np.ndarray, num_positive: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """AP ``(C, K)`` of ranked detections; NaN for a class without positives.

    ``hit``, ``kept``: ``(K, N)``; what isn't kept is as if it weren't there. Precision is r W / (r W + F)
    with recall r and F false positives so far: with the weight W = ``num_positive`` the ordinary one, with
    the mean number of annotations per class DETAD's normalised one (its section 3).
    """
    ap = np.full((len(num_positive), len(hit)), np.nan)
    for index, rows in _classes(first):
        if num_positive[index]:
            true = hit[:, rows] & kept[:, rows]
            precision = precisions(true, kept[:, rows], num_positive[index], weight[index])
            best_later = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            ap[index] = (best_later * true).sum(axis=1) / num_positive[index]
    return ap


def precisions(true: np.ndarray, kept: np.ndarray, num_positive: int, weight: float) -> np.ndarray:
    """Precision ``(K, n)`` after each rank of one class, see `average_precision`; 0 while nothing counted."""
    found = np.cumsum(true, axis=1)
    recalled = found / num_positive * weight
    counted = recalled + (np.cumsum(kept, axis=1) - found)
    return np.divide(recalled, counted, out=np.zeros_like(recalled), where=counted > 0)


def _classes(first: np.ndarray) -> Iterator[tuple[int, slice]]:
    for index, (start, stop) in enumerate(pairwise(first.tolist())):
        yield index, slice(start, stop)


def without_imprecise(ranked: Ranked, minimum: float) -> np.ndarray:
    """``hit`` with every rank dropped whose normalised precision is at or below ``minimum``; ``(K, N)``."""
    hit = ranked.hit.copy()
    for index, rows in _classes(ranked.first):
        everything = np.ones_like(hit[:, rows])
        precision = precisions(
            hit[:, rows], everything, int(ranked.num_positive[index]), ranked.mean_positive
        )
        hit[:, rows] &= precision > minimum
    return hit
