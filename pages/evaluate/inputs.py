"""What the Evaluate page works on: detections of runs and of an uploaded file, and what is odd about them."""

import re

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices, uploads
from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.findings import detection_findings
from tal_core.importing.run_of_detections import keep_detections
from tal_core.runs.run import Run


def gather(runs: list[Run], data: Dataset) -> dict[str, pd.DataFrame]:
    """Detections by name: of the chosen runs, and of an uploaded file."""
    detections = {}
    for run in runs:
        with notices.guard(stop=False):
            detections[run.run_id] = loaders.load_detections(run)
    opened = not detections or st.session_state.get("evaluate_upload") is not None
    file = uploads.detections_file("Evaluate a detections file", "evaluate_upload", expanded=opened)
    if file is not None:
        with notices.guard(stop=False):
            table = uploads.read_detections(file)
            detections[f"file {file.name}"] = uploads.renamed(data, table)[0]
            offer_to_keep(data, table, file.name)
    return detections


def offer_to_keep(data: Dataset, detections: pd.DataFrame, name: str) -> None:
    """Say what was changed, and make a run of an uploaded file for all the other pages."""
    for note in uploads.renamed(data, detections)[1]:
        st.info(f"**{name}**: {note}")
    with st.form("keep_upload", border=False):
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        run_id = left.text_input(
            "Keep as a run: its name",
            value=re.sub(r"[^A-Za-z0-9._-]+", "-", name.split(".")[0]).strip("._-") or "imported",
            help="Then Timeline, Diagnose and Compare take it, too.",
            key=f"keep_run_id:{name}",
        )
        asked = right.form_submit_button("Keep as a run", icon=":material/save:", width="stretch")
    if asked:
        with notices.guard(stop=False):
            run, notes = keep_detections(loaders.home(), data, detections, name, run_id=run_id.strip())
            st.session_state["kept_upload"] = (run.run_id, [run.status()["message"], *notes])
            chosen = address.choice("run") or []
            address.remember("run", [*chosen, run.run_id])
            st.rerun()
    kept, lines = st.session_state.get("kept_upload", (None, []))
    if kept is not None and kept in (address.choice("run") or []):
        st.success(f"Kept as the run **{kept}**.\n" + "\n".join(f"- {line}" for line in lines))


@cached_by_identity(entries=48)
def findings_of(detections: pd.DataFrame, data: Dataset, subset: str | None) -> pd.DataFrame:
    """What is odd about detections beside a subset."""
    videos = data.index[data.index["video_id"].isin(data.videos(subset, usable=False))]
    return detection_findings(detections, data.ground_truth(subset), videos, data.labels)


def show_findings(detections_by_name: dict[str, pd.DataFrame], data: Dataset, subset: str | None) -> None:
    """A box per set of detections with the findings that bear on the numbers below."""
    for name, detections in detections_by_name.items():
        findings = findings_of(detections, data, subset)
        serious = findings[findings["kind"].isin(("unknown videos", "unknown labels"))]
        if len(serious):
            lines = "\n".join(f"- {row.detail}. {row.advice}" for row in serious.itertuples())
            inside = detections["video_id"].isin(data.videos(subset, usable=False)).any()
            state = (
                "beside the ground truth of this subset" if inside else "has no detections in these videos"
            )
            st.warning(f"**{name}** {state}:\n{lines}")
