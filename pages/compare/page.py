"""Compare: all runs in a table, then two of them against each other by class, video, segment and training."""

import streamlit as st

from pages.common import address, downloads, navigation, notices, pickers, published
from pages.compare import differences as views
from pages.compare import runs_and_verdict as parts
from pages.compare import training_and_cost as details
from tal_core.data.benchmarks.published import benchmark_of
from tal_core.data.dataset.dataset import Dataset
from tal_core.runs.run import Run

SECTIONS = {
    "mAP": views.show_maps,
    "Classes": views.show_classes,
    "Videos": views.show_videos,
    "Segments": views.show_segments,
    "Training": details.show_training,
    "Settings and cost": details.show_settings,
}


def pick_two(data: Dataset) -> list[Run]:
    """The two runs to compare, of those that have detections on this dataset; they live in the address."""
    runs = {run.run_id: run for run in pickers.runs_of(data.name, with_detections=True)}
    asked = address.choice("run")
    if asked is not None and len(asked) > 2:
        address.remember("run", asked[:2])
    if asked is not None and len(asked) == 1 and "compare_opened" not in st.session_state:
        others = [name for name in runs if name not in asked]
        address.remember("run", [*asked, *others[:1]])
    st.session_state["compare_opened"] = True
    chosen = address.pick(
        "Two runs",
        list(runs),
        "run",
        default=list(runs)[:2],
        kind="multiselect",
        max_selections=2,
        format_func=lambda run_id: pickers.run_title(runs[run_id]),
        help="The first is the one that the second is measured against: above zero the second is better.",
    )
    return [runs[name] for name in chosen]


def show_page() -> None:
    """The table, the two runs, how they differ as a whole, then the section chosen."""
    navigation.header("Compare", "Which run is better, where, by how much, and at what cost.")
    data = pickers.pick_dataset(place=st.columns([1, 2])[0])
    parts.show_runs(data.name)
    st.subheader("Two runs against each other", anchor=False)
    runs = pick_two(data)
    if len(runs) < 2:
        st.info(f"Choose two runs with detections on **{data.name}**.")
        with st.container(horizontal=True):
            navigation.link("train", "Train another run", dataset=data.name)
            navigation.link(
                "evaluate", "Keep a detections file as a run", icon=":material/save:", dataset=data.name
            )
    else:
        subset, tiou, protocol = pickers.pick_settings(data)
        with notices.guard(stop=False):
            pair = parts.Pair(data, (runs[0], runs[1]), subset, tiou, protocol)
            parts.show_verdict(pair)
            section = address.pick(
                "Section",
                list(SECTIONS),
                "comparison",
                kind="segmented_control",
                required=True,
                label_visibility="collapsed",
            )
            SECTIONS[section](pair)
            downloads.report(data, runs, subset, tiou, protocol)
    published.show_table(benchmark_of(data.labels, published.figures()[1]))


show_page()
