"""Train: choose data and method, start in the background, watch, stop and resume."""

import streamlit as st

from pages.common import address, navigation
from pages.train import form, watch

PANELS = {"New training": form.show_new, "Watch a run": watch.show_watch}

navigation.header(
    "Train", "Training runs in the background: it goes on when the browser closes or the studio restarts."
)
names = list(PANELS)
panel = address.pick(
    "Panel",
    names,
    "panel",
    default=names[1:] if st.query_params.get("run") else names[:1],
    kind="segmented_control",
    required=True,
    label_visibility="collapsed",
)
PANELS[panel]()
