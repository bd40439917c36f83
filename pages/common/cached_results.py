"""Matches and evaluations, computed once for all sessions."""

import pandas as pd
import streamlit as st

from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.outcomes import label_detections


# The result keeps the table and the dataset alive, so the id of either stays its own while it is cached.
@st.cache_resource(
    max_entries=24, show_spinner="Matching detections", hash_funcs={Dataset: id, pd.DataFrame: id}
)
def matched(data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: float) -> tuple:
    """The subset's annotations and its detections with their outcomes, shared: never change the tables."""
    truth = data.ground_truth(subset)
    inside = detections[detections["video_id"].isin(data.videos(subset, usable=False))]
    return truth, label_detections(truth, inside, tiou)[0], (data, detections)


# The result keeps the table and the dataset alive, so the id of either stays its own while it is cached.
@st.cache_resource(max_entries=48, show_spinner="Evaluating", hash_funcs={Dataset: id, pd.DataFrame: id})
def evaluated(
    data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: tuple, protocol: str
) -> tuple:
    """The evaluation on a subset (None: on all videos), cached."""
    result = evaluate(
        data.ground_truth(subset),
        detections,
        tiou,
        protocol=protocol,
        videos=data.videos(subset, usable=False),
    )
    return result, (data, detections)
