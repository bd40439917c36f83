"""What Explore computes once from the mean features of all videos, kept in memory per opened dataset."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.common import loaders, notices, readable
from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import pooling, similarity, statistics
from tal_core.data.exploring.pooling import PooledFeatures

READ_UNASKED = 64_000_000
"""Feature values that may be read without a word; more takes a while, so a button asks."""


@cached_by_identity(entries=8)
def results(data: Dataset) -> dict[Any, Any]:
    """What was computed on a dataset under a progress bar (which a cached function would replay), by name."""
    return {}


def pooled_features(data: Dataset, *, ask: bool = True) -> PooledFeatures | None:
    """Mean features of all videos that can be read; None while a person has yet to ask for them."""
    known = results(data)
    if "pooled" in known:
        return known["pooled"]
    with notices.guard(stop=False):
        pooled = known.get("partly") or pooling.load_pooled(loaders.home(), data)
        known["partly"] = pooled
        values = int((data.index["length"] * data.index["dimension"]).sum())
        if pooled.missing and values > READ_UNASKED and not (ask and ask_for_pooling(data, pooled, values)):
            return None
        with notices.progress("Reading features") as report:
            pooled = pooling.pool_features(loaders.home(), data, report)
        known["unread"], known["pooled"] = pooled.unread, pooled.complete()
        return known["pooled"]
    return None


def ask_for_pooling(data: Dataset, pooled: PooledFeatures, values: int) -> bool:
    """Say what comparing videos takes; whether the button was pressed."""
    there = len(pooled.videos) - pooled.missing
    begun = f" {readable.number(there)} of them are read already." if there else ""
    st.info(
        f"Comparing videos needs the mean features of {readable.number(len(pooled.videos))} videos: every "
        f"feature file is read once (about {values * 2 / 1e9:.1f} GB as float16).{begun} "
        "The means are kept in the workspace; a later visit reads only files that changed."
    )
    return st.button("Compare all videos", icon=":material/compare_arrows:", key=f"pool:{data.name}")


def duplicate_groups(data: Dataset, pooled: PooledFeatures, threshold: float) -> pd.DataFrame | None:
    """Groups of duplicates; None with a box if they are too many."""
    known, key = results(data), ("duplicates", threshold)
    if key not in known:
        with notices.guard(stop=False), notices.progress("Duplicates") as report:
            known[key] = similarity.duplicates(pooled, threshold, report)
    return known.get(key)


def odd_videos(data: Dataset, pooled: PooledFeatures) -> pd.DataFrame:
    """Outliers among the videos, oddest first."""
    known = results(data)
    if "odd" not in known:
        classes = statistics.main_classes(data.ground_truth()).reindex(pooled.videos).fillna("")
        table = similarity.outliers(pooled.directions, classes.to_numpy(object), pooled.norms)
        table.insert(0, "video_id", pooled.videos)
        known["odd"] = table[table["reason"] != ""].sort_values(
            "deviation", ascending=False, kind="stable", ignore_index=True
        )
    return known["odd"]
