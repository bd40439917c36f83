"""Parts of the Evaluate page: settings, cached evaluations, detections of runs and of an uploaded file."""

import re
import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.oddities import detection_findings
from tal_core.evaluation.average_precision import PROTOCOLS, evaluate, parse_tiou
from tal_core.evaluation.result import thresholds_text
from tal_core.importing.run_of_detections import fit_videos, keep_detections, read_foreign
from tal_core.runs.run import Run
from tal_core.types import InputError

EVERYTHING = "all subsets"
PRESETS = {"0.3:0.7:0.1": "THUMOS14", "0.5:0.95:0.05": "ActivityNet", "0.1:0.5:0.1": "low", "0.5": "one"}
PROTOCOL_HELP = (
    "official: the ActivityNet challenge's script, every annotation counts. toolbox: as OpenTAD and "
    "ActionFormer, zero-length and repeated annotations are removed first."
)


def pick_settings(data: Dataset) -> tuple[str | None, tuple[float, ...], str]:
    """Subset (None: all), tIoU thresholds and protocol."""
    first, second, third = st.columns(3)
    subsets = [name for name in dict.fromkeys(data.index["subset"]) if name]
    options = [*subsets, EVERYTHING]
    subset = address.pick("Subset", options, "subset", default=[data.evaluation_subset], place=first)
    usual = thresholds_text(data.tiou)
    options = list(dict.fromkeys([usual, *PRESETS, *(address.choice("thresholds") or ())]))
    text = address.pick(
        "tIoU thresholds",
        options,
        "thresholds",
        default=[usual],
        place=second,
        format_func=lambda t: f"{t}  ({PRESETS[t]})" if t in PRESETS else t,
        accept_new_options=True,
        help="first:last:step, or single ones such as 0.5 or 0.5,0.75. Type your own and press Enter.",
    )
    protocol = address.pick("Protocol", PROTOCOLS, "protocol", place=third, help=PROTOCOL_HELP)
    with notices.guard():
        return None if subset == EVERYTHING else subset, tuple(parse_tiou(text)), protocol


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
            return read_foreign(path)
        except InputError as error:
            raise InputError(error.what, where=name, hint=error.hint) from None


def gather(runs: list[Run], data: Dataset) -> dict[str, pd.DataFrame]:
    """Detections by name: of the chosen runs, and of an uploaded file."""
    found = {}
    for run in runs:
        with notices.guard(stop=False):
            found[run.run_id] = loaders.load_detections(run)
    opened = not found or st.session_state.get("evaluate_upload") is not None
    with st.expander("Evaluate a detections file", expanded=opened):
        file = st.file_uploader(
            "ActivityNet results JSON, or CSV with video_id, start, end, label, score (.gz is fine)",
            type=["json", "csv", "tsv", "gz", "pkl"],
            key="evaluate_upload",
        )
    if file is not None:
        with notices.guard(stop=False):
            detections = read_upload(file.file_id, file.name, file.getvalue())
            found[f"file {file.name}"] = renamed(data, detections)[0]
            offer_to_keep(data, detections, file.name)
    return found


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={Dataset: id, pd.DataFrame: id})
def renamed(data: Dataset, detections: pd.DataFrame) -> tuple:
    """A file's detections under the dataset's video ids, and what was renamed or left out."""
    table, notes = fit_videos(detections, data)
    return table, notes, (data, detections)


def offer_to_keep(data: Dataset, detections: pd.DataFrame, name: str) -> None:
    """Say what was changed, and make a run of an uploaded file for all the other pages."""
    for note in renamed(data, detections)[1]:
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


@st.cache_resource(max_entries=48, show_spinner=False, hash_funcs={Dataset: id, pd.DataFrame: id})
def oddities(detections: pd.DataFrame, data: Dataset, subset: str | None) -> tuple:
    """What is odd about detections beside a subset, cached."""
    videos = data.index[data.index["video_id"].isin(data.videos(subset, usable=False))]
    findings = detection_findings(detections, data.ground_truth(subset), videos, data.labels)
    return findings, (detections, data)


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
