"""Explore's comparison of whole videos: neighbours, duplicates, leaks between subsets, outliers."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages import shared
from pages.explore_videos import show_rows
from tal_core.data import pooling, similarity, statistics
from tal_core.data.dataset import Dataset
from tal_core.data.pooling import PooledFeatures
from tal_core.types import InputError

READ_UNASKED = 64_000_000
"""Feature values that may be read without a word; more takes a while, so a button asks."""
THRESHOLDS = [0.95, 0.97, 0.98, 0.99, 0.995, 0.999]
MOST_ROWS = 200


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Dataset: id})
def results(data: Dataset) -> dict[Any, Any]:
    """What was computed on a dataset under a progress bar (which a cached function would replay), by name.

    Holds the dataset too, so that its id stays its own.
    """
    return {"dataset": data}


def pooled_features(data: Dataset, *, ask: bool = True) -> PooledFeatures | None:
    """Mean features of all videos that can be read; None while a person has yet to ask for them."""
    known = results(data)
    if "pooled" in known:
        return known["pooled"]
    with shared.guard(stop=False):
        pooled = known.get("partly") or pooling.load_pooled(shared.home(), data)
        known["partly"] = pooled
        values = int((data.index["length"] * data.index["dimension"]).sum())
        if pooled.missing and values > READ_UNASKED and not (ask and ask_for_pooling(data, pooled, values)):
            return None
        with shared.progress("Reading features") as report:
            pooled = pooling.pool_features(shared.home(), data, report)
        known["unread"], known["pooled"] = pooled.unread, pooled.complete()
        return known["pooled"]
    return None


def ask_for_pooling(data: Dataset, pooled: PooledFeatures, values: int) -> bool:
    """Say what comparing videos takes; whether the button was pressed."""
    there = len(pooled.videos) - pooled.missing
    begun = f" {shared.number(there)} of them are read already." if there else ""
    st.info(
        f"Comparing videos takes the mean features of {shared.number(len(pooled.videos))} videos: every "
        f"feature file is read once (about {values * 2 / 1e9:.1f} GB as float16).{begun} "
        "The means are kept in the workspace; a later visit reads only files that changed."
    )
    return st.button("Compare all videos", icon=":material/compare_arrows:", key=f"pool:{data.name}")


def duplicate_groups(data: Dataset, pooled: PooledFeatures, threshold: float) -> pd.DataFrame | None:
    """Groups of duplicates; None with a box if they are too many."""
    known, key = results(data), ("duplicates", threshold)
    if key not in known:
        with shared.guard(stop=False), shared.progress("Duplicates") as report:
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


def show_similar(data: Dataset, video_id: str) -> None:
    """The videos most like one."""
    st.subheader("Videos like this one", anchor=False)
    pooled = pooled_features(data)
    if pooled is None:
        return
    try:
        table = similarity.similar_videos(pooled, video_id)
    except InputError as error:
        st.caption(f"{video_id}: {error.what}.")
        return
    index = data.index.set_index("video_id")
    table["subset"] = table["video_id"].map(index["subset"])
    table["duration"] = table["video_id"].map(index["duration"])
    truth = data.ground_truth(videos=table["video_id"].tolist())
    names = truth.groupby("video_id")["label"].agg(lambda labels: ", ".join(dict.fromkeys(labels)))
    table["classes"] = table["video_id"].map(names).fillna("–")
    show_rows(table, f"similar:{video_id}", f"Videos whose mean features are most like those of {video_id}")
    st.caption(
        "Similarity: cosine of the videos' mean features, the mean over all videos taken off; 1 is the same, "
        "0 unrelated. Choose a row to look at the video."
    )


def show_health(data: Dataset, subset: str | None, top) -> None:
    """Duplicates and outliers; a warning on leaks between training and evaluation goes to ``top``."""
    st.subheader("Duplicates and leaks", anchor=False)
    pooled = pooled_features(data)
    if pooled is None:
        return
    threshold = st.select_slider(
        "Similarity from which two videos count as duplicates",
        THRESHOLDS,
        value=similarity.NEAR_DUPLICATE,
        key="duplicate_threshold",
        help="Cosine of the videos' mean features, the mean over all videos taken off.",
    )
    groups = duplicate_groups(data, pooled, threshold)
    if groups is not None:
        show_groups(data, subset, groups, top)
    show_outliers(data, subset, odd_videos(data, pooled))
    if unread := results(data)["unread"]:
        first = next(iter(unread))
        st.warning(f"{len(unread)} videos could not be read, the first: {first} ({unread[first]}).")


def show_groups(data: Dataset, subset: str | None, groups: pd.DataFrame, top) -> None:
    """A warning on leaks, then all duplicates."""
    subsets = data.index.set_index("video_id")["subset"]
    leaked = similarity.leaks(groups, subsets, data.training_subset, data.evaluation_subset)
    if len(leaked):
        count = int((leaked["subset"] == data.evaluation_subset).sum())
        top.warning(
            f"**{count} {'video' if count == 1 else 'videos'} of “{data.evaluation_subset}” "
            f"{'is' if count == 1 else 'are'} also in “{data.training_subset}”**, or all but the same as one "
            "there. A model has seen them in training, so its mAP on them says nothing. The groups "
            "are listed under *Duplicates and leaks*; take one of each pair out of the annotations.",
            icon=":material/leak_add:",
        )
    leaking = set(leaked["group"])
    table = groups.assign(
        subset=groups["video_id"].map(subsets),
        leak=[group in leaking for group in groups["group"]],
        duration=groups["video_id"].map(data.index.set_index("video_id")["duration"]),
    )
    if subset is not None:
        table = table[table["group"].isin(table.loc[table["subset"] == subset, "group"])]
    if table.empty:
        st.success("No two videos are that much alike.")
        return
    table = table.sort_values(["leak", "group"], ascending=[False, True], kind="stable", ignore_index=True)
    number = table["group"].nunique()
    st.markdown(
        f"{shared.number(len(table))} videos in {shared.number(number)} groups"
        f"{f', the first {MOST_ROWS} below' if len(table) > MOST_ROWS else ''}. Choose a row to look at it."
    )
    show_rows(table.head(MOST_ROWS), "duplicate_rows", "Groups of videos with the same or similar features")
    st.download_button(
        "Download as CSV", table.to_csv(index=False), f"{data.name}-duplicates.csv", "text/csv"
    )


def show_outliers(data: Dataset, subset: str | None, table: pd.DataFrame) -> None:
    """Videos that are unlike the others."""
    st.subheader("Outliers", anchor=False)
    table = table.assign(subset=table["video_id"].map(data.index.set_index("video_id")["subset"]))
    if subset is not None:
        table = table[table["subset"] == subset].reset_index(drop=True)
    if table.empty:
        st.success("No video stands out.")
        return
    st.markdown(
        f"{shared.number(len(table))} videos whose mean features are far from those of their main class, or "
        f"of an unusual size{f'; the {MOST_ROWS} oddest below' if len(table) > MOST_ROWS else ''}."
    )
    columns = ["video_id", "subset", "reason", "deviation"]
    table = table.head(MOST_ROWS).assign(deviation=np.round(table["deviation"].head(MOST_ROWS), 1))
    rows = table[columns].rename(columns={"reason": "what is odd"})
    show_rows(rows, "outlier_rows", "Videos whose features are unusual")
    st.caption(
        f"Deviation: robust standard deviations from the usual; listed from {similarity.ODD:g} on. "
        "Wrong labels, broken files and other extractors show up here."
    )
