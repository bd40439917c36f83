"""Search, filter and sort a dataset's videos, and cut the result into pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring.statistics import per_video

HEALTH = ("usable", "no features", "broken")
ORDERS = ("video_id", "duration", "instances", "classes", "coverage", "length")
PAGE_SIZES = (25, 50, 100, 250)

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class VideoFilter:
    """What videos to keep. ``text``: part of the id, in any case. ``classes``: has a segment of every one of
    them. ``duration`` (seconds) and ``instances``: from, to, both included; ``None`` is open. ``health``: one
    of ``HEALTH``; ``None`` for any."""

    text: str = ""
    classes: Sequence[str] = ()
    duration: Range = (None, None)
    instances: Range = (None, None)
    health: str | None = None


def video_table(dataset: Dataset, subset: str | None = None) -> pd.DataFrame:
    """One row per video: ``statistics.per_video``, then ``subset, length, dimension, health, reason``."""
    index = dataset.index
    rows = index if subset is None else index[index["subset"] == subset]
    table = per_video(dataset.ground_truth(subset), rows.set_index("video_id")["duration"])
    missing = rows["reason"].str.endswith("no feature file").to_numpy()
    health = np.select([rows["usable"].to_numpy(), missing], ["usable", "no features"], "broken")
    extra = rows[["subset", "length", "dimension", "reason"]].reset_index(drop=True)
    extra.insert(3, "health", pd.Series(health, dtype="str"))
    return table.join(extra)


def find_videos(
    table: pd.DataFrame,
    truth: pd.DataFrame,
    wanted: VideoFilter,
    order: str = "video_id",
    descending: bool = False,
) -> pd.DataFrame:
    """The rows of ``video_table`` that ``wanted`` keeps, sorted by one of ``ORDERS``, ties by id.

    Unknown values (NaN) come last. ``truth``: the ground truth with the classes.
    """
    keep = np.ones(len(table), bool)
    if wanted.text:
        keep &= table["video_id"].str.contains(wanted.text, case=False, regex=False).to_numpy()
    for label in wanted.classes:
        keep &= table["video_id"].isin(truth.loc[truth["label"] == label, "video_id"]).to_numpy()
    for column, (low, high) in (("duration", wanted.duration), ("instances", wanted.instances)):
        keep &= (table[column] >= low).to_numpy() if low is not None else True
        keep &= (table[column] <= high).to_numpy() if high is not None else True
    if wanted.health is not None:
        keep &= (table["health"] == wanted.health).to_numpy()
    columns = [order] if order == "video_id" else [order, "video_id"]
    rising = [not descending] if order == "video_id" else [not descending, True]
    return table[keep].sort_values(columns, ascending=rising, ignore_index=True)


def page_count(rows: int, size: int) -> int:
    """Pages of ``size`` rows; one even where there is nothing."""
    return max(1, -(-rows // size))


def page_of(table: pd.DataFrame, number: int, size: int) -> pd.DataFrame:
    """Page ``number`` of a table, from 1; a number beyond the last gives the last."""
    number = min(max(1, number), page_count(len(table), size))
    return table.iloc[(number - 1) * size : number * size].reset_index(drop=True)
