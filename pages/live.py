"""Live: choose a run and a source, start, and watch what is detected; streams outlive this page."""

import streamlit as st

from pages import live_form, live_streams, live_watch, shared
from tal_core.streaming.folder import list_streams

PANELS = {
    "New stream": live_form.show_new,
    "Watch": live_watch.show_watch,
    "All streams": live_streams.show_all,
}

shared.header(
    "Live",
    "Actions as they happen, in a camera's picture, a network stream or a file played as one. A stream runs "
    "in the background: it outlives the browser, and others can watch it by this page's address.",
)
names = list(PANELS)
with shared.guard():
    watchable = "stream" in st.query_params or any(stream.active for stream in list_streams(shared.home()))
panel = shared.pick(
    "Panel",
    names,
    "panel",
    default=names[1:2] if watchable else names[:1],
    kind="segmented_control",
    required=True,
    label_visibility="collapsed",
)
PANELS[panel]()
