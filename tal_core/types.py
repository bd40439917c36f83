"""The few data types that everything passes around.

Times are seconds in float64 wherever they cross a module boundary. Segments live in pandas tables:
ground truth has the columns ``GROUND_TRUTH_COLUMNS``, detections ``DETECTION_COLUMNS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

if TYPE_CHECKING:
    import numpy as np
    import torch

GROUND_TRUTH_COLUMNS = ("video_id", "start", "end", "label")
DETECTION_COLUMNS = (*GROUND_TRUTH_COLUMNS, "score")
VIDEO_COLUMNS = ("video_id", "subset", "duration", "fps")
AMBIGUOUS = "Ambiguous"
"""The label of segments that evaluation ignores, as in THUMOS14."""
FINDING_COLUMNS = ("level", "kind", "video_id", "detail", "advice")

_Positions = TypeVar("_Positions", float, "np.ndarray", "torch.Tensor")

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, message)`` by everything that may take longer than a second."""


class InputError(ValueError):
    """Wrong input from a person: says what is wrong, where, and how to fix it, in one line."""

    def __init__(self, what: str, *, where: object = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        message = f"{where}: {what}" if where is not None else what
        if hint:
            message = f"{message.rstrip('.')}. {hint}"
        super().__init__(" ".join(message.split()))


@dataclass(frozen=True)
class TimeGrid:
    """Converts between positions on a video's feature grid and seconds.

    Snippet ``i`` is centred at ``offset + i * stride`` seconds:

        seconds  0 ....offset....offset+stride....offset+2*stride
        snippet          0             1                2

    ``index`` returns fractional positions, so segments keep their sub-snippet precision.
    Both methods accept scalars, arrays and tensors.
    """

    stride: float
    offset: float = 0.0

    def seconds(self, index: _Positions) -> _Positions:
        """Seconds at the grid position ``index``."""
        return self.offset + index * self.stride

    def index(self, seconds: _Positions) -> _Positions:
        """Fractional grid position of a time in seconds."""
        return (seconds - self.offset) / self.stride


@dataclass(frozen=True)
class Annotations:
    """What an annotation file says, validated.

    ``ground_truth``: ``GROUND_TRUTH_COLUMNS`` in file order. ``videos``: ``VIDEO_COLUMNS``, one row per
    video; NaN, or ``""`` as subset, where the file is silent. ``ambiguous``: ground-truth columns, segments
    that evaluation ignores. ``findings``: what was odd (``FINDING_COLUMNS``).
    """

    ground_truth: pd.DataFrame
    videos: pd.DataFrame
    ambiguous: pd.DataFrame = field(default_factory=lambda: empty_table(GROUND_TRUTH_COLUMNS))
    findings: pd.DataFrame = field(default_factory=lambda: empty_table(FINDING_COLUMNS))

    @property
    def labels(self) -> list[str]:
        """Class names in alphabetical order; a class's position here is its index in every model."""
        return sorted(self.ground_truth["label"].unique())


def empty_table(columns: Sequence[str]) -> pd.DataFrame:
    """A table without rows whose time and score columns are float64 and the others text."""
    numeric = {"start", "end", "score", "duration", "fps"}
    return pd.DataFrame({c: pd.Series(dtype="float64" if c in numeric else "str") for c in columns})


def finding(level: str, kind: str, detail: str, *, video_id: str = "", advice: str = "") -> dict[str, str]:
    """One row of a health report; ``level`` is ``error``, ``warning`` or ``info``."""
    return dict(zip(FINDING_COLUMNS, (level, kind, video_id, detail, advice), strict=True))
