"""Tables as pages show them: figures rounded, columns of segments titled alike, a row to choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import streamlit as st

from pages.common import downloads

Columns = dict[str, Any]
"""Streamlit's column configuration."""

SEGMENT_COLUMNS: Final[Columns] = {
    "timeline": st.column_config.LinkColumn("Timeline", display_text="open", width="small"),
    "video_id": "video",
    "start": st.column_config.NumberColumn("start (s)", format="%.2f"),
    "end": st.column_config.NumberColumn("end (s)", format="%.2f"),
    "label": "class",
    "score": st.column_config.NumberColumn("score", format="%.3f"),
    "tiou": st.column_config.NumberColumn(
        "tIoU", format="%.2f", help="With the annotation it matches, else the one it overlaps most."
    ),
}


def height(rows: int, most: int = 420) -> int:
    """Pixels of a table with so many rows, as long as it is no higher than ``most``."""
    return min(most, 38 + 35 * max(1, rows))


def show_figures(
    table: pd.DataFrame, name: str, *, alt: str, save: str = "Save table", **formats: str
) -> None:
    """A table of figures with its downloads: fractional numbers with two digits, or as ``formats`` say."""
    formats = dict.fromkeys(table.select_dtypes("float").columns, "%.2f") | formats
    show(table, alt=alt, column_config=numbers(formats))
    downloads.table(table, name, label=save)


def numbers(formats: Mapping[str, str]) -> Columns:
    """Columns of numbers by their formats."""
    return {column: st.column_config.NumberColumn(column, format=text) for column, text in formats.items()}


def show(table: pd.DataFrame, *, alt: str, **options: Any) -> Any:
    """``st.dataframe`` without the index."""
    return st.dataframe(table, hide_index=True, alt=alt, **options)


def choose_row(table: pd.DataFrame, key: str, *, alt: str, **options: Any) -> int | None:
    """A table with one row to choose; its position, None as long as none is chosen."""
    event = show(table, alt=alt, key=key, on_select="rerun", selection_mode="single-row", **options)
    rows = event.selection.rows
    return rows[0] if rows and rows[0] < len(table) else None
