"""Explore's look at one video: its features over time under its ground truth, and videos like it."""

import html

import numpy as np
import streamlit as st

from pages.common import downloads, navigation, notices, readable, tables
from pages.common.player import frame_seconds, show_player
from pages.common.timeline_component import show_timeline
from pages.explore.similar import show_similar
from pages.explore.videos import pick_video
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import statistics
from tal_core.plots import explore as plots
from tal_core.plots import timeline
from tal_core.plots.colors import class_colors

MOST_LEGEND = 40


def show_video(data: Dataset, subset: str | None) -> None:
    """Timeline with the video if there is one; features, norms and change points over the same time."""
    video_id = pick_video(data, subset)
    truth = data.ground_truth(videos=[video_id])
    row = data.index[data.index["video_id"] == video_id].iloc[0]
    if row["reason"]:
        st.warning(f"**{video_id}** can't be used for training: {row['reason']}.")
    segments = "1 segment" if len(truth) == 1 else f"{len(truth)} segments"
    st.markdown(
        f"{readable.seconds_text(row['duration'])} · subset “{row['subset']}” · {segments} · "
        f"features {row['length']} × {row['dimension']} ({row['dtype']}), "
        f"one snippet every {row['snippet_seconds']:.3g} s"
    )
    path = data.video_path(video_id)
    player, table = None, st.container()
    if path:
        picture, table = st.columns([2, 3])
        with picture:
            player = show_player(path)
    table.dataframe(
        truth.assign(duration=truth["end"] - truth["start"])[["start", "end", "duration", "label"]],
        hide_index=True,
        height=tables.height(len(truth), 320),
        alt=f"Annotated segments of {video_id}, in seconds",
        column_config={
            name: st.column_config.NumberColumn(f"{name} (s)", format="%.2f")
            for name in ("start", "end", "duration")
        },
    )
    ambiguous = data.annotations.ambiguous
    drawing = timeline.payload(video_id, data.duration(video_id), data.labels, truth, [], ambiguous=ambiguous)
    show_timeline(
        {**drawing, "frame_seconds": frame_seconds(data, video_id), "legend_note": "Colours are classes."},
        player=player,
        key="explore_timeline",
    )
    if not row["length"]:
        return
    with notices.guard():
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
    downloads.chart(figure, f"{video_id}-features", key="video_features", alt="Features over time")
    st.caption(
        "Top: ground truth, one row per class. Map: each feature dimension in standard deviations from its "
        "mean over this video. Norm: length of the feature vector. Change: distance between the 4 "
        "snippets before and after; dots mark change points, often action boundaries. Drag to zoom, "
        "double-click resets."
    )
    navigation.link("timeline", "See it on the timeline", dataset=data.name, video=video_id)
    show_similar(data, video_id)


def show_legend(labels: list[str], colors: dict[str, str]) -> None:
    """Class names with their colours."""
    marks = "".join(
        f'<span style="white-space:nowrap;margin-right:1rem"><span style="display:inline-block;width:.8rem;'
        f'height:.8rem;border-radius:.2rem;margin-right:.35rem;background:{colors[label]}"></span>'
        f"{html.escape(label)}</span>"
        for label in labels[:MOST_LEGEND]
    )
    st.html(f'<div style="font-size:.9rem;line-height:1.7">{marks}</div>')
