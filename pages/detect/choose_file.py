"""Detect's first half: which file, and which run fits it."""

from pathlib import Path

import streamlit as st

from pages.common import address, loaders, navigation, notices, pickers, readable
from tal_core.data.dataset.folders import feature_files, video_files
from tal_core.data.features.arrays import SUFFIXES
from tal_core.data.formats.video_ids import VIDEO_SUFFIXES
from tal_core.inference.detection_input import MOST_MB, DetectionInput, inspect, take_in, why_not
from tal_core.runs.run import Run

UPLOAD, FOLDER = "Upload a file", "From a dataset's folders"


def pick_source() -> DetectionInput | None:
    """The chosen file, looked at; None as long as there is none that can be used."""
    way = address.pick(
        "File",
        [UPLOAD, FOLDER],
        "from",
        kind="segmented_control",
        required=True,
        label_visibility="collapsed",
    )
    path = uploaded() if way == UPLOAD else from_folder()
    if path is None:
        return None
    with notices.guard(stop=False):
        return inspect(path)
    return None


def uploaded() -> Path | None:
    """An uploaded file, written into the workspace once."""
    file = st.file_uploader(
        "A video, or the features of one",
        type=[suffix[1:] for suffix in (*VIDEO_SUFFIXES, *SUFFIXES)],
        key="detect_file",
        max_upload_size=MOST_MB,
        help="Features are one 2-D array, made by the same extractor as in training. Put bigger files into a "
        "dataset's video or feature folder.",
    )
    if file is None:
        return None
    known, path = st.session_state.get("detect_upload", ("", None))
    if known == file.file_id and path.exists():
        return path
    with notices.guard(stop=False):
        file.seek(0)
        path = take_in(loaders.home(), file.name, file.size, file)
        st.session_state["detect_upload"] = (file.file_id, path)
        return path
    return None


def from_folder() -> Path | None:
    """A file of a registered dataset's video or feature folders, annotated or not."""
    left, right = st.columns(2)
    data = pickers.pick_dataset(place=left)
    with notices.guard(stop=False):
        files = {**video_files(data.entry), **feature_files(data.entry)}
        if not files:
            st.info("This dataset has neither a video folder nor single feature files.")
            return None
        chosen = address.pick("File", list(files), "file", place=right)
        return files[chosen]
    return None


def show_facts(found: DetectionInput) -> None:
    """What the file holds, in a line."""
    if found.video:
        video = found.video
        length = readable.seconds_text(video.duration)
        st.caption(
            f"**{found.name}**: video, {length}, {video.width} × {video.height}, {video.fps:.4g} frames/s"
        )
    elif found.shape:
        st.caption(f"**{found.name}**: features, array of shape {found.shape[0]} × {found.shape[1]}")


def pick_run(found: DetectionInput) -> Run | None:
    """A run that fits the file; the others are named with the reason."""
    reasons = {run.run_id: (run, why_not(run, found)) for run in pickers.runs_of()}
    fitting = {name: run for name, (run, reason) in reasons.items() if not reason}
    if fitting:
        chosen = address.pick(
            "Run", list(fitting), "run", format_func=lambda name: pickers.run_title(fitting[name])
        )
    else:
        st.info("No run matches this file yet. Train one on a dataset whose features were made the same way.")
        navigation.link("train", "Train a model")
        chosen = None
    others = {name: reason for name, (_, reason) in reasons.items() if reason}
    if others:
        with st.expander(f"{len(others)} other runs don't match"):
            for name, reason in others.items():
                st.markdown(f"- **{name}** {reason}")
    return fitting.get(chosen)
