"""Live: choose a run and a source, start, and watch what is detected; streams outlive this page."""

import streamlit as st

from pages.common import address, loaders, navigation, notices
from pages.live import form, streams, watch
from tal_core.streaming.live.folder import list_streams

PANELS = {
    "New stream": form.show_new,
    "Watch": watch.show_watch,
    "All streams": streams.show_all,
}

navigation.header(
    "Live",
    "Actions as they happen, from a camera, a network stream or a file played as one. A stream runs "
    "in the background: it goes on when the browser closes, and others can watch it at this page's address.",
)
names = list(PANELS)
with notices.guard():
    watchable = "stream" in st.query_params or any(stream.active for stream in list_streams(loaders.home()))
panel = address.pick(
    "Panel",
    names,
    "panel",
    default=names[1:2] if watchable else names[:1],
    kind="segmented_control",
    required=True,
    label_visibility="collapsed",
)
PANELS[panel]()
