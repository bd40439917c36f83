"""Explore: what a dataset is like, one video's features, a map of snippets, the health report."""

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages.common import address, downloads, loaders, navigation, notices, pickers, readable, tables
from pages.common.cached_results import cached_by_identity
from pages.explore import add_data, one_video, similar, snippet_map
from pages.explore import videos as explore_videos
from tal_core.data.dataset import health
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import statistics
from tal_core.plots import explore as plots
from tal_core.plots.colors import class_colors

ADD = "Add data"
LEVELS = ["error", "warning", "info"]


@cached_by_identity(entries=12)
def figures_of(data: Dataset, subset: str | None) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Ground truth, numbers per class, co-occurrence."""
    truth = data.ground_truth(subset)
    classes = statistics.per_class(truth, data.labels)
    return truth, classes, statistics.co_occurrence(truth, data.labels)


def show_dataset(data: Dataset, subset: str | None) -> None:
    """Distributions over classes, durations and videos."""
    truth, classes, shares = figures_of(data, subset)
    videos = explore_videos.all_videos(data, subset)
    if truth.empty:
        st.info("This subset has no annotated segments. Choose another one.")
        return
    colors = class_colors(data.labels)
    figures = st.columns(5)
    figures[0].metric("Videos", readable.number(len(videos)))
    figures[1].metric("Segments", readable.number(len(truth)), help="Annotated action instances.")
    figures[2].metric("Classes", f"{(classes['instances'] > 0).sum()}")
    figures[3].metric("Median segment", readable.seconds_text((truth["end"] - truth["start"]).median()))
    figures[4].metric("Covered", readable.percent(videos["coverage"].mean()), help="Mean over videos.")
    left, right = st.columns(2)
    with left:
        chart(
            "Instances per class", plots.class_distribution(classes, colors), "Annotated segments per class."
        )
        chart("Segment durations", plots.duration_histogram(truth), "All classes together.")
        chart("Segments per video", plots.instances_histogram(videos), "Videos without segments count too.")
    with right:
        chart(
            "Durations by class",
            plots.duration_by_class(classes, colors),
            "Box: middle half of the segments; whiskers: shortest and longest.",
        )
        chart("Coverage", plots.coverage_histogram(videos), "Overlapping segments count once.")
        chart(
            "Classes that occur together",
            plots.co_occurrence_map(shares, classes),
            "Of the videos with the row's class, the share that also has the column's.",
        )
    if len(data.labels) > plots.MOST_CLASSES:
        st.caption(f"Figures show the {plots.MOST_CLASSES} most frequent classes; the table has all.")
    with st.expander("The figures as a table"):
        tables.show_figures(classes, f"{data.name}-classes", alt="Instances and durations per class")


def chart(title: str, figure: go.Figure, caption: str) -> None:
    """A titled figure with a sentence on what it counts."""
    st.subheader(title, anchor=False)
    st.caption(caption)
    downloads.chart(figure, title, key=f"chart:{title}", alt=f"{title}. {caption}")


def show_health(data: Dataset, subset: str | None) -> None:
    """The same report as ``datasets check``; findings on videos of other subsets are left out."""
    report = health.health_report(data)
    if subset is not None:
        report = report[report["video_id"].isin(["", *data.videos(subset, usable=False)])]
    st.markdown(health.summary(data) + ".")
    top = st.container()  # for leaks, which are found last and matter most
    if st.button(
        "Check again", icon=":material/refresh:", help="Reads the files again, every value included."
    ):
        with notices.guard():
            loaders.check_again(data.name)
        st.rerun()
    if report.empty:
        st.success("No problems found.")
    else:
        show_report(data, report)
    similar.show_health(data, subset, top)


def show_report(data: Dataset, report: pd.DataFrame) -> None:
    """The findings by level, as a table and as CSV."""
    levels = st.pills("Show", LEVELS, selection_mode="multi", default=LEVELS, key="health_levels")
    report = report[report["level"].isin(levels)]
    st.dataframe(report, hide_index=True, alt="Health report: findings, and where")
    downloads.table(report, f"{data.name}-health")
    st.caption(f"The same as `python -m tal_core datasets check {data.name}`.")


VIEWS: dict[str, Callable[[Dataset, str | None], None]] = {
    "Dataset": show_dataset,
    "Videos": explore_videos.show_videos,
    "One video": one_video.show_video,
    "Snippet map": snippet_map.show_map,
    "Health": show_health,
}

navigation.header("Explore", "What the data look like: look before you train.")
view = address.pick(
    "View", [*VIEWS, ADD], "view", kind="segmented_control", required=True, label_visibility="collapsed"
)
if view == ADD:
    add_data.show()
else:
    first, second = st.columns(2)
    with first:
        dataset = pickers.pick_dataset()
    with second:
        part = pickers.pick_subset(dataset, default=pickers.EVERYTHING)
    VIEWS[view](dataset, part)
