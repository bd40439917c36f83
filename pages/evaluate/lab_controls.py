"""The controls of the post-processing lab: NMS settings and video class scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from pages.common import address, notices, readable, uploads
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.class_scores import ClassScores, read_class_scores
from tal_core.models.config import MethodConfig
from tal_core.postprocessing.fusion import Fusion
from tal_core.postprocessing.lab import Stored
from tal_core.runs.run import Run
from tal_core.schema import parse_settings, to_text
from tal_core.training.postprocessed_run import SETTINGS, changed_config

KINDS = {"none": "None", "hard": "Hard", "soft": "Soft", "linear": "Linear"}
KIND_HELP = (
    "Hard removes what overlaps a better detection, soft (Gaussian) and linear lower its score. "
    "None only drops low scores."
)
SCORES = (0.0, 0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
COUNTS = (5, 10, 20, 50, 100, 200, 300, 500, 1000, 2000)
SOURCES = {"stored": "as stored", "dataset": "the dataset's", "file": "a file"}
MODES = {"weigh": "weight the candidates", "classes": "assign the classes"}
MODE_HELP = (
    "Weight: score × class score ^ power; candidates outside the video's best classes go. Assign: each "
    "segment becomes one detection of each of the best classes, as in the published ActivityNet results."
)


def start(run: Run) -> dict[str, Any]:
    """The lab's settings of a run: of this session, else of the address bar, else the run's own."""
    if st.session_state.get("lab:run") not in (None, run.run_id):
        address.forget("lab")
    st.session_state["lab:run"] = run.run_id
    values = st.session_state.get(f"lab:{run.run_id}")
    if values is None:
        own = changed_config(run, {})
        config = own
        with notices.guard(stop=False):
            config = changed_config(run, parse_settings(address.choice("lab") or ()))
        values = {name: getattr(config, name) for name in SETTINGS}
        st.session_state[f"lab:{run.run_id}"] = values
    return values


def put(run: Run, values: dict[str, Any]) -> None:
    """Move the controls. Call it before they are drawn, as from a button's callback."""
    st.session_state[f"lab:{run.run_id}"] = dict(values)
    for name in SETTINGS:
        st.session_state.pop(f"lab:{run.run_id}:{name}", None)


def show_nms(run: Run) -> MethodConfig:
    """The NMS controls; the run's config with what they say. Raises InputError if that is nonsense."""
    values = start(run)

    def key(name: str) -> str:
        full = f"lab:{run.run_id}:{name}"
        st.session_state.setdefault(full, values[name])  # a control that was out of sight, too
        return full

    found = dict(values)
    found["nms"] = st.segmented_control(
        "NMS",
        list(KINDS),
        format_func=KINDS.__getitem__,
        key=key("nms"),
        help=KIND_HELP,
        required=True,
        width="stretch",
    )
    if found["nms"] == "soft":
        most = max(2.0, values["nms_sigma"])
        found["nms_sigma"] = st.slider(
            "Sigma",
            0.01,
            most,
            step=0.01,
            key=key("nms_sigma"),
            help="Smaller lowers overlapping scores more.",
        )
    elif found["nms"] != "none":
        found["nms_threshold"] = st.slider(
            "NMS tIoU",
            0.01,
            1.0,
            step=0.01,
            key=key("nms_threshold"),
            help="Detections that overlap a better one by at least this tIoU are affected.",
        )
    found["nms_per_class"] = st.toggle(
        "Per class", key=key("nms_per_class"), help="Segments of different classes don't affect each other."
    )
    found["min_score"] = _among("Score threshold", SCORES, key("min_score"), to_text)
    found["max_detections"] = _among("Detections per video", COUNTS, key("max_detections"), readable.number)
    if found["nms_per_class"]:
        st.caption("Segment voting is available when NMS runs over all classes.")
    else:
        found["voting_threshold"] = st.slider(
            "Segment voting tIoU",
            0.0,
            1.0,
            step=0.01,
            key=key("voting_threshold"),
            help="A kept segment becomes the weighted mean of all that overlap it this much; 0: none.",
        )
    st.session_state[f"lab:{run.run_id}"] = found
    own = changed_config(run, {})
    config = changed_config(run, found)
    changed = [name for name in SETTINGS if getattr(config, name) != getattr(own, name)]
    if changed:
        address.remember("lab", [f"{name}={to_text(found[name])}" for name in changed])
    else:
        address.forget("lab")
    return config


def _among(label: str, usual: tuple, key: str, words: Any) -> Any:
    """A slider over usual values and the one in use."""
    options = sorted({*usual, st.session_state[key]})
    return st.select_slider(label, options, key=key, format_func=words)


def show_class_scores(data: Dataset, stored: Stored) -> tuple[Fusion, ClassScores] | None:
    """How video class scores enter the candidates; None for not at all."""
    sources = [name for name in SOURCES if name != "dataset" or data.entry.class_scores is not None]
    source = st.selectbox(
        "Video class scores",
        sources,
        format_func=SOURCES.__getitem__,
        key="lab:source",
        help="From a video classifier, as used with ActivityNet proposals.",
    )
    if source == "stored":
        if data.entry.class_scores is None:
            st.caption("The dataset has none registered (`datasets add --class-scores`); a file can be used.")
        return None
    file = None
    if source == "file":
        file = st.file_uploader(
            "JSON, NPZ or THUMOS14's NPY", type=["json", "npz", "npy", "gz"], key="lab:file"
        )
        if file is None:
            return None
    modes = ["classes"] if stored.classless else list(MODES)
    mode = st.selectbox(
        "How they are used", modes, format_func=MODES.__getitem__, key="lab:mode", help=MODE_HELP
    )
    first, second = st.columns(2)
    top_k = first.number_input("Best classes", 0, len(stored.labels), 2, key="lab:top_k", help="0: all")
    power = second.number_input(
        "Power", 0.05, 10.0, 1.0, step=0.05, key="lab:power", help="Exponent of the class score; 1 is usual."
    )
    with notices.guard(stop=False):
        if file is not None:
            scores = uploads.read_upload(file, read_class_scores, tuple(stored.labels))
            scores = replace(scores, path=Path(file.name))
        else:
            scores = data.class_scores(list(stored.candidates), stored.labels)
        scores.check(list(stored.candidates))
        return Fusion(mode, int(top_k), float(power)), scores
    st.caption("The figures are without these class scores.")
    return None
