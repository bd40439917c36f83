"""What a detector does to classes, videos and boundaries, and whether its scores can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tal_core.evaluation.diagnosis.ranked import Ranked
from tal_core.evaluation.matching import greedy_match, pairs_in_videos
from tal_core.evaluation.outcomes import MISSED, OUTCOMES, errors_per_video


def labelled_table(ranked: Ranked, detections: pd.DataFrame, threshold: int = 0) -> pd.DataFrame:
    """The ranked detections at one threshold, by class and score, with what became of each.

    ``detections`` is the table that was ranked; the index stays its own. Columns beside its own:
    ``outcome``; ``matched`` and ``nearest``, rows of the ground truth handed in or -1 (no annotation that is
    near enough to matter); ``multiple``, the rank in the class as a multiple of its annotations, 0 to 9
    are DETAD's bands 1G to 10G.
    """
    rows = ranked.truth.index.to_numpy()
    matched, code = ranked.matched[threshold], ranked.outcome[threshold]
    nearest = np.where(matched >= 0, matched, np.where(code == len(OUTCOMES) - 1, -1, ranked.nearest))
    return detections.iloc[ranked.row].assign(
        outcome=pd.Series(OUTCOMES, dtype="str").take(code).to_numpy(),
        matched=np.where(matched >= 0, rows[matched], -1),
        nearest=np.where(nearest >= 0, rows[nearest], -1),
        multiple=ranked.multiple,
    )


def errors_per_class(ranked: Ranked, kept: np.ndarray, threshold: int = 0) -> pd.DataFrame:
    """Counts per class, the most wrong first: ``label``, ``annotations``, per outcome, missed, ``errors``.

    Of the detections ``kept`` ``(N,)``; ``errors`` is everything but true positives.
    """
    cell = ranked.class_of[kept] * len(OUTCOMES) + ranked.outcome[threshold][kept]
    counts = np.bincount(cell, minlength=len(ranked.labels) * len(OUTCOMES)).reshape(-1, len(OUTCOMES))
    table = pd.DataFrame(counts, columns=list(OUTCOMES))
    table[MISSED] = ranked.num_positive - counts[:, 0]
    table.insert(0, "label", ranked.labels)
    table.insert(1, "annotations", ranked.num_positive)
    table["errors"] = counts[:, 1:].sum(axis=1) + table[MISSED]
    return table.sort_values("errors", ascending=False, kind="stable", ignore_index=True)


def video_errors(
    ranked: Ranked, detections: pd.DataFrame, kept: np.ndarray, threshold: int = 0
) -> pd.DataFrame:
    """`errors_per_video` of the detections ``kept`` ``(N,)``."""
    table = labelled_table(ranked, detections, threshold)[kept]
    return errors_per_video(table, ranked.truth[~ranked.found(threshold, kept)])


def boundary_errors(ranked: Ranked, detections: pd.DataFrame, threshold: int = 0) -> pd.DataFrame:
    """How far the boundaries of true positives lie off, in seconds: negative is early, positive late.

    One row per true positive; ``detection`` and ``annotation`` (rows in the tables handed in), ``start``
    and ``end`` (detection's minus annotation's).
    """
    hits = np.flatnonzero(ranked.hit[threshold])
    found = ranked.truth.iloc[ranked.matched[threshold][hits]]
    taken = detections.iloc[ranked.row[hits]]
    return pd.DataFrame(
        {
            "detection": ranked.row[hits],
            "annotation": found.index.to_numpy(),
            "start": taken["start"].to_numpy() - found["start"].to_numpy(),
            "end": taken["end"].to_numpy() - found["end"].to_numpy(),
        }
    )


@dataclass(frozen=True)
class Calibration:
    """How often detections of a score are right. ``table``: one row per bin that holds detections.

    Its columns: ``low``, ``high`` (edges, the upper one included), ``count``, ``score`` (mean),
    ``precision`` (share of true positives). ``lowest``: the lower edge of the first bin, which includes it.
    ``error``: the expected calibration error, the mean of
    |precision - score| over detections (Guo et al., ICML 2017); None for scores beyond 0 to 1.
    """

    table: pd.DataFrame
    error: float | None
    lowest: float


def calibrate(score: np.ndarray, hit: np.ndarray, bins: int = 10) -> Calibration:
    """The reliability curve of ``score`` ``(N,)`` against ``hit`` ``(N,)`` in bins of equal width.

    The bins cover 0 to 1, or the range of the scores if that goes beyond.
    """
    probabilities = bool(len(score) == 0 or (score.min() >= 0 and score.max() <= 1))
    edges = np.linspace(0, 1, bins + 1) if probabilities else np.linspace(score.min(), score.max(), bins + 1)
    bin_of = np.clip(np.searchsorted(edges, score, side="left") - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    table = pd.DataFrame(
        {
            "low": edges[:-1][filled],
            "high": edges[1:][filled],
            "count": count[filled],
            "score": (np.bincount(bin_of, weights=score, minlength=bins)[filled] / count[filled]),
            "precision": (np.bincount(bin_of, weights=hit, minlength=bins)[filled] / count[filled]),
        }
    )
    gap = (table["precision"] - table["score"]).abs() * table["count"]
    return Calibration(
        table, float(gap.sum() / len(score)) if probabilities and len(score) else None, edges[0]
    )


@dataclass(frozen=True)
class ClassConfusion:
    """Annotations against detections, matched by time alone.

    ``counts``: ``(C + 1, C + 1)``; rows are the annotation's class and last *background*, columns the
    detection's class and last *missed*. ``detection_of``: ``(G,)`` position among the detections that were
    compared, -1 for missed. ``annotation_of``: the other way round, -1 for background.
    """

    labels: list[str]
    counts: np.ndarray
    detection_of: np.ndarray
    annotation_of: np.ndarray


def class_confusion(
    ranked: Ranked, detections: pd.DataFrame, kept: np.ndarray, threshold: int = 0
) -> ClassConfusion:
    """Matches the detections ``kept`` ``(N,)`` with annotations regardless of class, by descending score.

    Of the annotations that a detection reaches, those of its own class come first, then the higher tIoU: a
    segment annotated with two labels isn't a confusion of them. Positions in the result count
    ``np.flatnonzero(kept)``.
    """
    place = np.flatnonzero(kept)
    order = np.lexsort((ranked.row[place], -ranked.score[place]))
    table = detections.iloc[ranked.row[place[order]]]
    truth = ranked.truth
    pairs = pairs_in_videos(table, truth, ranked.tiou[threshold])
    same = ranked.class_of[place[order]][pairs.detection] == ranked.truth_class[pairs.ground_truth]
    pairs = replace(pairs, tiou=pairs.tiou + same)
    taken = greedy_match(pairs, len(table), len(truth), [ranked.tiou[threshold]])[0]
    annotation_of = np.empty(len(place), int)
    annotation_of[order] = taken
    detection_of = np.full(len(truth), -1)
    detection_of[annotation_of[annotation_of >= 0]] = np.flatnonzero(annotation_of >= 0)

    count = len(ranked.labels)
    detected = ranked.class_of[place]
    rows = np.where(annotation_of >= 0, ranked.truth_class[annotation_of], count)
    cells = np.concatenate(
        [rows * (count + 1) + detected, ranked.truth_class[detection_of < 0] * (count + 1) + count]
    )
    counts = np.bincount(cells, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)
    return ClassConfusion(ranked.labels, counts, detection_of, annotation_of)
