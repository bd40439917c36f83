"""Sections of the Compare page on what the two runs found: mAP, classes, videos, segments."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, downloads, navigation, published, readable, tables
from pages.compare.runs_and_verdict import Pair
from tal_core.evaluation.comparison import class_differences, found_by, video_differences
from tal_core.plots import comparison as plots
from tal_core.plots.evaluation import map_curves, map_table

MOST_ROWS = 500
SCORE_WORDS = (
    "A video's score is the F1 of the run's detections in it, at or above the score threshold that gives the "
    "run its best F1 over the subset, averaged over the tIoU thresholds."
)


def show_maps(pair: Pair) -> None:
    """mAP over tIoU of both, with published results."""
    methods = [run.config()["model"] for run in pair.runs]
    references = published.pick_references(pair.data, pair.subset, methods)
    figure = plots.with_published(map_curves(pair.evaluations), references, list(pair.tiou))
    words = "mAP of both runs against the tIoU threshold"
    downloads.chart(figure, pair.file("mAP"), key="compare_maps", alt=words)
    table = map_table(pair.evaluations)
    tables.show_figures(table, pair.file("mAP"), alt="mAP of both runs in percent per tIoU")


def show_classes(pair: Pair) -> None:
    """AP of every class, second minus first."""
    table = class_differences(*pair.evaluations.values())
    shown = plots.most_different(table)
    figure = plots.difference_bars(shown, "label", pair.names, "AP")
    downloads.chart(figure, pair.file("classes"), key="compare_classes", alt="Difference in AP per class")
    st.caption(_caption(table, shown, "classes") + " AP averaged over the tIoU thresholds.")
    _table(pair, table, "label", "class", "classes")


def show_videos(pair: Pair) -> None:
    """Which run does better in each video; every row leads to the Timeline."""
    table = video_differences(*pair.sides)
    wins = [(table["difference"] < 0).sum(), (table["difference"] > 0).sum()]
    first, second = pair.names
    st.markdown(
        f"**{first}** is better in **{wins[0]}** videos, **{second}** in **{wins[1]}**, "
        f"equal in **{len(table) - sum(wins)}**."
    )
    st.caption(SCORE_WORDS)
    shown = plots.most_different(table)
    figure = plots.difference_bars(shown, "video_id", pair.names, "F1")
    downloads.chart(figure, pair.file("videos"), key="compare_videos", alt="Difference in F1 per video")
    st.caption(_caption(table, shown, "videos"))
    tiou = _timeline_tiou(pair)
    largest = str(table["video_id"].iloc[int(table["difference"].abs().to_numpy().argmax())])
    navigation.open_in_timeline(f"{largest}, where they differ most", pair.timeline(largest, tiou))
    links = [pair.timeline_url(video, tiou) for video in table["video_id"]]
    _table(pair, table.assign(timeline=links), "video_id", "video", "videos")


def show_segments(pair: Pair) -> None:
    """Annotations that only one of the two found."""
    tiou = address.pick(
        "tIoU of a match",
        [f"{t:g}" for t in pair.tiou],
        "match",
        default=[f"{_timeline_tiou(pair):g}"],
        kind="segmented_control",
        required=True,
    )
    k = [f"{t:g}" for t in pair.tiou].index(tiou)
    table = found_by(*pair.sides, k)
    counts = table["found"].value_counts()
    cuts = [side.cuts[0][k] for side in pair.sides]
    words = {"first": f"only {pair.names[0]}", "second": f"only {pair.names[1]}"}
    titles = {"both": "both", **words, "neither": "neither"}
    for column, (key, title) in zip(st.columns(4), titles.items(), strict=True):
        column.metric(f"Found by {title}", readable.number(counts.get(key, 0)))
    st.caption(
        f"Annotations matched at tIoU {tiou}, by detections above each run's best-F1 score: "
        f"{cuts[0]:.3g} for {pair.names[0]}, {cuts[1]:.3g} for {pair.names[1]}."
    )
    side = st.segmented_control(
        "Show",
        list(words),
        default="second",
        required=True,
        format_func=words.__getitem__,
        key="compare_found",
    )
    table = table[table["found"] == side].drop(columns="found")
    if table.empty:
        st.info("None.")
        return
    table = table.sort_values("score", ascending=False, kind="stable")
    shown = table.head(MOST_ROWS)
    rows: list[Any] = list(shown.itertuples())
    first = rows[0]
    title = f"{first.label} in {first.video_id} at {first.start:.1f} s"
    query = pair.timeline(first.video_id, float(tiou), (first.start, first.end))
    navigation.open_in_timeline(title, query)
    links = [pair.timeline_url(row.video_id, float(tiou), (row.start, row.end)) for row in rows]
    st.dataframe(
        shown.assign(timeline=links)[["timeline", *table.columns]],
        hide_index=True,
        height=tables.height(len(shown)),
        column_config=tables.SEGMENT_COLUMNS,
        alt=f"Annotations found by {words[str(side)]}",
    )
    if len(table) > MOST_ROWS:
        st.caption(f"The {MOST_ROWS} with the highest scores; the download has all {len(table)}.")
    downloads.table(table, pair.file("segments"))


def _timeline_tiou(pair: Pair) -> float:
    """The threshold nearest to the usual 0.5."""
    return min(pair.tiou, key=lambda t: abs(t - 0.5))


def _caption(table: pd.DataFrame, shown: pd.DataFrame, things: str) -> str:
    words = "Bars to the right: the second run is better."
    if len(shown) < len(table):
        words += f" The {len(shown)} of {len(table)} {things} that differ most; the table has all."
    return words


def _table(pair: Pair, table: pd.DataFrame, column: str, title: str, file: str) -> None:
    """Differences in percent, as a table and as CSV."""
    first, second = pair.names
    shown = table.assign(**{name: 100 * table[name] for name in ("first", "second", "difference")})
    links = ["timeline"] if "timeline" in shown else []
    st.dataframe(
        shown[[*links, *(name for name in shown.columns if name not in links)]],
        hide_index=True,
        height=tables.height(len(shown)),
        column_config={
            **tables.SEGMENT_COLUMNS,
            column: title,
            "first": st.column_config.NumberColumn(f"{first} (%)", format="%.1f"),
            "second": st.column_config.NumberColumn(f"{second} (%)", format="%.1f"),
            "difference": st.column_config.NumberColumn("difference (points)", format="%+.1f"),
        },
        alt=f"Both runs by {title}",
    )
    downloads.table(table.drop(columns=links), pair.file(file))
