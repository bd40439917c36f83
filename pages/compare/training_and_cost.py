"""Sections of the Compare page on how the two runs came about: training, settings and cost."""

import streamlit as st

from pages.common import downloads
from pages.compare.runs_and_verdict import COLUMNS, Pair, measure
from tal_core.plots import comparison as plots
from tal_core.training.run_table import run_table, setting_differences


def show_training(pair: Pair) -> None:
    """Loss and validation mAP of both, overlaid."""
    metrics = {run.run_id: run.metrics() for run in pair.runs}
    without = [name for name, table in metrics.items() if table.empty]
    if without:
        st.info(f"{' and '.join(without)} recorded no training: imported detections have none.")
    left, right = st.columns(2)
    left.subheader("Training loss", anchor=False)
    with left:
        figure = plots.loss_curves(metrics)
        downloads.chart(figure, pair.file("loss"), key="compare_loss", alt="Training loss of both runs")
    left.caption(
        "Moving averages. Losses of different methods have different terms: compare shapes, not heights."
    )
    right.subheader("Validation mAP", anchor=False)
    with right:
        figure = plots.validation_curves(metrics)
        downloads.chart(figure, pair.file("validation"), key="compare_validation", alt="Validation mAP")
    right.caption(
        "On the evaluation subset, average over the thresholds. With validate_every = 0 only the last."
    )


def show_settings(pair: Pair) -> None:
    """What it costs, and the settings in which the two differ."""
    table = run_table(pair.runs).drop(columns=["dataset", "tiou", "created"])
    table["average_mAP"] *= 100
    st.dataframe(table, hide_index=True, column_config=COLUMNS, placeholder="", alt="Cost of both runs")
    downloads.table(table, pair.file("cost"))
    with st.container(horizontal=True):
        for run in pair.runs:
            measure(run)
    differences = setting_differences(pair.runs).set_index("run").T.rename_axis("setting").reset_index()
    own = [set(run.settings()) for run in pair.runs]
    if not own[0] & own[1]:
        st.info("The two have no settings in common: one's detections were imported.")
        return
    if differences.empty:
        st.info("The settings that both have are the same.")
    else:
        st.markdown("Settings that both have and set otherwise:")
        st.dataframe(differences, hide_index=True, alt="Settings in which the two runs differ")
        downloads.table(differences, pair.file("settings"))
    for name, mine, others in zip(pair.names, own, own[::-1], strict=True):
        if mine - others:
            st.caption(f"Only {name} has: {', '.join(sorted(mine - others))}.")
