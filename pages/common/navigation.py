"""The pages, links between them, and the head of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

PAGES = {name: f"pages/{name}/page.py" for name in ICONS}


def pages() -> list[st.Page]:
    """The menu."""
    return [
        st.Page(
            path,
            title=name.capitalize(),
            icon=f":material/{ICONS[name]}:",
            url_path=name if number else "",
            default=number == 0,
        )
        for number, (name, path) in enumerate(PAGES.items())
    ]


def link(page: str, label: str, *, icon: str | None = None, **query: Any) -> None:
    """A link to another page that carries what is chosen, such as ``dataset`` or ``run``."""
    parameters = {key: str(value) for key, value in query.items() if value is not None}
    st.page_link(PAGES[page], label=label, icon=icon, query_params=parameters or None)


def link_to_timeline(dataset: str, runs: Sequence[str], subset: str | None) -> None:
    """Where detections can be looked at that can't be measured, for want of ground truth."""
    if runs:
        label = "Look at the detections on the timeline"
        query = {"dataset": dataset, "run": runs[0], "subset": subset}
        link("timeline", label, icon=":material/view_timeline:", **query)


def header(title: str, lead: str) -> None:
    """The page's title and one sentence on what is done here. Every page begins with it."""
    st.title(title, anchor=False)
    st.markdown(lead)
