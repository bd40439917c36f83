"""Explore's look at features: one video over time, and a map of many videos' snippets."""

import html

import numpy as np
import streamlit as st

from pages import shared
from pages.timeline_parts import show_player
from tal_core.data import snippets, statistics
from tal_core.plots import explore as plots
from tal_core.plots.colors import class_colors

MOST_LEGEND = 40


@st.cache_data(max_entries=16, show_spinner=False)
def project(_data, videos: tuple[str, ...], count: int, key: tuple):  # pylint: disable=unused-argument
    """Sample and project snippets; cached, since it reads many files."""
    with shared.progress("Snippet map") as report:
        features, table = snippets.sample_snippets(_data, videos, count=count, progress=report)
    return *snippets.principal_components(features), table


def show_video(data, subset: str | None) -> None:
    """Ground truth, features, norms and change points on one time axis; the video if there is one."""
    video_id = shared.pick("Video", data.videos(subset, usable=False), "video")
    truth = data.ground_truth(videos=[video_id])
    row = data.index[data.index["video_id"] == video_id].iloc[0]
    if row["reason"]:
        st.warning(f"**{video_id}** can't be used for training: {row['reason']}.")
    st.markdown(
        f"{shared.seconds_text(row['duration'])} · subset “{row['subset']}” · {len(truth)} segments · "
        f"features {row['length']} × {row['dimension']} ({row['dtype']}), "
        f"one snippet every {row['snippet_seconds']:.3g} s"
    )
    path = data.video_path(video_id)
    picture, table = st.columns([2, 3]) if path else (None, st.container())
    if path:
        with picture:
            show_player(path)
    table.dataframe(
        truth.assign(duration=truth["end"] - truth["start"])[["start", "end", "duration", "label"]],
        hide_index=True,
        height=min(320, 38 + 35 * max(1, len(truth))),
        alt=f"Annotated segments of {video_id}, in seconds",
    )
    if not row["length"]:
        return
    with shared.guard():
        features, grid = data.features(video_id), data.grid(video_id)
    colors = class_colors(data.labels)
    scores = statistics.change_scores(features)
    figure = plots.video_features(
        features,
        np.asarray(grid.seconds(np.arange(len(features)))),
        truth,
        colors,
        scores,
        statistics.change_points(scores),
    )
    show_legend([label for label in data.labels if label in set(truth["label"])], colors)
    st.plotly_chart(figure, key="video_features", config={"displaylogo": False}, alt="Features over time")
    st.caption(
        "Top: ground truth, one row per class. Map: each feature dimension in deviations from its mean over "
        "this video. Norm: length of the feature vector. Change: distance between the 4 snippets before and "
        "after; dots mark change points, often action boundaries. Drag to zoom, double-click resets."
    )
    shared.link(
        "timeline",
        "See it on the timeline",
        icon=":material/view_timeline:",
        dataset=data.name,
        video=video_id,
    )


def show_legend(labels: list[str], colors: dict[str, str]) -> None:
    """Class names with their colours."""
    marks = "".join(
        f'<span style="white-space:nowrap;margin-right:1rem"><span style="display:inline-block;width:.8rem;'
        f'height:.8rem;border-radius:.2rem;margin-right:.35rem;background:{colors[label]}"></span>'
        f"{html.escape(label)}</span>"
        for label in labels[:MOST_LEGEND]
    )
    st.html(f'<div style="font-size:.9rem;line-height:1.7">{marks}</div>')


def show_map(data, subset: str | None) -> None:
    """A sample of snippets in two dimensions."""
    count = st.select_slider("Snippets in the sample", [500, 1000, 2000, 5000], value=2000, key="map_count")
    videos = tuple(data.videos(subset))
    with shared.guard():
        key = (str(shared.home()), data.entry.model_dump_json(), id(data))
        positions, share, table = project(data, videos, count, key)
    if table.empty:
        st.info("No video of this subset has usable features.")
        return
    figure = plots.snippet_map(positions, table, class_colors(data.labels), share)
    st.plotly_chart(figure, key="snippet_map", config={"displaylogo": False}, alt="Map of snippets")
    st.caption(
        f"{len(table)} snippets of {table['video_id'].nunique()} videos, drawn at random; features "
        "standardised, then projected on their first two principal components. Grey: under no segment. "
        "Classes that lie apart here are easy; classes that mix need more than single snippets."
    )
