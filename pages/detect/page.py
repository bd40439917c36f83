"""Detect: one video or feature file in, segments on a timeline out."""

import streamlit as st

from pages.common import address, loaders, navigation, notices
from pages.detect import choose_file, results
from tal_core.inference import detection_job

navigation.header("Detect", "Find actions in one video or feature file with a run that you have trained.")

with st.container(border=True):
    found = choose_file.pick_source()
    if found is not None:
        choose_file.show_facts(found)
        run = choose_file.pick_run(found)
        if run is not None and st.button("Detect", type="primary", icon=":material/search:"):
            with notices.guard(stop=False):
                started = detection_job.start(loaders.home(), run, found)
                address.remember(results.KEY, [started.name])

results.show()
