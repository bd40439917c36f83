"""What a diagnosis means and what to do about it, in plain words (Markdown)."""

from __future__ import annotations

import numpy as np

from tal_core.evaluation.diagnosis.buckets import bucket_sizes
from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.diagnosis.report import offset_text
from tal_core.evaluation.diagnosis.segment_errors import Calibration, ClassConfusion
from tal_core.evaluation.outcomes import MISSED, OUTCOMES

REMEDIES = {
    "double detection": "Suppress more: a lower IoU threshold or sigma in NMS, or fewer segments per video.",
    "wrong label": "The segment is right, the class is not: look at the confused classes, give rare ones "
    "more examples, or fuse video-level class scores.",
    "localization error": "The action is seen but its boundaries are off: finer feature stride, boundary "
    "refinement, segment voting, or annotations that disagree about where the action ends.",
    "confusion error": "Class and boundaries are both off: mostly short look-alike actions; more context and "
    "better features help more than post-processing.",
    "background error": "High scores where nothing happens: more background in training, a higher score "
    "threshold, or annotations that are missing. Look at the best scored ones first.",
    MISSED: "Nothing reaches these annotations: check which lengths are missed, whether regression ranges "
    "and anchors cover them, and whether a score threshold or a limit per video cuts them off.",
}
"""What usually helps against each kind of error."""

MEANINGS = {
    "true positive": "right class, overlaps enough, first to find its annotation",
    "double detection": "right, but a better scored detection had found the annotation already",
    "wrong label": "lies on an annotation of another class",
    "localization error": "right class, but overlaps too little",
    "confusion error": "overlaps too little, and the annotation is of another class",
    "background error": "overlaps nothing by tIoU 0.1 or more",
    MISSED: "annotation that no detection finds",
}
TELLING_GAP = 0.05
"""Between score and precision of a bin."""
FEWEST = 10
"""Buckets and cells with fewer annotations aren't singled out."""


def headline(diagnosis: Diagnosis) -> str:
    """The largest gain in one sentence, and what helps against that kind of error."""
    gains = diagnosis.fix_gain
    kind, gain = next(iter(gains.items()))
    if gain <= 0:
        return "Nothing would be gained: every annotation is found, and nothing wrong is ranked before it."
    return f"Fixing this error would gain most: **{kind}** (+{100 * gain:.1f} mAP). {REMEDIES[kind]}"


def profile_words(diagnosis: Diagnosis) -> str:
    """The most frequent error among the best detections."""
    found = diagnosis.false_positives
    share = found.fractions[0]
    if not found.band_sizes[0]:
        return "There are no detections to profile."
    kind = OUTCOMES[1 + int(np.argmax(share[1:]))]
    if share[OUTCOMES.index(kind)] == 0:
        return "Every one of the best detections (1G) is right."
    return (
        f"Of the best detections (1G) {_percent(share[0])} are right; the most frequent error is **{kind}** "
        f"({_percent(share[OUTCOMES.index(kind)])}): {MEANINGS[kind]}. {REMEDIES[kind]}"
    )


def sensitivity_words(diagnosis: Diagnosis) -> str:
    """The bucket that does worst compared with the whole."""
    enough = [
        (value, name, bucket)
        for name, kind in diagnosis.characteristics.items()
        for bucket, value in enumerate(diagnosis.sensitivity.buckets(name))
        if bucket_sizes(kind)[bucket] >= FEWEST
    ]
    if not enough:
        return f"No bucket holds {FEWEST} annotations: too few to compare."
    value, name, bucket = min(enough)
    kind = diagnosis.characteristics[name]
    return (
        f"Weakest: **{name} {kind.names[bucket]}** ({kind.range_text(bucket)}) with {_percent(value)}, over "
        f"all {_percent(diagnosis.sensitivity.base)}. Bars far below the line say which actions to collect "
        "more of, or which lengths the model isn't made for."
    )


def missed_words(diagnosis: Diagnosis) -> str:
    """How much is missed, and where most."""
    missed = diagnosis.false_negatives
    rate = float(missed.missed.mean())
    if rate == 0:
        return "Every annotation is found."
    lost, name, bucket = max(
        (rate * size, name, bucket)
        for name, kind in diagnosis.characteristics.items()
        for bucket, (rate, size) in enumerate(zip(missed.rates(name), bucket_sizes(kind), strict=True))
        if size
    )
    kind = diagnosis.characteristics[name]
    return (
        f"{_percent(rate)} of all annotations are found by no detection. Most of them are "
        f"**{name} {kind.names[bucket]}** ({kind.range_text(bucket)}): {lost:.0f} of "
        f"{missed.missed.mean(axis=0).sum():.0f}. {REMEDIES[MISSED]}"
    )


def boundary_words(diagnosis: Diagnosis) -> str:
    """Whether starts and ends are early or late."""
    offsets = diagnosis.boundaries
    if offsets.empty:
        return "Nothing is matched, so there is no boundary to compare."
    parts, bias = [], []
    for side in ("start", "end"):
        median, spread = float(offsets[side].median()), float(offsets[side].abs().median())
        parts.append(f"{side}s are {offset_text(median)} in the median (half are within {spread:.2f} s)")
        telling = abs(median) > max(0.25 * spread, 0.05) and len(offsets) >= FEWEST
        bias.append(np.sign(median) if telling else 0)
    verdict = _BIASES[bias[0] * bias[1]] if all(bias) else _one_side(bias)
    return f"Matched segments: {', '.join(parts)}. {verdict}"


_BIASES = {
    1: "Both sides are off in the same direction, the cheapest error to fix: check `offset_seconds` and the "
    "stride of the features, then how annotators saw the boundary.",
    -1: "The sides are off in opposite directions: segments come out too long or too short on the whole. "
    "Look at boundary refinement, segment voting and where annotators see an action begin and end.",
}


def _one_side(bias: list) -> str:
    if not any(bias):
        return "Neither side is off on the whole: what remains is scatter, not a shift of the time grid."
    side = "starts" if bias[0] else "ends"
    return (
        f"Only the {side} are off on the whole: see how annotators decide on them, and what the model sees."
    )


def calibration_words(calibration: Calibration) -> str:
    """Whether scores can be read as probabilities."""
    table = calibration.table
    if table.empty:
        return "There are no detections."
    if calibration.error is None:
        return "Scores lie outside 0 to 1, so they can't be probabilities; only their order counts."
    bins = table[table["count"] >= FEWEST] if (table["count"] >= FEWEST).any() else table
    gap = bins["precision"] - bins["score"]
    parts = [
        f"from {bins['low'][of].min():.2g} to {bins['high'][of].max():.2g} they promise {what}"
        for of, what in ((gap < -TELLING_GAP, "too much"), (gap > TELLING_GAP, "too little"))
        if of.any()
    ]
    said = f"scores {' and '.join(parts)}" if parts else "scores say about how often they are right"
    return (
        f"Expected calibration error **{calibration.error:.3f}**: {said}. A "
        "perfect one lies on the diagonal. AP sees only the order of scores, so this costs no mAP, but a "
        "threshold for use in practice must be read off this figure, not off the score."
    )


def confusion_words(confusion: ClassConfusion) -> str:
    """The most frequent mix-up of two classes."""
    between = confusion.counts[:-1, :-1].copy()
    np.fill_diagonal(between, 0)
    if not between.any():
        return "No matched segment has a wrong class: what is wrong is time, not class."
    row, column = divmod(int(between.argmax()), between.shape[1])
    return (
        f"Most often mixed up: **{confusion.labels[row]}** taken for **{confusion.labels[column]}**, "
        f"{between[row, column]} times. {REMEDIES['wrong label']}"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
