"""The tab Proposals of the Evaluate page: recall whatever the labels."""

import pandas as pd
import streamlit as st

from pages.common import downloads, notices, readable, tables
from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.proposal_recall import THRESHOLDS, ProposalRecall, proposal_recall, without_repeats
from tal_core.plots import proposals as plots

MOST = 100


@cached_by_identity("Measuring recall")
def recalled(data: Dataset, detections: pd.DataFrame, subset: str | None) -> ProposalRecall:
    """Recall on a subset (None: on all videos). Raises InputError."""
    return proposal_recall(data.ground_truth(subset), without_repeats(detections), MOST)


def show(detections: dict[str, pd.DataFrame], data: Dataset, subset: str | None) -> None:
    """Curves and a table of all runs that have proposals here."""
    videos = data.ground_truth(subset)["video_id"].unique()
    inside = [name for name, table in detections.items() if table["video_id"].isin(videos).any()]
    outside = [f"**{name}**" for name in detections if name not in inside]
    if outside:
        st.info(
            f"No segments in annotated videos of this subset, so nothing to recall: {', '.join(outside)}."
        )
    recalls = {}
    for name in inside:
        with notices.guard(stop=False):
            recalls[name] = recalled(data, detections[name], subset)
    if not recalls:
        return
    left, right = st.columns([3, 2])
    with left:
        figure, name = plots.recall_curves(recalls), f"{data.name}-AR-AN"
        downloads.chart(figure, name, key="recall_curves", alt="Average recall against proposals")
    with right:
        figure, name = plots.recall_by_threshold(recalls), f"{data.name}-recall"
        downloads.chart(figure, name, key="recall_tiou", alt="Recall at each tIoU")
    table = plots.recall_table(recalls)
    tables.show_figures(table, f"{data.name}-AR-AN", alt="AR@AN and AUC in percent")
    st.caption(
        "As in ActivityNet's proposal task: labels are ignored, recall is averaged over "
        f"{readable.tiou_text(THRESHOLDS)}, and AUC is the area up to {MOST} proposals a video, in percent. "
        "A segment that a detector gives to several classes counts once, with its best score. Right: recall "
        f"of all of the up to {MOST}."
    )
