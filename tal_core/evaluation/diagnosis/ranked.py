"""Detections ranked class by class, with what became of each at several tIoU thresholds.

The common ground of every diagnosis: matched once, so that each question is arithmetic on arrays. The
protocol is DETAD's (Alwassel, Caba Heilbron, Escorcia, Ghanem: Diagnosing Error in Temporal Action Detectors,
ECCV 2018): annotations without length, or longer than their video, don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tal_core.evaluation.average_precision import (
    Ranking,
    check_annotated,
    check_thresholds,
    class_order,
    clean_ground_truth,
    precisions,
)
from tal_core.evaluation.matching import positions
from tal_core.evaluation.outcomes import match_in_videos, outcome_codes


@dataclass(frozen=True, kw_only=True)
class Ranked(Ranking):
    """A ranking with what became of every detection.

    ``outcome``: ``(K, N)`` positions in ``OUTCOMES``. ``nearest``: ``(N,)`` position in ``truth`` of the
    annotation with the highest tIoU, -1 for none.
    """

    outcome: np.ndarray
    nearest: np.ndarray

    @property
    def mean_positive(self) -> float:
        """Annotations per class, the N of normalised precision."""
        return len(self.truth) / len(self.labels)

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
    thresholds = check_thresholds(tiou)
    truth, ignored = _annotations_that_count(ground_truth, durations)
    labels = sorted(truth["label"].unique())
    class_of, rows, first = class_order(labels, detections)
    ignored["detections_with_unknown_label"] = len(detections) - len(rows)
    truth_class = positions(labels, truth["label"])
    match = match_in_videos(truth, truth_class, detections.iloc[rows], class_of[rows], thresholds)
    pairs = zip(match.matched, thresholds, strict=True)
    outcome = np.stack([outcome_codes(row, match.overlap, match.label_fits, t) for row, t in pairs])
    return Ranked(
        tiou=thresholds,
        labels=labels,
        truth=truth,
        truth_class=truth_class,
        row=rows,
        first=first,
        score=detections["score"].to_numpy(np.float64)[rows],
        matched=match.matched,
        outcome=outcome.astype(np.int8),
        nearest=match.nearest,
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
    check_annotated(truth, "diagnose")
    return truth, {
        "ambiguous_annotations": counts["ambiguous_annotations"],
        "annotations_without_length": int(empty.sum()),
        "annotations_longer_than_their_video": int(beyond.sum()),
    }


def without_imprecise(ranked: Ranked, minimum: float) -> np.ndarray:
    """``hit`` with every rank dropped whose normalised precision is at or below ``minimum``; ``(K, N)``."""
    hit = ranked.hit.copy()
    for index, rows in ranked.per_class():
        precision = precisions(hit[:, rows], None, int(ranked.num_positive[index]), ranked.mean_positive)
        hit[:, rows] &= precision > minimum
    return hit
