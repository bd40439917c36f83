"""Explore's list of videos: search, filter, sort, and only the page that is looked at goes to the browser."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, downloads, readable, tables
from pages.common.cached_results import cached_by_identity
from pages.explore.filters_in_address import address_number, in_address, kept
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.exploring import video_search
from tal_core.data.exploring.video_search import VideoFilter

ALL_IN_ONE = 500
"""Videos that a select box can hold; of more, those that a search finds."""
MATCHES = 200
ORDER_NAMES = {
    "video_id": "video id",
    "duration": "duration",
    "instances": "segments",
    "classes": "classes",
    "coverage": "covered",
    "length": "snippets T",
}
COLUMNS: tables.Columns = {
    "video_id": "video",
    "duration": st.column_config.NumberColumn("duration (s)", format="%.1f"),
    "instances": "segments",
    "coverage": st.column_config.NumberColumn("covered (%)", format="%.1f"),
    "length": st.column_config.NumberColumn("snippets T", format="%d"),
    "dimension": st.column_config.NumberColumn("features D", format="%d"),
    "health": "features",
    "reason": "why not usable",
    "similarity": st.column_config.NumberColumn(format="%.4f"),
}


@cached_by_identity(entries=12)
def all_videos(data: Dataset, subset: str | None) -> pd.DataFrame:
    return video_search.video_table(data, subset)


def show_videos(data: Dataset, subset: str | None) -> None:
    """Search and filter; a chosen row opens the video."""
    table = all_videos(data, subset)
    wanted, order, descending, size = filters(data)
    found = video_search.find_videos(table, data.annotations.ground_truth, wanted, order, descending)
    pages = video_search.page_count(len(found), size)
    words, pager = st.columns([3, 2], vertical_alignment="center")
    number = min(pages, max(1, int(address_number("page_number") or 1)))
    # Another search is another widget, which begins at its own page.
    key = f"explore_page:{data.name}:{subset}:{wanted}:{order}:{descending}:{size}"
    with pager, st.container(horizontal=True, horizontal_alignment="right"):
        number = st.pagination(pages, default=number, key=key)
    in_address("page_number", [number] if number > 1 else [])
    shown = video_search.page_of(found, number, size)
    first = (number - 1) * size + 1
    count = f"**{readable.number(len(found))}** of {readable.number(len(table))} videos"
    where = (
        f", {readable.number(first)} to {readable.number(first + len(shown) - 1)} below" if pages > 1 else ""
    )
    words.markdown(f"{count}{where}. Choose a row to look at the video.")
    if found.empty:
        st.info("No video matches. Loosen a filter.")
        return
    shown["coverage"] *= 100
    show_rows(shown, f"explore_videos:{number}", "Videos with duration, segments, coverage and features")
    downloads.table(found, f"{data.name}-videos")


def show_rows(table: pd.DataFrame, key: str, alt: str) -> None:
    """Videos as a table; a chosen row opens its video."""
    videos = table["video_id"].tolist()
    if "reason" in table and (table["reason"] == "").all():
        table = table.drop(columns="reason")

    def choose() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows and rows[0] < len(videos):
            open_video(videos[rows[0]])

    st.dataframe(
        table,
        hide_index=True,
        on_select=choose,
        selection_mode="single-row",
        key=key,
        height=tables.height(len(table), 560),
        placeholder="",
        alt=alt,
        column_config=COLUMNS,
    )


def open_video(video_id: str) -> None:
    """Go to the view of one video."""
    address.remember("video", [video_id])
    address.remember("view", ["One video"])
    st.session_state.pop("explore_find", None)


def filters(data: Dataset) -> tuple[VideoFilter, str, bool, int]:
    """The filter as it is set; how to sort, downward or not; rows per page."""
    search, classes, health, order, direction = st.columns([3, 4, 2, 2, 2], vertical_alignment="bottom")
    text = kept(search.text_input, "Search video ids", "search", placeholder="part of an id")
    labels = kept(classes.multiselect, "Has a segment of every class", "has", data.labels)
    state = kept(health.selectbox, "Features", "features", ["any", *video_search.HEALTH])
    by = kept(order.selectbox, "Sort by", "sort", video_search.ORDERS, format_func=ORDER_NAMES.get)
    down = kept(direction.selectbox, "Order", "order", ["ascending", "descending"]) == "descending"
    cells = st.columns(5, vertical_alignment="bottom")
    limits: dict[str, Any] = {"min_value": 0.0, "step": 1.0, "format": "%g", "placeholder": "any"}
    low, high = (
        kept(cell.number_input, f"Seconds, {name}", f"seconds_{name}", **limits)
        for cell, name in zip(cells, ("from", "to"), strict=False)
    )
    fewest, most = (
        kept(cell.number_input, f"Segments, {name}", f"segments_{name}", **limits)
        for cell, name in zip(cells[2:], ("from", "to"), strict=False)
    )
    size = kept(cells[4].selectbox, "Rows per page", "rows", [str(n) for n in video_search.PAGE_SIZES])
    wanted = VideoFilter(text.strip(), labels, (low, high), (fewest, most), None if state == "any" else state)
    return wanted, by, down, int(size)


def pick_video(data: Dataset, subset: str | None) -> str:
    """The video to look at. Of many videos a select box holds only those that a search finds."""
    videos = data.videos(subset, usable=False)
    if len(videos) <= ALL_IN_ONE:
        return address.pick("Video", videos, "video")
    find, place = st.columns([1, 2])
    text = find.text_input("Find a video", key="explore_find", placeholder="part of an id").strip().lower()
    found = [video_id for video_id in videos if text in video_id.lower()]
    current = [video_id for video_id in address.choice("video") or () if video_id in set(videos)]
    if text and found and not set(current) & set(found):
        current = found[:1]  # who searches wants to see what was found
        address.remember("video", current)
    chosen = address.pick("Video", list(dict.fromkeys([*current, *found[:MATCHES]])), "video", place=place)
    if not found:
        st.caption("No video id contains that.")
    elif len(found) > MATCHES:
        st.caption(
            f"The first {MATCHES} of {readable.number(len(found))} videos can be chosen; search for others."
        )
    return chosen
