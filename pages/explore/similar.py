"""Explore's comparison of whole videos: neighbours, duplicates, leaks between subsets, outliers."""

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.common import downloads, readable
from pages.explore.pooled import duplicate_groups, odd_videos, pooled_features, results
from pages.explore.videos import show_rows
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import similarity
from tal_core.types import InputError

THRESHOLDS = [0.95, 0.97, 0.98, 0.99, 0.995, 0.999]
MOST_ROWS = 200


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
        "Similarity: cosine of the videos' mean features, minus the mean over all videos; 1 is the same, "
        "0 unrelated. Choose a row to look at the video."
    )


def show_health(data: Dataset, subset: str | None, top: DeltaGenerator) -> None:
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
        help="Cosine of the videos' mean features, minus the mean over all videos.",
    )
    groups = duplicate_groups(data, pooled, threshold)
    if groups is not None:
        show_groups(data, subset, groups, top)
    show_outliers(data, subset, odd_videos(data, pooled))
    if unread := results(data)["unread"]:
        first = next(iter(unread))
        st.warning(f"{len(unread)} videos could not be read, the first: {first} ({unread[first]}).")


def show_groups(data: Dataset, subset: str | None, groups: pd.DataFrame, top: DeltaGenerator) -> None:
    """A warning on leaks, then all duplicates."""
    subsets = data.index.set_index("video_id")["subset"]
    leaked = similarity.leaks(groups, subsets, data.training_subset, data.evaluation_subset)
    if len(leaked):
        count = int((leaked["subset"] == data.evaluation_subset).sum())
        top.warning(
            f"**{count} {'video' if count == 1 else 'videos'} of “{data.evaluation_subset}” "
            f"{'is' if count == 1 else 'are'} also in “{data.training_subset}”**, or nearly the same as one "
            "there. A model has seen them in training, so its mAP on them means nothing. The groups "
            "are listed under *Duplicates and leaks*; remove one of each pair from the annotations.",
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
        st.success("No two videos are that similar.")
        return
    table = table.sort_values(["leak", "group"], ascending=[False, True], kind="stable", ignore_index=True)
    number = table["group"].nunique()
    st.markdown(
        f"{readable.number(len(table))} videos in {readable.number(number)} groups"
        f"{f', the first {MOST_ROWS} below' if len(table) > MOST_ROWS else ''}. Choose a row to look at it."
    )
    show_rows(table.head(MOST_ROWS), "duplicate_rows", "Groups of videos with the same or similar features")
    downloads.table(table, f"{data.name}-duplicates")


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
        f"{readable.number(len(table))} videos whose mean features are far from those of their main class, "
        f"or unusually large or small{f'; the {MOST_ROWS} oddest below' if len(table) > MOST_ROWS else ''}."
    )
    columns = ["video_id", "subset", "reason", "deviation"]
    table = table.head(MOST_ROWS).assign(deviation=np.round(table["deviation"].head(MOST_ROWS), 1))
    rows = table[columns].rename(columns={"reason": "what is odd"})
    show_rows(rows, "outlier_rows", "Videos whose features are unusual")
    st.caption(
        f"Deviation: robust standard deviations from the usual; listed from {similarity.ODD:g} on. "
        "Wrong labels, broken files and other extractors show up here."
    )
