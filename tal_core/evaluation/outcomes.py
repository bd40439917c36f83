"""What became of each detection, and which annotations were missed: DETAD's error types.

Alwassel, Caba Heilbron, Escorcia, Ghanem: Diagnosing Error in Temporal Action Detectors, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tal_core.evaluation.matching import Pairs, greedy_match, pairs_in_videos, positions
from tal_core.types import InputError

OUTCOMES = (
    "true positive",
    "double detection",
    "wrong label",
    "localization error",
    "confusion error",
    "background error",
)
MISSED = "missed"
BACKGROUND_TIOU = 0.1
"""Below this overlap with every annotation a detection is a background error."""


def label_detections(
    ground_truth: pd.DataFrame, detections: pd.DataFrame, tiou: float = 0.5
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Adds to each detection its outcome at one threshold; also returns the annotations nobody found.

    The detections keep rows and order and gain four columns:
    ``outcome``  a true positive takes its annotation by the rule of average precision. Otherwise the
                 annotation of ANY class with the highest tIoU in the video decides (equal: the first):
                 at or above ``tiou`` a double detection if the label is the same, else a wrong label; at
                 0.1 or more a localization error if the label is the same, else a confusion error;
                 background error in all other cases.
    ``matched``  row (position, from 0) of the annotation a true positive took, else -1.
    ``nearest``  row of the annotation that decided, -1 for background errors.
    ``tiou``     overlap with ``nearest``, 0 for background errors.

    Nothing is cleaned or clipped. The missed annotations keep their index. Raises `InputError` on a
    threshold outside (0, 1].
    """
    if not 0 < tiou <= 1:
        raise InputError(f"tIoU threshold {tiou:g} is outside its range", hint="Give one above 0 and up to 1")
    order = np.argsort(-detections["score"].to_numpy(np.float64), kind="stable")
    labels = pd.Index(ground_truth["label"].unique())
    match = match_in_videos(
        ground_truth,
        positions(labels, ground_truth["label"]),
        detections.iloc[order],
        positions(labels, detections["label"])[order],
        [tiou],
    )
    pairs, matched, overlap = match.pairs, match.matched[0], match.overlap
    code = outcome_codes(matched, overlap, match.label_fits, tiou)
    of_match = pairs.where(matched[pairs.detection] == pairs.ground_truth)
    overlap[of_match.detection] = of_match.tiou
    nearest = np.where(matched >= 0, matched, np.where(code == 5, -1, match.nearest))
    overlap[code == 5] = 0.0

    labelled = detections.copy()
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    labelled["outcome"] = pd.Series(OUTCOMES, dtype="str").take(code[row]).to_numpy()
    labelled["matched"] = matched[row]
    labelled["nearest"] = nearest[row]
    labelled["tiou"] = overlap[row]
    found = np.zeros(len(ground_truth), bool)
    found[matched[matched >= 0]] = True
    return labelled, ground_truth[~found]


class VideoMatch(NamedTuple):
    """N detections by rank, matched with annotations at K thresholds, and the nearest one of any class.

    ``pairs``: those in one video that overlap enough to matter. ``matched``: ``(K, N)`` position of the
    annotation taken, else -1. ``nearest``, ``overlap``, ``label_fits``: ``(N,)``, see `nearest_annotation`.
    """

    pairs: Pairs
    matched: np.ndarray
    nearest: np.ndarray
    overlap: np.ndarray
    label_fits: np.ndarray


def match_in_videos(
    truth: pd.DataFrame,
    truth_class: np.ndarray,
    detections: pd.DataFrame,
    class_of: np.ndarray,
    tiou: Sequence[float],
) -> VideoMatch:
    """Matches detections, in order of rank, within their class, and finds the nearest of all annotations."""
    pairs = pairs_in_videos(detections, truth, min(*tiou, BACKGROUND_TIOU))
    same_label = class_of[pairs.detection] == truth_class[pairs.ground_truth]
    candidates = pairs.where(same_label & (pairs.tiou >= min(tiou)))
    matched = greedy_match(candidates, len(detections), len(truth), tiou)
    return VideoMatch(pairs, matched, *nearest_annotation(pairs, same_label, len(detections)))


def outcome_codes(
    matched: np.ndarray, overlap: np.ndarray, label_fits: np.ndarray, tiou: float
) -> np.ndarray:
    """Positions in ``OUTCOMES`` ``(N,)``, from each detection's match and what `nearest_annotation` says."""
    return np.select(
        [matched >= 0, overlap >= tiou, overlap >= BACKGROUND_TIOU],
        [0, np.where(label_fits, 1, 2), np.where(label_fits, 3, 4)],
        default=5,
    )


def nearest_annotation(
    pairs: Pairs, same_label: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per detection the annotation with the highest tIoU (-1: none), that tIoU, and if its label fits.

    Of equal tIoUs the annotation that comes first counts. ``same_label``: one truth value per pair.
    """
    best = np.lexsort((-pairs.tiou, pairs.detection))  # stable: among equal tIoUs the first in the file leads
    _, first = np.unique(pairs.detection[best], return_index=True)
    best = best[first]
    nearest, overlap, fits = np.full(num, -1), np.zeros(num), np.zeros(num, bool)
    nearest[pairs.detection[best]] = pairs.ground_truth[best]
    overlap[pairs.detection[best]] = pairs.tiou[best]
    fits[pairs.detection[best]] = same_label[best]
    return nearest, overlap, fits


def errors_per_video(
    labelled: pd.DataFrame, missed: pd.DataFrame, videos: Sequence[str] | None = None
) -> pd.DataFrame:
    """Counts per video, the most wrong first: ``video_id``, one column per outcome, ``missed``, ``errors``.

    Takes what `label_detections` gave (of detections above the score threshold in view). ``errors`` is
    everything but true positives, equal numbers go by name. ``videos`` lists the videos to report, with or
    without segments; without it, those that have any.
    """
    if videos is None:
        videos = pd.unique(pd.concat([labelled["video_id"], missed["video_id"]]))
    kinds = [*OUTCOMES, MISSED]
    index = pd.Index(sorted(set(videos)))
    video = np.concatenate([positions(index, labelled["video_id"]), positions(index, missed["video_id"])])
    outcome = positions(OUTCOMES, labelled["outcome"])
    kind = np.concatenate([outcome, np.full(len(missed), len(OUTCOMES))])
    cell = (video * len(kinds) + kind)[video >= 0]
    counts = np.bincount(cell, minlength=len(index) * len(kinds)).reshape(len(index), len(kinds))
    table = pd.DataFrame(counts, columns=kinds)
    table.insert(0, "video_id", index)
    table["errors"] = counts[:, 1:].sum(axis=1)
    return table.sort_values("errors", ascending=False, kind="stable", ignore_index=True)
