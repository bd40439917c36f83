"""The tab Segmentation of the Evaluate page: segments as labelled frames."""

import pandas as pd
import streamlit as st

from pages.common import address, notices, tables
from pages.common.cached_results import cached_by_identity, matched
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.segmentation import Segmentation, compare_subset, usual_step
from tal_core.plots import proposals as plots
from tal_core.plots.timeline import best_f1

AUTOMATIC, EVERY = "best F1", "all"
TIOU = 0.5
LEVELS = ["0.01", "0.02", "0.05", *(f"{k / 10:g}" for k in range(1, 10))]
PER_VIDEO = "figures of each video"


@cached_by_identity("Comparing frames")
def compared(
    data: Dataset, detections: pd.DataFrame, subset: str | None, step: float, score: float
) -> Segmentation:
    """The figures on a subset (None: on all videos). Raises InputError."""
    return compare_subset(data, detections, subset, step, score)


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
    results, scores = {}, {}
    for name, table in detections.items():
        with notices.guard(stop=False):
            scores[name] = threshold(data, table, subset, chosen)
            results[name] = compared(data, table, subset, step, scores[name])
    if not results:
        return
    table = plots.segmentation_table(results, scores)
    alt, formats = "Accuracy, edit score and F1 in percent", {"score at least": "%.3g"}
    tables.show_figures(table, f"{data.name}-frames", alt=alt, **formats)
    st.caption(
        "As in action segmentation (Lea et al., CVPR 2017), in percent and averaged over videos: each frame "
        "has the label of the best-scored detection over it. Background counts in accuracy and is left out "
        "of the edit score and of F1 at 10, 25 and 50 % overlap."
    )
    with st.expander(PER_VIDEO[0].upper() + PER_VIDEO[1:]):
        name = (
            st.selectbox("Run", list(results), key="frames_run") if len(results) > 1 else next(iter(results))
        )
        file = f"{data.name}-frames-per-video"
        tables.show_figures(results[name].per_video, file, alt=f"The {PER_VIDEO}")


def threshold(data: Dataset, detections: pd.DataFrame, subset: str | None, chosen: str) -> float:
    """The lowest score that counts."""
    if chosen == AUTOMATIC:
        truth, labelled = matched(data, detections, subset, TIOU)
        return best_f1(labelled, len(truth))[0]
    return -float("inf") if chosen == EVERY else float(chosen)
