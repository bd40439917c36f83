"""Words for numbers and states."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

STATE_MARKS = {
    "created": ":gray[:material/schedule:]",
    "running": ":blue[:material/play_circle:]",
    "stopping": ":orange[:material/pending:]",
    "stopped": ":orange[:material/stop_circle:]",
    "finished": ":green[:material/check_circle:]",
    "failed": ":red[:material/error:]",
    "killed": ":red[:material/cancel:]",
}


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent, the way the field's tables print mAP: 0.553 -> "55.3 %"."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def tiou_text(tiou: Sequence[float]) -> str:
    """Names a set of thresholds: "tIoU 0.5", "tIoU 0.3:0.1:0.7" (first:step:last) or all of them."""
    tiou = [float(t) for t in tiou]
    steps = [b - a for a, b in itertools.pairwise(tiou)]
    if len(tiou) > 2 and all(math.isclose(step, steps[0], abs_tol=1e-6) for step in steps):
        return f"tIoU {tiou[0]:g}:{steps[0]:.3g}:{tiou[-1]:g}"
    return "tIoU " + ", ".join(f"{t:g}" for t in tiou)


def seconds_text(seconds: float | None) -> str:
    """A length of time for people: "4.2 s", "3 min 12 s", "2 h 5 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def number(value: float) -> str:
    """A count with thin spaces between thousands: 19 228."""
    return f"{value:,.0f}".replace(",", "\u202f")
