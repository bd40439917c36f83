"""The tab Segmentation of the Evaluate page: segments as labelled frames."""

import pandas as pd
import streamlit as st

from pages.common import address, downloads, notices
from pages.common.cached_results import matched
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.segmentation import Segmentation, compare_subset, usual_step
from tal_core.plots import proposals as plots
from tal_core.plots.timeline import best_f1

AUTOMATIC, EVERY = "best F1", "all"
TIOU = 0.5
LEVELS = ["0.01", "0.02", "0.05", *(f"{k / 10:g}" for k in range(1, 10))]
PER_VIDEO = "figures of each video"


# The result keeps the table and the dataset alive, so the id of either stays its own while it is cached.
@st.cache_resource(
    max_entries=24, show_spinner="Comparing frames", hash_funcs={Dataset: id, pd.DataFrame: id}
)
def compared(
    data: Dataset, detections: pd.DataFrame, subset: str | None, step: float, score: float
) -> tuple[Segmentation, tuple]:
    """The figures on a subset (None: on all videos), cached. Raises InputError."""
    return compare_subset(data, detections, subset, step, score), (data, detections)


def pick_settings(data: Dataset) -> tuple[float, str]:
    """Seconds between two frames, and which detections count."""
    left, right = st.columns(2)
    step = left.number_input(
        "Seconds between two frames",
        min_value=0.01,
        max_value=60.0,
        value=usual_step(data),
        format="%.3f",
        key=f"frame_step:{data.name}",
        help="Every video becomes a row of labelled frames so far apart; first the stride of the features.",
    )
    score = address.pick(
        "Detections with a score of at least",
        [AUTOMATIC, EVERY, *LEVELS],
        "frames",
        kind="select_slider",
        place=right,
        help=f"“{AUTOMATIC}” takes, for each run, the threshold with the best F1 at tIoU {TIOU:g}.",
    )
    return step, score


def show(detections: dict[str, pd.DataFrame], data: Dataset, subset: str | None) -> None:
    """Settings, a table of all runs, and one by video."""
    step, chosen = pick_settings(data)
    found, scores = {}, {}
    for name, table in detections.items():
        with notices.guard(stop=False):
            scores[name] = threshold(data, table, subset, chosen)
            found[name] = compared(data, table, subset, step, scores[name])[0]
    if not found:
        return
    table = plots.segmentation_table(found, scores)
    numbers = {c: st.column_config.NumberColumn(c, format="%.2f") for c in table.columns[2:]}
    numbers["score at least"] = st.column_config.NumberColumn(format="%.3g")
    st.dataframe(table, hide_index=True, column_config=numbers, alt="Accuracy, edit score and F1 in percent")
    downloads.table(table, f"{data.name}-frames")
    st.caption(
        "As in action segmentation (Lea et al., CVPR 2017), in percent and averaged over videos: each frame "
        "has the label of the best-scored detection over it. Background counts in accuracy and is left out "
        "of the edit score and of F1 at 10, 25 and 50 % overlap."
    )
    with st.expander(PER_VIDEO[0].upper() + PER_VIDEO[1:]):
        name = st.selectbox("Run", list(found), key="frames_run") if len(found) > 1 else next(iter(found))
        videos = found[name].per_video
        numbers = {c: st.column_config.NumberColumn(c, format="%.2f") for c in videos.columns[1:]}
        st.dataframe(videos, hide_index=True, column_config=numbers, alt=f"The {PER_VIDEO}")
        downloads.table(videos, f"{data.name}-frames-per-video")


def threshold(data: Dataset, detections: pd.DataFrame, subset: str | None, chosen: str) -> float:
    """The lowest score that counts."""
    if chosen == AUTOMATIC:
        truth, labelled, _ = matched(data, detections, subset, TIOU)
        return best_f1(labelled, len(truth))[0]
    return -float("inf") if chosen == EVERY else float(chosen)
