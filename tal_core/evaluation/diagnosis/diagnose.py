"""What is wrong with a detector, and what fixing it would gain: the DETAD analyses and more in one go.

Alwassel, Caba Heilbron, Escorcia, Ghanem: Diagnosing Error in Temporal Action Detectors, ECCV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tal_core.evaluation.diagnosis import segment_errors
from tal_core.evaluation.diagnosis.buckets import FalseNegatives, Sensitivity, false_negatives, sensitivity
from tal_core.evaluation.diagnosis.characteristics import Characteristic, characterize
from tal_core.evaluation.diagnosis.gains import fix_gains, removed_gains
from tal_core.evaluation.diagnosis.ranked import Ranked, rank_detections
from tal_core.evaluation.outcomes import OUTCOMES
from tal_core.types import Progress

LIMIT = 10
"""DETAD looks at the best 10 G detections of a class with G annotations, in bands of G."""
MINIMUM_PRECISION = 0.05
"""At this normalised precision or less a detection finds nothing in DETAD's false-negative analysis."""


@dataclass(frozen=True)
class FalsePositives:
    """DETAD's false-positive analysis of the best ``limit`` x G detections of every class.

    ``ap``, ``ap_without[error]``: normalised AP ``(C, K)``. ``counts``: ``(bands, K, outcomes)``.
    """

    limit: int
    ap: np.ndarray
    ap_without: dict[str, np.ndarray]
    counts: np.ndarray

    @property
    def average_map(self) -> float:
        """Normalised mAP, averaged over the thresholds."""
        return float(self.ap.mean())

    @property
    def gain(self) -> dict[str, float]:
        """What average normalised mAP gains when the errors of a kind are deleted."""
        return {name: float(ap.mean()) - self.average_map for name, ap in self.ap_without.items()}

    @property
    def band_sizes(self) -> np.ndarray:
        return self.counts[:, 0].sum(axis=1)

    @property
    def fractions(self) -> np.ndarray:
        """``(bands, outcomes)``: counts averaged over thresholds / size of the band; 0 in an empty band."""
        return self.counts.mean(axis=1) / np.maximum(self.band_sizes, 1)[:, None]


@dataclass(frozen=True)
class Diagnosis:
    """All that is known about the errors of one set of detections.

    ``base_map``: ordinary mAP ``(K,)``; ``fixed_map[kind]``: with errors of a kind fixed
    (``gains.fix_gains``). ``notes``: sentences on what makes the numbers less telling. What depends on
    one threshold (boundaries, calibration, classes) is taken at the first.
    """

    ranked: Ranked
    detections: pd.DataFrame
    characteristics: dict[str, Characteristic]
    false_positives: FalsePositives
    sensitivity: Sensitivity
    false_negatives: FalseNegatives
    base_map: np.ndarray
    fixed_map: dict[str, np.ndarray]
    notes: list[str]

    @property
    def average_map(self) -> float:
        """Ordinary mAP, averaged over the thresholds."""
        return float(self.base_map.mean())

    @property
    def fix_gain(self) -> dict[str, float]:
        """What ordinary average mAP gains when each kind of error is fixed, the largest gain first."""
        gain = {name: float(value.mean()) - self.average_map for name, value in self.fixed_map.items()}
        return dict(sorted(gain.items(), key=lambda item: -item[1]))

    @cached_property
    def boundaries(self) -> pd.DataFrame:
        """See `segment_errors.boundary_errors`."""
        return segment_errors.boundary_errors(self.ranked, self.detections)

    @cached_property
    def calibration(self) -> segment_errors.Calibration:
        """See `segment_errors.calibrate`; of all detections."""
        return segment_errors.calibrate(self.ranked.score, self.ranked.hit[0])

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """See `segment_errors.labelled_table`."""
        return segment_errors.labelled_table(self.ranked, self.detections)

    def best(self, multiple: int = 1) -> np.ndarray:
        """``(N,)``: the best ``multiple`` x G ranked detections of each class with G annotations."""
        return self.ranked.multiple < multiple


def diagnose(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float] = (0.5,),
    *,
    durations: pd.Series | None = None,
    buckets: str = "auto",
    limit: int = LIMIT,
    minimum_precision: float = MINIMUM_PRECISION,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnoses ``detections`` against the ``ground_truth`` of one subset.

    ``durations``: seconds of the videos by id; without them nothing is said about coverage. ``buckets``: one
    of ``characteristics.SCHEMES``. Figures are averaged over the thresholds ``tiou``. Raises `InputError` on
    an empty ground truth, thresholds outside (0, 1] and unknown buckets.
    """
    steps = iter(range(1, 6))

    def report(message: str) -> None:
        if progress:
            progress(next(steps), 5, message)

    ranked = rank_detections(ground_truth, detections, tiou, durations)
    report("matched detections")
    characteristics = characterize(ranked.truth, ground_truth, durations, buckets)
    false_positives = _false_positives(ranked, limit)
    report("profiled false positives")
    by_bucket = sensitivity(ranked, characteristics)
    report("measured sensitivity")
    missed = false_negatives(ranked, characteristics, minimum_precision)
    base, fixed = fix_gains(ranked)
    report("measured what fixing errors gains")
    notes = _notes(ranked, ground_truth, detections, characteristics)
    report("done")
    return Diagnosis(
        ranked, detections, characteristics, false_positives, by_bucket, missed, base, fixed, notes
    )


def _false_positives(ranked: Ranked, limit: int) -> FalsePositives:
    kept = ranked.multiple < limit
    ap, without = removed_gains(ranked, kept)
    kinds = len(OUTCOMES)
    counts = [
        np.bincount(ranked.multiple[kept] * kinds + codes[kept], minlength=limit * kinds)
        for codes in ranked.outcome
    ]
    return FalsePositives(
        limit, ap, without, np.stack(counts, axis=0).reshape(-1, limit, kinds).swapaxes(0, 1)
    )


def _notes(
    ranked: Ranked,
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    characteristics: dict[str, Characteristic],
) -> list[str]:
    """Sentences on odd input, each with what it does to the numbers."""
    notes = []
    inside = detections["video_id"].isin(ground_truth["video_id"])
    if detections.empty:
        notes.append("There are no detections, so every annotation is missed.")
    elif not inside.any():
        notes.append("No detection lies in an annotated video of this subset, so all are background errors.")
    elif len(ranked.score) > 1 and np.ptp(ranked.score) == 0:
        notes.append("All scores are equal, so the ranking, and with it AP, is the order in the file.")
    silent = [name for name, rows in zip(ranked.labels, np.diff(ranked.first), strict=True) if not rows]
    if silent and len(detections):
        notes.append(f"Never detected, AP 0: {_some(silent)}.")
    single = [name for name, n in zip(ranked.labels, ranked.num_positive, strict=True) if n == 1]
    if single:
        notes.append(f"Only one annotation, so AP says little: {_some(single)}.")
    if len(ranked.truth["video_id"].unique()) == 1:
        notes.append("Only one video is annotated: take the buckets as a description of it, not as a trend.")
    if "coverage" not in characteristics:
        notes.append("No video's duration is known, so nothing is said about coverage.")
    notes += [
        f"Left out: {count} {reason.replace('_', ' ')}." for reason, count in ranked.ignored.items() if count
    ]
    return notes


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
