"""Annotations sorted into buckets by coverage, length and number of instances in their video.

The buckets of THUMOS14 and ActivityNet are those of DETAD (Alwassel et al., ECCV 2018); for other data equal
shares of the annotations. A bucket holds values above its lower edge up to and including its upper one, the
first its lower edge as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tal_core.types import InputError

NAMES = ("XS", "S", "M", "L", "XL")
CHARACTERISTICS = ("coverage", "length", "num-instances")
QUANTILES = "quantiles"
EDGES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "thumos14": {
        "coverage": (0, 0.02, 0.04, 0.06, 0.08, 1),
        "length": (0, 3, 6, 12, 18, np.inf),
        "num-instances": (-1, 1, 40, 80, np.inf),
    },
    "activitynet": {
        "coverage": tuple(np.linspace(0, 1, 6)),
        "length": (0, 30, 60, 120, 180, np.inf),
        "num-instances": (-1, 1, 4, 8, np.inf),
    },
}
SCHEMES = ("auto", *EDGES, QUANTILES)

_VIDEO_IDS = {
    "thumos14": r"video_(?:test|validation)_\d{7}",
    "activitynet": r"(?:v_)?[A-Za-z0-9_-]{11}",  # YouTube's ids
}


@dataclass(frozen=True)
class Characteristic:
    """One property of G annotations, in buckets.

    ``value``: ``(G,)``, NaN where unknown. ``edges``: one more than ``names``. ``bucket``: ``(G,)`` position
    in ``names``, -1 where the value is unknown or beyond all edges.
    """

    name: str
    value: np.ndarray
    names: list[str]
    edges: list[float]
    bucket: np.ndarray

    def range_text(self, bucket: int) -> str:
        """What the bucket holds, for people: ``3 to 6 s``, ``2 to 40``."""
        low, high = self.edges[bucket], self.edges[bucket + 1]
        if self.name == "num-instances":
            first, last = int(low) + 1, f"{high:g}"
            if bucket and np.isinf(high):
                return f"{first} or more"
            return (
                last
                if f"{first}" == last or high <= 1
                else f"{first} to {last}"
                if bucket
                else f"up to {last}"
            )
        scale, unit = (100, " %") if self.name == "coverage" else (1, " s")
        if np.isinf(high):
            return f"over {scale * low:.3g}{unit}"
        return f"{f'{scale * low:.3g} to' if bucket else 'up to'} {scale * high:.3g}{unit}"


def choose_scheme(ground_truth: pd.DataFrame) -> str:
    """The benchmark that the video ids tell, ``quantiles`` for any other data."""
    ids = pd.Series(ground_truth["video_id"].unique()).astype(str)
    for scheme, pattern in _VIDEO_IDS.items():
        if len(ids) and ids.str.fullmatch(pattern).all():
            return scheme
    return QUANTILES


def characterize(
    truth: pd.DataFrame,
    ground_truth: pd.DataFrame,
    durations: pd.Series | None = None,
    scheme: str = "auto",
) -> dict[str, Characteristic]:
    """The characteristics of the annotations ``truth`` by name; ``coverage`` only where a duration is known.

    ``coverage``: length / duration of the video. ``length`` in seconds. ``num-instances``: annotations of
    any class in the video, counted in ``ground_truth``. Raises `InputError` on an unknown ``scheme``.
    """
    if scheme not in SCHEMES:
        raise InputError(f"unknown buckets {scheme!r}", hint=f"Use {', '.join(SCHEMES)}")
    if scheme == "auto":
        scheme = choose_scheme(ground_truth)
    length = (truth["end"] - truth["start"]).to_numpy(np.float64)
    per_video = ground_truth["video_id"].value_counts()
    values = {
        "coverage": np.full(len(truth), np.nan),
        "length": length,
        "num-instances": truth["video_id"].map(per_video).to_numpy(np.float64),
    }
    if durations is not None:
        duration = truth["video_id"].map(durations).to_numpy(np.float64)
        values["coverage"] = np.divide(length, duration, out=values["coverage"], where=duration > 0)
    return {
        name: _in_buckets(name, value, EDGES[scheme][name] if scheme in EDGES else _quantile_edges(value))
        for name, value in values.items()
        if np.isfinite(value).any()
    }


def _quantile_edges(value: np.ndarray) -> tuple[float, ...]:
    """Edges of five buckets with equal shares of the annotations; fewer where values repeat."""
    known = value[np.isfinite(value)]
    inner = np.quantile(known, np.arange(1, len(NAMES)) / len(NAMES), method="inverted_cdf")
    edges = np.unique([*inner, known.max()])
    # The first bucket includes its lower edge, so the smallest value may serve; but not as an upper edge too.
    low = known.min() if known.min() < edges[0] else known.min() - 1
    return (float(low), *edges.tolist())


def _in_buckets(name: str, value: np.ndarray, edges: tuple[float, ...]) -> Characteristic:
    limits = np.asarray(edges, np.float64)
    bucket = np.searchsorted(limits, value, side="left") - 1
    bucket[value == limits[0]] = 0
    bucket[~(value >= limits[0]) | ~(value <= limits[-1])] = -1
    return Characteristic(name, value, _bucket_names(len(edges) - 1), limits.tolist(), bucket)


def _bucket_names(count: int) -> list[str]:
    return {1: ["all"], 2: ["S", "L"], 3: ["S", "M", "L"]}.get(count) or list(NAMES[:count])
