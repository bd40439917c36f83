"""Train: choose data and method, start in the background, watch, stop and resume."""

import streamlit as st

from pages import shared, train_form, train_watch

PANELS = {"New training": train_form.show_new, "Watch a run": train_watch.show_watch}

shared.header(
    "Train", "Trainings run in the background: they outlive the browser and a restart of the studio."
)
names = list(PANELS)
panel = shared.pick(
    "Panel",
    names,
    "panel",
    default=names[1:] if st.query_params.get("run") else names[:1],
    kind="segmented_control",
    required=True,
    label_visibility="collapsed",
)
PANELS[panel]()
