"""A diagnosis as JSON and as plain text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tal_core.evaluation.diagnosis.buckets import bucket_sizes
from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.diagnosis.segment_errors import class_confusion, errors_per_class, video_errors
from tal_core.evaluation.outcomes import BACKGROUND_TIOU, MISSED, OUTCOMES

FEWEST_TELLING = 10
"""Pairs of buckets with fewer annotations aren't named in the text."""
KEYS = {
    "true positive": "true_positive",
    "double detection": "double_detection",
    "wrong label": "wrong_label",
    "localization error": "localization",
    "confusion error": "confusion",
    "background error": "background",
    MISSED: "missed",
}
"""Outcomes as the keys of the JSON."""


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The form of ``diagnose --json``: fractions, not percent, and None where there is nothing to say.

    ``false_negative_ground_truth``: rows of the missed annotations, at the first threshold.
    """
    return {
        "tiou": diagnosis.ranked.tiou,
        "notes": diagnosis.notes,
        "false_positives": _false_positives(diagnosis),
        "sensitivity": _sensitivity(diagnosis),
        "false_negatives": _false_negatives(diagnosis),
        "mended": {
            "average_mAP": float(diagnosis.base_map.mean()),
            "mAP": diagnosis.base_map.tolist(),
            "average_mAP_gain": {KEYS[name]: gain for name, gain in diagnosis.fix_gain.items()},
        },
        **_segment_errors(diagnosis),
    }


def _false_positives(diagnosis: Diagnosis) -> dict[str, Any]:
    found, ranked = diagnosis.false_positives, diagnosis.ranked
    counts = found.counts.sum(axis=0)  # (K, outcomes)
    profile = [
        {
            "band": f"{band + 1}G",
            "num_predictions": int(found.band_sizes[band]),
            "counts": _by_kind(found.counts[band].T),
            "average_fraction": _by_kind(found.fractions[band]),
        }
        for band in range(found.limit)
    ]
    return {
        "limit_factor": found.limit,
        "min_tiou": BACKGROUND_TIOU,
        "minimum_normalized_precision": 0.0,
        "average_num_instances_per_class": ranked.mean_positive,
        "num_ground_truth": len(ranked.truth),
        "num_predictions_after_limit": int(found.band_sizes.sum()),
        "predictions_after_limit_per_class": _by_label(
            ranked.labels,
            np.bincount(ranked.class_of[diagnosis.best(found.limit)], minlength=len(ranked.labels)),
        ),
        "mAP_N": found.ap.mean(axis=0).tolist(),
        "average_mAP_N": found.average_map,
        "ap_N": _by_label(ranked.labels, found.ap),
        "error_counts": _by_kind(counts.T),
        "profile": profile,
        "average_mAP_N_gain_when_removed": {KEYS[name]: gain for name, gain in found.gain.items()},
        "mAP_N_when_removed": {KEYS[n]: ap.mean(axis=0).tolist() for n, ap in found.ap_without.items()},
        "ap_N_when_removed": {KEYS[n]: _by_label(ranked.labels, ap) for n, ap in found.ap_without.items()},
    }


def _sensitivity(diagnosis: Diagnosis) -> dict[str, Any]:
    found, kinds = diagnosis.sensitivity, diagnosis.characteristics
    return {
        "limit_factor": None,
        "minimum_normalized_precision": 0.0,
        "average_num_instances_per_class": diagnosis.ranked.mean_positive,
        "base_average_mAP_N": found.base,
        "mAP_N": found.ap.mean(axis=0).tolist(),
        "ap_N": _by_label(diagnosis.ranked.labels, found.ap),
        "buckets": {n: _named(c.names, found.buckets(n)) for n, c in kinds.items()},
        "relative_change": {n: _named(c.names, found.relative_change(n)) for n, c in kinds.items()},
        "per_class": {
            n: {
                label: _named(c.names, row)
                for label, row in zip(diagnosis.ranked.labels, found.per_class[n], strict=True)
            }
            for n, c in kinds.items()
        },
        "num_ground_truth_per_bucket": {n: _named(c.names, bucket_sizes(c)) for n, c in kinds.items()},
        "num_classes_per_bucket": {
            n: _named(c.names, (~np.isnan(found.per_class[n])).sum(axis=0)) for n, c in kinds.items()
        },
        "bucket_edges": {n: {"names": c.names, "edges": _plain(c.edges)} for n, c in kinds.items()},
    }


def _false_negatives(diagnosis: Diagnosis) -> dict[str, Any]:
    found, kinds = diagnosis.false_negatives, diagnosis.characteristics
    return {
        "limit_factor": None,
        "minimum_normalized_precision": found.minimum_precision,
        "average_mAP_N": float(found.ap.mean()),
        "mAP_N": found.ap.mean(axis=0).tolist(),
        "ap_N": _by_label(diagnosis.ranked.labels, found.ap),
        "num_false_negatives": found.missed.sum(axis=1).tolist(),
        "false_negative_rate": found.missed.mean(axis=1).tolist(),
        "false_negative_ground_truth": diagnosis.ranked.truth.index[found.missed[0]].tolist(),
        "buckets": {
            n: {
                bucket: {"false_negative_rate": rate, "share_of_ground_truth": share}
                for bucket, rate, share in zip(
                    c.names, _plain(found.rates(n)), _plain(found.share(n)), strict=True
                )
            }
            for n, c in kinds.items()
        },
        "pairs": {
            f"{one} x {other}": {
                bucket: _named(kinds[other].names, row)
                for bucket, row in zip(kinds[one].names, found.pair_rates(one, other), strict=True)
            }
            for one, other in found.pairs()
        },
    }


def _segment_errors(diagnosis: Diagnosis) -> dict[str, Any]:
    """What is taken at the first threshold: counts, boundaries, calibration, classes."""
    ranked, best = diagnosis.ranked, diagnosis.best()
    offsets, calibration = diagnosis.boundaries, diagnosis.calibration
    confusion = class_confusion(ranked, diagnosis.detections, best)
    rename = {
        "video_id": "video_id",
        "label": "label",
        "errors": "errors",
        "annotations": "annotations",
        **KEYS,
    }
    return {
        "errors_per_class": errors_per_class(ranked, best).rename(columns=rename).to_dict("records"),
        "errors_per_video": video_errors(ranked, diagnosis.detections, best)
        .rename(columns=rename)
        .to_dict("records"),
        "boundaries": {
            "num_matched": len(offsets),
            **{f"median_{side}_offset": _plain([offsets[side].median()])[0] for side in ("start", "end")},
            **{f"early_{side}_share": _plain([(offsets[side] < 0).mean()])[0] for side in ("start", "end")},
        },
        "calibration": {
            "expected_calibration_error": calibration.error,
            "bins": calibration.table.to_dict("records"),
        },
        "class_confusion": {
            "labels": [*ranked.labels, "background or missed"],
            "counts": confusion.counts.tolist(),
        },
    }


def _by_kind(values: np.ndarray) -> dict[str, Any]:
    return {KEYS[name]: value for name, value in zip(OUTCOMES, values.tolist(), strict=True)}


def _by_label(labels: Iterable[str], values: np.ndarray) -> dict[str, Any]:
    return dict(zip(labels, values.tolist(), strict=True))


def _named(names: Iterable[str], values: np.ndarray) -> dict[str, Any]:
    return dict(zip(names, _plain(values), strict=True))


def _plain(values: Iterable) -> list:
    numbers = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [x if isinstance(x, int) or math.isfinite(x) else None for x in numbers]


def format_report(diagnosis: Diagnosis, *, title: str = "") -> str:
    """Plain text for a terminal: gains, largest first; DETAD's analyses; boundaries and scores."""
    lines = [title] if title else []
    lines += _gain_lines(diagnosis) + _profile_lines(diagnosis) + _bucket_lines(diagnosis)
    lines += _pair_lines(diagnosis) + _segment_lines(diagnosis)
    lines += ["", *(f"Note: {note}" for note in diagnosis.notes)] if diagnosis.notes else []
    return "\n".join(lines)


def _gain_lines(diagnosis: Diagnosis) -> list[str]:
    fixed, removed = diagnosis.fix_gain, diagnosis.false_positives.gain
    first = next(iter(fixed))
    lines = [
        f"mAP {100 * diagnosis.base_map.mean():.2f} %, normalised (best {diagnosis.false_positives.limit}G) "
        f"{100 * diagnosis.false_positives.average_map:.2f} %"
    ]
    if fixed[first] > 0:
        lines.append(f"Fixing this error would gain most: {first} (+{100 * fixed[first]:.2f} mAP)")
    lines += ["", f"{'error':<20}{'mAP if fixed':>16}{'mAP_N if removed':>20}{'count':>9}"]
    counts = _error_counts(diagnosis)
    for name, gain in fixed.items():
        without = f"{100 * removed[name]:+20.2f}" if name in removed else " " * 20
        lines.append(f"{name:<20}{100 * gain:+16.2f}{without}{counts[name]:>9.0f}")
    return lines


def _error_counts(diagnosis: Diagnosis) -> Mapping[str, float]:
    """Errors of each kind, averaged over the thresholds, among the detections of the profile."""
    counts = diagnosis.false_positives.counts.sum(axis=0).mean(axis=0)
    missed = diagnosis.false_negatives.missed.sum(axis=1).mean()
    return {**dict(zip(OUTCOMES, counts, strict=True)), MISSED: missed}


def _profile_lines(diagnosis: Diagnosis) -> list[str]:
    found = diagnosis.false_positives
    lines = ["", "False positives: share of each outcome in % (band 1G: the best G detections of a class)"]
    lines.append(f"{'band':<6}{'count':>8}" + "".join(f"{name.split()[0]:>14}" for name in OUTCOMES))
    for band, row in enumerate(found.fractions):
        if not found.band_sizes[band:].any():
            break
        cells = "".join(f"{100 * value:14.1f}" for value in row)
        lines.append(f"{band + 1}G".ljust(6) + f"{found.band_sizes[band]:>8}" + cells)
    return lines


def _bucket_lines(diagnosis: Diagnosis) -> list[str]:
    found, missed = diagnosis.sensitivity, diagnosis.false_negatives
    lines = ["", f"By bucket (mAP_N over all {100 * found.base:.2f} %)"]
    header = f"{'':<15}{'':<4}{'range':<16}{'annotations':>12}{'mAP_N':>9}{'change':>9}{'missed':>9}"
    lines.append(header)
    for name, kind in diagnosis.characteristics.items():
        rows = zip(
            kind.names,
            bucket_sizes(kind),
            found.buckets(name),
            found.relative_change(name),
            missed.rates(name),
            strict=True,
        )
        for position, (bucket, size, value, change, rate) in enumerate(rows):
            lines.append(
                f"{name if position == 0 else '':<15}{bucket:<4}{kind.range_text(position):<16}{size:>12}"
                + _cell(value)
                + _cell(change, sign="+")
                + _cell(rate)
            )
    return lines


def _pair_lines(diagnosis: Diagnosis) -> list[str]:
    """The buckets with the largest share missed, for each pair of characteristics."""
    kinds, found = diagnosis.characteristics, diagnosis.false_negatives
    enough = min(FEWEST_TELLING, len(diagnosis.ranked.truth))
    lines = []
    for one, other in found.pairs():
        sizes = found.pair_sizes(one, other)
        rates = np.where(sizes >= enough, found.pair_rates(one, other), np.nan)
        if np.nan_to_num(rates).any():
            row, column = divmod(int(np.nanargmax(rates)), rates.shape[1])
            lines.append(
                f"Most missed of {one} x {other}: {kinds[one].names[row]} x {kinds[other].names[column]}"
                f" ({100 * rates[row, column]:.1f} % of {sizes[row, column]})"
            )
    return ["", *lines] if lines else []


def _cell(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}9.1f}" if math.isfinite(value) else f"{'-':>9}"


def _segment_lines(diagnosis: Diagnosis) -> list[str]:
    lines, offsets = [""], diagnosis.boundaries
    at = f"at tIoU {diagnosis.ranked.tiou[0]:g}"
    if len(offsets):
        lines.append(
            f"Boundaries of {len(offsets)} matched segments {at}: "
            + ", ".join(f"{side} {offset_text(offsets[side].median())}" for side in ("start", "end"))
            + " (median)"
        )
    if diagnosis.calibration.error is not None:
        lines.append(f"Expected calibration error of the scores {at}: {diagnosis.calibration.error:.3f}")
    worst = errors_per_class(diagnosis.ranked, diagnosis.best()).head(5)
    counted = ", ".join(f"{row.label} {row.errors}" for row in worst.itertuples())
    lines.append(f"Classes with most errors in band 1G and missed {at}: {counted}")
    return lines


def offset_text(seconds: float) -> str:
    """A signed offset of a boundary in words."""
    if abs(seconds) < 0.005:
        return "on time"
    return f"{abs(seconds):.2f} s {'early' if seconds < 0 else 'late'}"
