"""How well a detector does, and what it misses, by the characteristics of the annotations.

DETAD's sensitivity and false-negative analyses (Alwassel et al., ECCV 2018, sections 4.3 and 4.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tal_core.evaluation.average_precision import average_precision
from tal_core.evaluation.diagnosis.characteristics import Characteristic
from tal_core.evaluation.diagnosis.ranked import Ranked, without_imprecise


@dataclass(frozen=True)
class Sensitivity:
    """Normalised AP by bucket.

    ``ap``: ``(C, K)`` over all annotations. ``per_class``: by characteristic ``(C, B)``, averaged over the
    thresholds; NaN for classes without an annotation in the bucket.
    """

    ap: np.ndarray
    per_class: dict[str, np.ndarray]

    @property
    def base(self) -> float:
        """Average normalised mAP over all annotations."""
        return float(self.ap.mean())

    def buckets(self, name: str) -> np.ndarray:
        """Average normalised mAP ``(B,)``: the mean over the classes in the bucket; NaN if there are none."""
        table = self.per_class[name]
        known = ~np.isnan(table)
        count = known.sum(axis=0)
        total = np.where(known, table, 0.0).sum(axis=0)
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    def relative_change(self, name: str) -> np.ndarray:
        """``(B,)``: by which part each bucket lies above or below the overall value; NaN if that is 0."""
        return self.buckets(name) / self.base - 1 if self.base else np.full(len(self.buckets(name)), np.nan)


def sensitivity(ranked: Ranked, characteristics: Mapping[str, Characteristic]) -> Sensitivity:
    """Normalised AP with only one bucket's annotations as positives, for every bucket.

    Detections matched to an annotation outside the bucket are taken out, at all thresholds as soon as they
    are at one; unmatched ones stay as false positives. The mean number of annotations per class is that of
    all annotations throughout.
    """
    weight = ranked.mean_positive
    per_class = {}
    for name, characteristic in characteristics.items():
        found = np.where(ranked.hit, characteristic.bucket[ranked.matched], -2)
        columns = []
        for bucket in range(len(characteristic.names)):
            outside = ((found != bucket) & ranked.hit).any(axis=0)
            positive = np.bincount(
                ranked.truth_class[characteristic.bucket == bucket], minlength=len(ranked.labels)
            )
            kept = np.broadcast_to(~outside, ranked.hit.shape)
            ap = average_precision(ranked.hit, kept, ranked.first, positive, weight)
            columns.append(ap.mean(axis=1))
        per_class[name] = np.stack(columns, axis=1)
    base = average_precision(ranked.hit, None, ranked.first, ranked.num_positive, weight)
    return Sensitivity(base, per_class)


@dataclass(frozen=True)
class FalseNegatives:
    """Annotations that nobody found: ``missed`` is ``(K, G)``; ``ap``: normalised AP ``(C, K)`` then."""

    minimum_precision: float
    missed: np.ndarray
    ap: np.ndarray
    characteristics: Mapping[str, Characteristic]

    def rates(self, name: str) -> np.ndarray:
        """Share of a bucket's annotations that is missed ``(B,)``, averaged over thresholds; NaN if empty."""
        characteristic = self.characteristics[name]
        return self._rates(characteristic.bucket, len(characteristic.names))

    def pair_rates(self, first: str, second: str) -> np.ndarray:
        """The same for pairs of buckets, ``(B1, B2)``."""
        cell, shape = self._pair_cells(first, second)
        return self._rates(cell, shape[0] * shape[1]).reshape(shape)

    def pair_sizes(self, first: str, second: str) -> np.ndarray:
        """Annotations in pairs of buckets, ``(B1, B2)``."""
        cell, shape = self._pair_cells(first, second)
        return np.bincount(cell[cell >= 0], minlength=shape[0] * shape[1]).reshape(shape)

    def _pair_cells(self, first: str, second: str) -> tuple[np.ndarray, tuple[int, int]]:
        one, other = self.characteristics[first], self.characteristics[second]
        cell = np.where(
            (one.bucket < 0) | (other.bucket < 0), -1, one.bucket * len(other.names) + other.bucket
        )
        return cell, (len(one.names), len(other.names))

    def pairs(self) -> list[tuple[str, str]]:
        return list(combinations(self.characteristics, 2))

    def share(self, name: str) -> np.ndarray:
        """Which share of all annotations lies in each bucket, ``(B,)``."""
        return bucket_sizes(self.characteristics[name]) / self.missed.shape[1]

    def _rates(self, cell: np.ndarray, count: int) -> np.ndarray:
        inside = cell >= 0
        size = np.bincount(cell[inside], minlength=count)
        missed = np.bincount(cell[inside], weights=self.missed.mean(axis=0)[inside], minlength=count)
        return np.divide(missed, size, out=np.full(count, np.nan), where=size > 0)


def bucket_sizes(characteristic: Characteristic) -> np.ndarray:
    """Annotations per bucket, ``(B,)``."""
    inside = characteristic.bucket[characteristic.bucket >= 0]
    return np.bincount(inside, minlength=len(characteristic.names))


def false_negatives(
    ranked: Ranked, characteristics: Mapping[str, Characteristic], minimum_precision: float
) -> FalseNegatives:
    """Which annotations are missed when detections at a normalised precision up to a minimum find nothing."""
    hit = without_imprecise(ranked, minimum_precision)
    missed = np.ones((len(ranked.tiou), len(ranked.truth)), bool)
    threshold, detection = np.nonzero(hit)
    missed[threshold, ranked.matched[threshold, detection]] = False
    ap = average_precision(hit, None, ranked.first, ranked.num_positive, ranked.mean_positive)
    return FalseNegatives(minimum_precision, missed, ap, characteristics)
