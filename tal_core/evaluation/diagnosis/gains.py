"""What fixing one kind of error would gain in mAP.

Two answers. DETAD's: the errors of a kind are deleted, in normalised mAP (Alwassel et al., ECCV 2018, section
4.2). And in ordinary mAP, with each error fixed in the way its kind can be, as TIDE does for boxes (Bolya et
al., ECCV 2020, section 2.2).
"""

from __future__ import annotations

import numpy as np

from tal_core.evaluation.average_precision import average_precision
from tal_core.evaluation.diagnosis.ranked import Ranked
from tal_core.evaluation.outcomes import MISSED, OUTCOMES
from tal_core.types import Progress

ERRORS = OUTCOMES[1:]
FIXABLE = (*ERRORS, MISSED)
FIXES = {
    "double detection": "deleted",
    "wrong label": "given the class of the annotation it lies on",
    "localization error": "given the start and end of its annotation",
    "confusion error": "given the class, start and end of the annotation it overlaps most",
    "background error": "deleted",
    MISSED: "found, as precisely as the other annotations of the class",
}
_MOVES_CLASS = ("wrong label", "confusion error")
_DELETED = ("double detection", "background error")


def removed_gains(ranked: Ranked, kept: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Normalised AP ``(C, K)`` of the detections ``kept`` ``(N,)``, and what it is without each error kind.

    Nothing is matched anew.
    """
    shape = ranked.hit.shape

    def precision(mask: np.ndarray) -> np.ndarray:
        return average_precision(ranked.hit, mask, ranked.first, ranked.num_positive, ranked.mean_positive)

    base = precision(np.broadcast_to(kept, shape))
    without = {name: precision(kept & (ranked.outcome != OUTCOMES.index(name))) for name in ERRORS}
    return base, without


def fix_gains(ranked: Ranked, progress: Progress | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ordinary mAP per threshold ``(K,)``, and what it would be with each kind of error fixed.

    Double detections and background errors are deleted. A wrong label gets the class of its annotation, a
    localization error its boundaries, a confusion error both: the best scored one of an annotation that no
    true positive has taken becomes one, at its own score; the others, which would only double it, are
    deleted. A missed annotation is found with the precision of the found ones of its class, so AP grows by
    annotations / found ones; where none was found, AP becomes 1.
    """
    base = np.zeros(len(ranked.tiou))
    fixed = {name: np.zeros(len(ranked.tiou)) for name in FIXABLE}
    for k in range(len(ranked.tiou)):
        hit, everything = ranked.hit[k], np.ones(len(ranked.row), bool)
        ap = _ordinary(ranked, hit, everything, ranked.first)
        base[k] = ap.mean()
        for name in ERRORS:
            wrong = ranked.outcome[k] == OUTCOMES.index(name)
            chosen = np.zeros(0, int) if name in _DELETED else _best_of_each(ranked, k, wrong)
            if name in _MOVES_CLASS:
                fixed[name][k] = _moved(ranked, hit, ~wrong, chosen).mean()
            else:
                right, kept = hit.copy(), ~wrong
                right[chosen] = kept[chosen] = True
                fixed[name][k] = _ordinary(ranked, right, kept, ranked.first).mean()
        found = np.bincount(ranked.truth_class[ranked.found(k)], minlength=len(ranked.labels))
        fixed[MISSED][k] = np.where(found, ap * ranked.num_positive / np.maximum(found, 1), 1.0).mean()
        if progress:
            progress(k + 1, len(ranked.tiou), "fixing errors")
    return base, fixed


def _ordinary(ranked: Ranked, hit: np.ndarray, kept: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Ordinary AP ``(C,)`` at one threshold."""
    return average_precision(hit[None], kept[None], first, ranked.num_positive)[:, 0]


def _best_of_each(ranked: Ranked, threshold: int, wrong: np.ndarray) -> np.ndarray:
    """Of the ``wrong`` detections the best scored one for each nearest annotation that nobody found."""
    free = ~ranked.found(threshold)
    candidates = np.flatnonzero(wrong)
    candidates = candidates[free[ranked.nearest[candidates]]]
    best_first = candidates[np.lexsort((ranked.row[candidates], -ranked.score[candidates]))]
    _, first = np.unique(ranked.nearest[best_first], return_index=True)
    return best_first[first]


def _moved(ranked: Ranked, hit: np.ndarray, kept: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Ordinary AP ``(C,)`` with ``chosen`` as true positives of their annotation's class, ranked by score."""
    target = ranked.truth_class[ranked.nearest[chosen]]
    place = np.empty(len(chosen), int)
    for label in np.unique(target):
        start, stop = ranked.first[label], ranked.first[label + 1]
        of_class = target == label
        descending = -ranked.score[start:stop]
        place[of_class] = start + np.searchsorted(descending, -ranked.score[chosen[of_class]], side="right")
    # np.insert puts what shares a place in the order given: at a class's border lower classes must go first.
    order = np.lexsort((-ranked.score[chosen], target))
    place, target = place[order], target[order]
    first = ranked.first + np.concatenate([[0], np.cumsum(np.bincount(target, minlength=len(ranked.labels)))])
    return _ordinary(ranked, np.insert(hit, place, True), np.insert(kept, place, True), first)
