"""Detect: one video or feature file in, segments on a timeline out."""

import streamlit as st

from pages import detect_results, detect_sources, shared
from tal_core.inference import detect

shared.header("Detect", "Find actions in one video or feature file with a run that you have trained.")

with st.container(border=True):
    found = detect_sources.pick_source()
    if found is not None:
        detect_sources.show_facts(found)
        run = detect_sources.pick_run(found)
        if run is not None and st.button("Detect", type="primary", icon=":material/search:"):
            with shared.guard(stop=False):
                started = detect.start(shared.home(), run, found)
                shared.remember(detect_results.KEY, [started.detect_id])

detect_results.show()
