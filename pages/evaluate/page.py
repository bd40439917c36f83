"""Evaluate: mAP of runs, or of a detections file, on a dataset's ground truth, by tIoU and by class."""

import streamlit as st

from pages.common import downloads, navigation, notices, pickers, readable
from pages.common.cached_results import evaluated
from pages.evaluate import inputs
from pages.evaluate.tabs import TABS, Shown


def show_page() -> None:
    """Settings, then what they give."""
    navigation.header("Evaluate", "Mean average precision (mAP) by the benchmarks' protocols.")
    first, second = st.columns([1, 2])
    data = pickers.pick_dataset(place=first)
    runs = pickers.pick_runs(data.name, place=second)
    subset, tiou, protocol = pickers.pick_settings(data)
    detections = inputs.gather(runs, data)
    if not detections:
        st.info(f"Choose a run or a detections file to evaluate on **{data.name}**.")
        if not pickers.runs_of(data.name, with_detections=True):
            navigation.link("train", "Train a model", dataset=data.name)
        return
    evaluations = {}
    with notices.guard(stop=False):
        evaluations = {n: evaluated(data, d, subset, tiou, protocol) for n, d in detections.items()}
    if not evaluations:
        navigation.link_to_timeline(data.name, [run.run_id for run in runs], subset)
        downloads.detections(detections, data.name)
        return
    where = f"subset **{subset}**" if subset else "**all subsets**"
    st.markdown(
        f"On {where} of **{data.name}**, {readable.tiou_text(tiou)}, {protocol} protocol. "
        "“Average” is the mean over these thresholds."
    )
    inputs.show_findings(detections, data, subset)
    shown = Shown(data, runs, detections, evaluations, subset, tiou, protocol)
    for tab, show in zip(st.tabs(list(TABS)), TABS.values(), strict=True):
        with tab:
            show(shown)


show_page()
