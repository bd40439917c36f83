"""The pages, links between them, and the head of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

ICONS = {
    "overview": "home",
    "explore": "insights",
    "train": "model_training",
    "timeline": "view_timeline",
    "evaluate": "target",
    "diagnose": "troubleshoot",
    "compare": "compare_arrows",
    "detect": "search",
    "live": "live_tv",
}
"""The pages, in the order of the menu. A page is the folder of its name and this line."""

PAGES = {name: Path(__file__).parents[1] / name / "page.py" for name in ICONS}


def pages() -> list[st.Page]:
    """The menu."""
    return [
        st.Page(
            str(path),
            title=name.capitalize(),
            icon=f":material/{ICONS[name]}:",
            url_path=name if number else "",
            default=number == 0,
        )
        for number, (name, path) in enumerate(PAGES.items())
    ]


def link(page: str, label: str, *, icon: str | None = None, **query: Any) -> None:
    """A link to another page that carries what is chosen, such as ``dataset`` or ``run``."""
    parameters = {
        key: value if isinstance(value, list) else str(value)
        for key, value in query.items()
        if value is not None
    }
    icon = icon or f":material/{ICONS[page]}:"
    st.page_link(str(PAGES[page]), label=label, icon=icon, query_params=parameters or None)


def open_in_timeline(words: str, query: dict[str, Any]) -> None:
    link("timeline", f"**:primary[Open in Timeline]**: {words}", **query)


def timeline_address(query: dict[str, Any]) -> str:
    """The same link as a relative address, for a table's cell."""
    return "timeline?" + urlencode(query, doseq=True)


def link_to_timeline(dataset: str, runs: Sequence[str], subset: str | None) -> None:
    """Where to look at detections that can't be measured because there is no ground truth."""
    if runs:
        link("timeline", "See the detections on the timeline", dataset=dataset, run=runs[0], subset=subset)


def header(title: str, lead: str) -> None:
    """The page's title and one sentence on what is done here. Every page begins with it."""
    st.title(title, anchor=False)
    st.markdown(lead)
