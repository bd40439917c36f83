"""From a bar to its segments: clickable figures, and the table that leads to the Timeline."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.common import downloads, navigation, readable, tables
from pages.diagnose.inputs import View

WIDTHS = [5, 2]
CLICK = ":small[:material/touch_app: Click a bar to see its segments.]"
CLICK_CELL = ":small[:material/touch_app: Click a cell to see its segments.]"
MOST_ROWS = 500
"""Segments that a table shows; the best are first, and the download has them all."""
COLUMNS: tables.Columns = {
    **tables.SEGMENT_COLUMNS,
    "annotation_start": st.column_config.NumberColumn("its start (s)", format="%.2f"),
    "annotation_end": st.column_config.NumberColumn("its end (s)", format="%.2f"),
}


def clickable(figure: Any, key: str, alt: str) -> list | None:
    """Draw a figure; what the bar or cell carries that was clicked last, if any."""
    event = downloads.chart(
        figure, f"diagnosis {alt}", key=key, on_select="rerun", selection_mode="points", alt=alt
    )
    points = [point for point in event["selection"]["points"] if point.get("customdata")]
    return list(points[0]["customdata"]) if points else None


def draw(view: View, figure: Any, name: str, alt: str, *words: str, click: str = CLICK) -> list[Any] | None:
    """A figure with words beside it; what the bar or cell carries that was clicked last, if any."""
    left, right = st.columns(WIDTHS)
    with left:
        picked = clickable(figure, view.key(name), alt)
    with right:
        for text in words:
            st.markdown(text)
        st.markdown(click)
    return picked


def show_segments(view: View, what: str, table: pd.DataFrame) -> None:
    """The segments behind a bar, each with its link to the Timeline, and one link for the first."""
    with st.container(border=True):
        if table.empty:
            st.markdown(f"**{what}**: none.")
            return
        first = next(table.itertuples())
        title, link = st.columns([3, 2], vertical_alignment="center")
        count = "1 segment" if len(table) == 1 else f"{readable.number(len(table))} segments"
        title.markdown(f"**{what}**: {count}")
        with link:
            navigation.open_in_timeline(f"{first.video_id} at {first.start:.1f} s", view.timeline(first))
        shown = table.head(MOST_ROWS)
        links = [navigation.timeline_address(view.timeline(row)) for row in shown.itertuples()]
        st.dataframe(
            shown.assign(timeline=links)[["timeline", *table.columns]],
            hide_index=True,
            height=tables.height(len(shown), 360),
            column_config=COLUMNS,
            alt=f"Segments: {what}",
        )
        left, right = st.columns([2, 3], vertical_alignment="center")
        with left:
            downloads.table(table, f"{view.data.name}-segments")
        note = f"The first {MOST_ROWS} are listed. " if len(table) > MOST_ROWS else ""
        if view.run_id is None:
            note += "A file's detections aren't on the Timeline: the links show the ground truth there."
        right.caption(note)
