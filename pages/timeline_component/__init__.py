"""The timeline as a Streamlit component: rows of segments, score curves and a playhead on one time axis.

It draws the dictionary of ``tal_core.plots.timeline.payload`` and moves the page's own video player, which
it finds by the key of the container around ``st.video``. Clicks stay in the browser: nothing here causes
a rerun.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "tal_studio_timeline",
    html='<div class="timeline"></div>',
    css=_file("timeline.css"),
    js=_file("picture.js") + _file("timeline.js"),
)


def show_timeline(
    payload: dict,
    *,
    player: str | None = None,
    focus: tuple[float, float] | None = None,
    key: str = "timeline",
) -> None:
    """Draw ``payload``; ``player`` is the key of the ``st.container`` that holds the player to steer.

    ``focus``: start and end in seconds of a stretch to zoom in on, once.
    """
    _mount(key=key, data={**payload, "player": player, "focus": focus})
