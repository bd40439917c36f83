"""The timeline as a Streamlit component: rows of segments, score curves and a playhead on one time axis.

It draws the dictionary of ``tal_core.plots.timeline.payload`` and moves the page's own video player, which
it finds by the key of the container around ``st.video``. Looking around stays in the browser; only edits of
the ground truth, where they are allowed, cause a rerun.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "tal_studio_timeline",
    html='<div class="timeline"></div>',
    css=_file("timeline.css"),
    js="".join(_file(name) for name in ("picture.js", "player.js", "editor.js", "timeline.js")),
)


def show_timeline(
    payload: dict,
    *,
    player: str | None = None,
    focus: tuple[float, float] | None = None,
    key: str = "timeline",
    edit: dict[str, Any] | None = None,
    on_edit: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Draw ``payload``; ``player`` is the key of the ``st.container`` that holds the player to steer.

    ``focus``: start and end in seconds of a stretch to zoom in on, once. ``edit``: what the editor of the
    ground truth needs to know (see ``pages.timeline.editing``); then ``on_edit`` gets what it sends.
    """

    def heard() -> None:
        value = st.session_state[key].get("edit")
        if value and on_edit:
            on_edit(value)

    _mount(key=key, data={**payload, "player": player, "focus": focus, "edit": edit}, on_edit_change=heard)
