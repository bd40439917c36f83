"""The tab Frames of the Evaluate page: snippet scores ranked, as online action detection is measured."""

import streamlit as st

from pages.common import downloads, loaders, notices, tables
from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.frame_precision import FrameEvaluation, evaluate_dataset_frames
from tal_core.plots import frame_precision as plots
from tal_core.postprocessing.candidates import load_all_snippet_scores
from tal_core.runs.run import Run

PLAIN, CALIBRATED = "plain", "calibrated"


@cached_by_identity("Ranking snippets")
def ranked(
    data: Dataset,
    _run: Run,
    key: tuple,
    subset: str | None,
) -> FrameEvaluation | None:
    """On a subset (None: on all videos); None without scores there. Raises InputError."""
    scores, labels = load_all_snippet_scores(_run.snippet_scores_file)
    if not scores.keys() & set(data.videos(subset, usable=False)):
        return None
    return evaluate_dataset_frames(data, scores, labels, subset)


def gather(runs: list[Run], data: Dataset, subset: str | None) -> dict[str, FrameEvaluation]:
    """The figures of the runs that have some; of the others the page says why not."""
    results, unscored, outside = {}, [], []
    for run in runs:
        path = run.snippet_scores_file
        if not path.exists():
            unscored.append(f"**{run.run_id}**")
            continue
        with notices.guard(stop=False):
            result = ranked(data, run, (str(run.folder), *loaders.changed(path)), subset)
            if result is None:
                outside.append(f"**{run.run_id}**")
            else:
                results[run.run_id] = result
    if unscored:
        st.info(
            f"No snippet scores, so no per-frame AP: {', '.join(unscored)}. Imported detections and methods "
            "that score segments alone have none."
        )
    if outside:
        st.info(
            f"No snippet scores on this subset: {', '.join(outside)}. A run keeps those of the subset "
            "that it was evaluated on; choose that one above."
        )
    return results


def show(runs: list[Run], data: Dataset, subset: str | None) -> None:
    """A table of all runs, AP per class, and how soon an action is seen."""
    results = gather(runs, data, subset)
    if not results:
        if not runs:
            st.info("A detections file has no snippet scores: choose a run.")
        return
    table = plots.frame_table(results)
    tables.show_figures(table, f"{data.name}-per-frame-mAP", alt="Per-frame mAP in percent")
    st.caption(
        "As in online action detection, in percent: a class's scores rank all snippets, and those with their "
        "centre in an action of the class are right. Calibrated (De Geest et al., ECCV 2016): as if every "
        "class were as frequent as all else, so that rare classes compare with frequent ones."
    )
    left, right = st.columns(2)
    with left:
        kind = st.segmented_control(
            "AP per class", (PLAIN, CALIBRATED), default=PLAIN, required=True, key="frame_precision"
        )
        figure = plots.frame_class_map(results, calibrated=kind == CALIBRATED)
        name = f"{data.name}-per-frame-AP"
        downloads.chart(figure, name, key="frame_class_map", alt="Per-frame AP per class and run")
        downloads.table(plots.frame_class_table(results), name, label="Save AP per class")
    with right:
        figure, name = plots.stage_curves(results), f"{data.name}-stages"
        downloads.chart(figure, name, key="frame_stages", alt="Calibrated mAP by tenth of an action")
        st.caption("When of every action only one of its tenths counts: how soon, and how long, it is seen.")
