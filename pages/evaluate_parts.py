"""Parts of the Evaluate page: cached evaluations, detections of runs and of an uploaded file."""

import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from pages import shared
from tal_core.data.dataset import Dataset
from tal_core.data.detections import read_detections
from tal_core.data.oddities import detection_findings
from tal_core.evaluation.average_precision import evaluate
from tal_core.training.run import Run
from tal_core.types import InputError


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


@st.cache_resource(max_entries=4, show_spinner="Reading the file")
def read_upload(file_id: str, name: str, _content: bytes) -> pd.DataFrame:  # pylint: disable=unused-argument
    """An uploaded detections file; errors name it as its owner does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(_content)
        try:
            return read_detections(path)
        except InputError as error:
            raise InputError(error.what, where=name, mend=error.mend) from None


def gather(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """Detections by name: of the chosen runs, and of an uploaded file."""
    found = {}
    for run in runs:
        with shared.guard(stop=False):
            found[run.run_id] = shared.load_detections(run)
    opened = not found or st.session_state.get("evaluate_upload") is not None
    with st.expander("Evaluate a detections file", expanded=opened):
        file = st.file_uploader(
            "ActivityNet results JSON, or CSV with video_id, start, end, label, score (.gz is fine)",
            type=["json", "csv", "gz"],
            key="evaluate_upload",
        )
    if file is not None:
        with shared.guard(stop=False):
            found[f"file {file.name}"] = read_upload(file.file_id, file.name, file.getvalue())
    return found


@st.cache_resource(max_entries=48, show_spinner=False, hash_funcs={Dataset: id, pd.DataFrame: id})
def oddities(detections: pd.DataFrame, data: Dataset, subset: str | None) -> tuple:
    """What is odd about detections beside a subset, cached."""
    videos = data.index[data.index["video_id"].isin(data.videos(subset, usable=False))]
    return detection_findings(detections, data.ground_truth(subset), videos), (detections, data)


def show_oddities(found: dict[str, pd.DataFrame], data: Dataset, subset: str | None) -> None:
    """A box per set of detections with what the numbers below owe to its oddities."""
    for name, detections in found.items():
        findings, _ = oddities(detections, data, subset)
        serious = findings[findings["kind"].isin(("unknown videos", "unknown labels"))]
        if len(serious):
            lines = "\n".join(f"- {row.detail}. {row.advice}" for row in serious.itertuples())
            inside = detections["video_id"].isin(data.videos(subset, usable=False)).any()
            state = (
                "beside the ground truth of this subset" if inside else "has no detections in these videos"
            )
            st.warning(f"**{name}** {state}:\n{lines}")
