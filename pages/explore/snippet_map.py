"""Explore's map: a sample of snippets on a plane, coloured by class, with what is odd circled."""

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.common import address, downloads, navigation, notices, readable
from pages.explore import pooled as explore_pooled
from pages.explore import videos
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import similarity, snippets
from tal_core.plots import explore as plots
from tal_core.plots.colors import class_colors

COUNTS = ["500", "1000", "2000", "5000", "10000"]
METHODS = {"pca": "Principal components", "umap": "UMAP"}
MOST_COLORS = 12


def show_map(data: Dataset, subset: str | None) -> None:
    """A sample of snippets in two dimensions; a chosen point leads to its video."""
    method, count, classes = st.columns([2, 3, 4], vertical_alignment="bottom")
    chosen = address.pick("Map", list(METHODS), "map", place=method, format_func=METHODS.get)
    size = address.pick(
        "Snippets in the sample", COUNTS, "sample", default=["2000"], kind="select_slider", place=count
    )
    if not data.videos(subset):
        st.info("No video of this subset has usable features.")
        return
    with notices.guard():
        features, table = sample(data, subset, int(size))
        positions, axes = project(data, subset, int(size), chosen, features)
    labels = colored_classes(data, table, classes)
    figure = plots.snippet_map(
        positions,
        table,
        {label: class_colors(data.labels)[label] for label in labels},
        axes,
        marks(data, table),
    )
    file = f"{data.name}-snippet-map"
    event = st.plotly_chart(
        figure,
        key="snippet_map",
        on_select="rerun",
        selection_mode="points",
        config=downloads.camera(file) | {"scrollZoom": True},
        alt="Map of snippets, coloured by class",
    )
    downloads.figure(figure, file)
    show_chosen(data, event.selection.points)
    how = (
        "features standardised, then projected on their first two principal components"
        if chosen == "pca"
        else "UMAP of the first 50 principal components: near points are similar, large distances mean little"
    )
    st.caption(
        f"{readable.number(len(table))} snippets of {readable.number(table['video_id'].nunique())} videos, "
        f"drawn at random; {how}. Grey: outside all segments. Classes that lie apart here are easy; classes "
        "that mix need more than single snippets. Drag to move, scroll to zoom."
    )


def sample(data: Dataset, subset: str | None, count: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Snippets and their table with the column ``odd``; made once."""
    known, key = explore_pooled.results(data), ("sample", subset, count)
    if key not in known:
        with notices.progress("Snippets") as report:
            features, table = snippets.sample_snippets(
                data, data.videos(subset), count=count, progress=report
            )
        labels = table["label"].where(table["label"] != snippets.BACKGROUND_LABEL, "")
        table["odd"] = similarity.outliers(features, labels.to_numpy(object))["reason"]
        known[key] = features, table
    return known[key]


def project(
    data: Dataset, subset: str | None, count: int, method: str, features: np.ndarray
) -> tuple[np.ndarray, tuple[str, str]]:
    """Positions on the plane and the names of its axes; made once."""
    known, key = explore_pooled.results(data), ("map", subset, count, method)
    if key not in known:
        if method == "umap":
            with st.spinner("UMAP: the first time takes about a minute"):
                known[key] = snippets.umap_positions(features), ("UMAP 1", "UMAP 2")
        else:
            positions, share = snippets.principal_components(features)
            names = [f"component {k + 1} ({part:.0%} of variance)" for k, part in enumerate(share)]
            known[key] = positions, (names[0], names[1])
    return known[key]


def colored_classes(data: Dataset, table: pd.DataFrame, place: DeltaGenerator) -> list[str]:
    """The classes to colour: those chosen, else the most frequent ones of the sample."""
    counts = table.loc[table["label"] != snippets.BACKGROUND_LABEL, "label"].value_counts()
    chosen = place.multiselect(
        "Classes in colour",
        data.labels,
        key="map_classes",
        placeholder="all" if len(counts) <= MOST_COLORS else f"the {MOST_COLORS} most frequent",
    )
    return chosen or counts.index[:MOST_COLORS].tolist()


def marks(data: Dataset, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What to circle: odd snippets and, once all videos are compared, those of duplicate videos."""
    found = {"outliers": (table["odd"] != "").to_numpy()}
    pooled = explore_pooled.pooled_features(data, ask=False)
    limit = similarity.NEAR_DUPLICATE
    groups = explore_pooled.duplicate_groups(data, pooled, limit) if pooled is not None else None
    if groups is not None:
        found["duplicate videos"] = table["video_id"].isin(groups["video_id"]).to_numpy()
    else:
        st.caption("Duplicate videos are marked once all videos are compared, under *Health*.")
    return found


def show_chosen(data: Dataset, points: list[dict]) -> None:
    """Which snippet was clicked, and the ways to its video."""
    if not points:
        st.caption("Click a point to see which video it is from.")
        return
    video_id, second, label = points[0]["customdata"][:3]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{video_id}** at {second:.1f} s · {label}")
        st.button(
            "Look at the video",
            icon=":material/visibility:",
            on_click=videos.open_video,
            args=(video_id,),
        )
        stretch = f"{max(0.0, second - 5):.2f}-{second + 5:.2f}"
        navigation.link("timeline", "See it on the timeline", dataset=data.name, video=video_id, at=stretch)
