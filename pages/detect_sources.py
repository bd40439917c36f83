"""Detect's first half: which file, and which run fits it."""

from pathlib import Path

import streamlit as st

from pages import shared
from tal_core.data.arrays import SUFFIXES
from tal_core.data.folders import feature_files, video_files
from tal_core.data.names import VIDEO_SUFFIXES
from tal_core.inference.sources import MOST_MB, Found, inspect, take_in, why_not
from tal_core.training.run import Run

UPLOAD, FOLDER = "Upload a file", "From a dataset's folders"


def pick_source() -> Found | None:
    """The chosen file, looked at; None as long as there is none that can be used."""
    way = shared.pick(
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
    with shared.guard(stop=False):
        return inspect(path)
    return None


def uploaded() -> Path | None:
    """An uploaded file, written into the workspace once."""
    file = st.file_uploader(
        "A video, or the features of one",
        type=[suffix[1:] for suffix in (*VIDEO_SUFFIXES, *SUFFIXES)],
        key="detect_file",
        max_upload_size=MOST_MB,
        help="Features are one 2-D array of the same extractor as in training. Bigger files: put them into a "
        "dataset's video or feature folder.",
    )
    if file is None:
        return None
    known, path = st.session_state.get("detect_upload", ("", None))
    if known == file.file_id and path.exists():
        return path
    with shared.guard(stop=False):
        file.seek(0)
        path = take_in(shared.home(), file.name, file.size, file)
        st.session_state["detect_upload"] = (file.file_id, path)
        return path
    return None


def from_folder() -> Path | None:
    """A file of a registered dataset's video or feature folders, annotated or not."""
    left, right = st.columns(2)
    data = shared.pick_dataset(place=left)
    with shared.guard(stop=False):
        files = {**video_files(data.entry), **feature_files(data.entry)}
        if not files:
            st.info("This dataset has neither a video folder nor single feature files.")
            return None
        chosen = shared.pick("File", list(files), "file", place=right)
        return files[chosen]
    return None


def show_facts(found: Found) -> None:
    """What the file holds, in a line."""
    if found.video:
        video = found.video
        length = shared.seconds_text(video.duration)
        st.caption(
            f"**{found.name}**: video, {length}, {video.width} × {video.height}, {video.fps:.4g} frames/s"
        )
    else:
        st.caption(f"**{found.name}**: features, array of shape {found.shape[0]} × {found.shape[1]}")


def pick_run(found: Found) -> Run | None:
    """A run that fits the file; the others are named with the reason."""
    reasons = {run.run_id: (run, why_not(run, found)) for run in shared.runs_of()}
    fitting = {name: run for name, (run, reason) in reasons.items() if not reason}
    if fitting:
        chosen = shared.pick(
            "Run", list(fitting), "run", format_func=lambda name: shared.run_title(fitting[name])
        )
    else:
        st.info("No run fits this file yet. Train one on a dataset whose features are made the same way.")
        shared.link("train", "Train a model", icon=":material/model_training:")
        chosen = None
    others = {name: reason for name, (_, reason) in reasons.items() if reason}
    if others:
        with st.expander(f"{len(others)} other runs don't fit"):
            for name, reason in others.items():
                st.markdown(f"- **{name}** {reason}")
    return fitting.get(chosen)
