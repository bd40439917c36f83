"""Two ends of the post-processing lab: searching for settings, and keeping them as a run."""

from dataclasses import asdict

import streamlit as st

from pages.common import loaders, navigation, notices, readable, tables
from pages.evaluate import lab_controls as controls
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.class_scores import ClassScores
from tal_core.models.config import MethodConfig
from tal_core.plots import postprocessing_lab as lab_plots
from tal_core.postprocessing.candidates import suppression
from tal_core.postprocessing.fusion import Fusion
from tal_core.postprocessing.lab import Bench, Stored, Suggestion, suggest
from tal_core.postprocessing.nms import Suppression
from tal_core.runs.run import Run
from tal_core.training.postprocessed_run import changed_config, derive_run, free_name

SPLITS = {
    True: "choose on one half of the videos, report on the other",
    False: "choose on all videos",
}


def reset(run: Run) -> None:
    """Back to the run's own settings."""
    controls.put(run, asdict(suppression(changed_config(run, {}))))
    st.session_state["lab:source"] = "stored"
    st.session_state.pop("lab:taken", None)


def _take(run: Run, settings: Suppression, note: str) -> None:
    controls.put(run, asdict(settings))
    st.session_state["lab:taken"] = (settings, note)


def show_suggest(run: Run, bench: Bench, present: Suppression) -> None:
    """Search for better settings, and say what such a figure is worth."""
    with st.expander("Suggest settings", icon=":material/auto_fix_high:"):
        split = st.radio("How to choose", list(SPLITS), format_func=SPLITS.get, key="lab:split")
        if not split:
            st.warning(
                "Settings chosen on the videos that they are measured on flatter the figure. Report it as "
                "chosen on the evaluation subset, or choose on videos that aren't reported.",
                icon=":material/warning:",
            )
        else:
            st.caption("The fair way: the halves are drawn by a hash of the video names, always the same.")
        if st.button("Search", icon=":material/search:", key="lab:search"):
            with notices.guard(stop=False), notices.progress("Trying settings") as report:
                found = suggest(bench, present, split=split, progress=report)
                st.session_state["lab:found"] = (bench, found)
        searched, found = st.session_state.get("lab:found", (None, None))
        if searched is bench:
            _show_found(run, found)


def _show_found(run: Run, found: Suggestion) -> None:
    """What the search found."""
    table = lab_plots.suggestion_table(found)
    tables.show_figures(table, f"{run.run_id}-settings-tried", alt="Average mAP of the best settings")
    best, words = found.best[0], f"chosen among {found.num_tried} settings on {found.num_chosen} videos"
    if best.reported is not None and found.present.reported is not None:
        gain = 100 * (best.reported - found.present.reported)
        note = f"{words}, reported on {found.num_reported} others"
        st.markdown(
            f"The best, {words}, reaches **{readable.percent(best.reported, 2)}** average mAP on the "
            f"{found.num_reported} videos held back, {gain:+.2f} points against the settings as set then. "
            "That is the figure to report."
        )
    else:
        note = f"{words}, which are also those reported: the figure is flattered"
        gain = 100 * (best.chosen - found.present.chosen)
        st.markdown(
            f"The best, {words}: {gain:+.2f} points of average mAP against the settings as set then, "
            "**on these same videos**."
        )
    st.button(
        "Take the best settings", on_click=_take, args=(run, best.settings, note), icon=":material/done:"
    )


def show_keep(
    run: Run,
    data: Dataset,
    stored: Stored,
    config: MethodConfig,
    fused: tuple[Fusion, ClassScores] | None,
) -> None:
    """Write the settings' detections as a run of their own."""
    st.subheader("Keep these settings", anchor=False)
    st.caption(
        f"Makes a new run of **{run.run_id}**'s candidates with these settings, evaluated on the evaluation "
        f"subset. **{run.run_id}** stays as it is; every page shows the new run like any other."
    )
    first, second = st.columns([2, 1], vertical_alignment="bottom")
    name = first.text_input("Name of the new run", value=free_name(loaders.home(), run.run_id), key=None)
    taken, note = st.session_state.get("lab:taken", (None, ""))
    if second.button("Keep these settings", icon=":material/save:", type="primary", key="lab:keep"):
        with notices.guard(stop=False):
            fusion, scores = fused or (None, None)
            kept = derive_run(
                loaders.home(),
                run,
                data,
                stored,
                config,
                fusion=fusion,
                class_scores=scores,
                run_id=name.strip(),
                note=note if taken == suppression(config) else "",
            )
            st.session_state["lab:kept"] = (run.run_id, kept.run_id)
    source, made = st.session_state.get("lab:kept", (None, None))
    if source == run.run_id:
        st.success(f"Kept as **{made}**. Nothing else has changed.", icon=":material/check_circle:")
        left, right, _ = st.columns([1, 1, 2])
        with left:
            navigation.link("timeline", "See it on the timeline", dataset=data.name, run=made)
        with right:
            navigation.link("evaluate", "Evaluate it", dataset=data.name, run=made)
