"""What an evaluation says: thresholds as people write them, the numbers, their JSON and text forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tal_core.types import InputError


@dataclass(frozen=True)
class Evaluation:
    """Average precision of one set of detections on one subset; fractions, not percent.

    ``ap`` is ``(classes, thresholds)`` for ``labels`` (alphabetical) and ``tiou``. ``num_ground_truth``:
    annotations that counted; ``num_detections``: all that were handed in; ``ignored``: how many annotations
    and detections were left out, by reason.
    """

    tiou: list[float]
    labels: list[str]
    ap: np.ndarray
    num_videos: int
    num_ground_truth: int
    num_detections: int
    ignored: dict[str, int] = field(default_factory=dict)

    @property
    def mAP(self) -> np.ndarray:  # the field's spelling
        """Mean over classes for each threshold, ``(K,)``."""
        return self.ap.mean(axis=0)

    @property
    def average_mAP(self) -> float:
        return float(self.mAP.mean())

    def per_class(self) -> pd.DataFrame:
        """AP with one row per label, one column per threshold, and ``average`` over the thresholds."""
        table = pd.DataFrame(self.ap, index=pd.Index(self.labels, name="label"), columns=list(self.tiou))
        table["average"] = self.ap.mean(axis=1)
        return table

    def to_json(self) -> dict:
        """The form of ``evaluate --json`` and of a run's ``evaluation.json``."""
        return {
            "tiou": list(self.tiou),
            "mAP": self.mAP.tolist(),
            "average_mAP": self.average_mAP,
            "per_class": dict(zip(self.labels, self.ap.tolist(), strict=True)),
            "num_videos": self.num_videos,
            "num_ground_truth": self.num_ground_truth,
            "num_detections": self.num_detections,
            "ignored": dict(self.ignored),
        }

    @classmethod
    def from_json(cls, content: dict, *, where: object = None) -> Evaluation:
        """Reads what `to_json` gave. Raises `InputError`, naming the file ``where``, on anything else."""
        try:
            tiou = [float(t) for t in content["tiou"]]
            labels = list(content["per_class"])
            ap = np.array([content["per_class"][label] for label in labels], np.float64)
            counts = {k: int(content[k]) for k in ("num_videos", "num_ground_truth", "num_detections")}
            ignored = {str(k): int(v) for k, v in content["ignored"].items()}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"this is no evaluation result ({type(error).__name__}: {error})",
                where=where,
                hint="Evaluate again to write it anew",
            ) from error
        if not labels or ap.shape != (len(labels), len(tiou)):
            raise InputError(
                f"per_class must give {len(tiou)} values for each class, one per tIoU",
                where=where,
                hint="Evaluate again to write it anew",
            )
        return cls(tiou=tiou, labels=labels, ap=ap, **counts, ignored=ignored)


def parse_tiou(text: str) -> list[float]:
    """Thresholds from ``"0.5"``, ``"0.5,0.75"`` or ``"0.3:0.7:0.1"`` (first : last : step).

    A range is made of evenly spaced points as the reference programs make them: 0.3:0.7:0.1 holds
    0.39999999999999997, not 0.4, which decides about a tIoU exactly there. Raises `InputError`.
    """
    hint = "Write thresholds as 0.5 or 0.5,0.75 or 0.3:0.7:0.1 (first:last:step), above 0 and up to 1"
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            thresholds = _spaced(first, last, step)
        else:
            thresholds = [float(part) for part in text.split(",")]
    except (ValueError, OverflowError) as error:
        raise InputError(f"tIoU thresholds {text!r} cannot be read", hint=hint) from error
    if not all(0 < t <= 1 for t in thresholds):
        raise InputError(f"tIoU thresholds {text!r} are not all above 0 and up to 1", hint=hint)
    if len(set(thresholds)) < len(thresholds):
        raise InputError(f"tIoU thresholds {text!r} give one twice", hint=hint)
    return thresholds


def thresholds_text(tiou: Sequence[float]) -> str:
    """Thresholds as ``parse_tiou`` reads them: ``0.3:0.7:0.1`` if evenly spaced, else ``0.5,0.75``."""
    steps = np.diff(tiou)
    if len(tiou) > 2 and np.allclose(steps, steps[0], atol=1e-6):
        return f"{tiou[0]:g}:{tiou[-1]:g}:{round(float(steps[0]), 6):g}"
    return ",".join(f"{t:g}" for t in tiou)


def _spaced(first: float, last: float, step: float) -> list[float]:
    if not (0 < first <= last <= 1 and 1e-3 <= step <= 1):
        raise ValueError("not an ascending range")
    steps = round((last - first) / step)
    if abs(first + steps * step - last) > 1e-6:
        raise ValueError("the step does not lead from the first to the last threshold")
    return np.linspace(first, last, steps + 1).tolist()


def format_table(evaluation: Evaluation, *, title: str = "", per_class: bool = True) -> str:
    """Plain text for a terminal: AP in percent per class (optional), mAP, and what was counted."""
    corner = "AP in % at tIoU"
    width = max(len(name) for name in [corner, *(evaluation.labels if per_class else [])])
    header = [f"{t:.2f}" for t in evaluation.tiou] + ["average"]
    lines = [title] if title else []
    lines.append(f"{corner:<{width}}  " + "  ".join(f"{name:>7}" for name in header))
    rows = zip(evaluation.labels, evaluation.ap, strict=True) if per_class else ()
    for name, values in [*rows, ("mAP", evaluation.mAP)]:
        cells = [*values, float(np.mean(values))]
        lines.append(f"{name:<{width}}  " + "  ".join(f"{100 * value:7.2f}" for value in cells))
    lines.append(
        f"{evaluation.num_videos} videos, {evaluation.num_ground_truth} annotations, "
        f"{evaluation.num_detections} detections, {len(evaluation.labels)} classes"
    )
    left_out = [f"{count} {name.replace('_', ' ')}" for name, count in evaluation.ignored.items() if count]
    if left_out:
        lines.append("Left out: " + ", ".join(left_out))
    return "\n".join(lines)
