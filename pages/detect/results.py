"""Detect's second half: follow a detection, then see it on the timeline and take it home."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from pages.common import address, downloads, job_progress, loaders, notices, tables
from pages.common.cached_results import matched
from pages.common.player import show_player
from pages.common.timeline_component import show_timeline
from tal_core.inference import detection_job
from tal_core.plots import timeline as plots
from tal_core.plots.colors import class_colors
from tal_core.runs.run import Run
from tal_core.types import InputError

KEY = "detection"
USUAL_THRESHOLD = 0.3


def show() -> None:
    """The chosen detection of those that are kept, newest first."""
    jobs = {job.name: job for job in detection_job.list_detections(loaders.home())}
    if not jobs:
        return
    place, side = st.columns([5, 1], vertical_alignment="bottom")
    chosen = address.pick("Results", list(jobs), KEY, place=place, format_func=lambda key: title(jobs[key]))
    detection = jobs[chosen]
    if side.button(
        "Remove", icon=":material/delete:", width="stretch", help="Deletes it and its uploaded file."
    ):
        detection_job.remove(detection)
        address.forget(KEY)
        st.rerun()
    with notices.guard(stop=False):
        if detection.active:
            st.fragment(follow, run_every=1)(detection)
        else:
            show_end(detection)


def title(detection: detection_job.DetectionJob) -> str:
    """The file, the run and when."""
    try:
        request = detection.request()
        when = datetime.fromtimestamp(request["created"])
        return f"{request['name']} · {Path(request['run']).name} · {when:%d %b %H:%M}"
    except InputError:
        return detection.name


def follow(detection: detection_job.DetectionJob) -> None:
    """Redrawn every second while the work goes on."""
    with notices.guard(stop=False):
        status = detection.status()
        if status["state"] not in detection_job.ACTIVE:
            st.rerun()
        job_progress.show_progress(status)
        job_progress.show_cancel(detection, status)


def show_end(detection: detection_job.DetectionJob) -> None:
    """The result, or why there is none."""
    status = detection.status()
    if status["state"] != "finished":
        job_progress.show_progress(status)
        job_progress.show_failure(status, detection.log_tail())
        return
    request, table = detection.request(), detection.table()
    if status.get("damage"):
        st.warning(f"The video is damaged: {status['damage']}. What could be read was used.")
    shown, score = choose(detection, request, table, status["labels"])
    curves = score_curves(detection, request, status["labels"])
    found = plots.RunOutcomes(Path(request["run"]).name, shown, score)
    drawing = plots.payload(
        request["name"], status["duration"], status["labels"], None, [found], curves=curves
    )
    source, player = Path(request["source"]), None
    if request["kind"] == "video":
        left, right = st.columns([2, 3])
        with left:
            player = show_player(source)
        with right:
            show_table(shown)
    show_timeline(drawing, player=player, key=f"detected:{detection.name}")
    if request["kind"] != "video":
        show_table(shown)
    with st.container(horizontal=True):
        downloads.table(shown, f"{request['name']}-detections")
        downloads.shown_detections({Path(request["run"]).name: shown}, request["name"])
    if request["kind"] == "video":
        show_burn_in(detection, shown, class_colors(status["labels"]))


def choose(
    detection: detection_job.DetectionJob, request: dict, table: pd.DataFrame, labels: list[str]
) -> tuple[pd.DataFrame, float]:
    """The detections above a threshold and of the chosen classes, and the threshold."""
    usual, note = usual_threshold(Run(Path(request["run"])))
    left, right = st.columns(2)
    with left:
        score = st.slider("Score at least", 0.0, 1.0, usual, 0.01, key=f"score:{detection.name}", help=note)
    with right:
        classes = st.multiselect("Classes", labels, placeholder="all classes")
    shown = plots.of_classes(table[table["score"] >= score], classes)
    st.caption(f"{len(shown)} of {len(table)} detections are shown, {note}.")
    return shown.sort_values(["start", "end"], kind="stable", ignore_index=True), score


def usual_threshold(run: Run) -> tuple[float, str]:
    """The score with the best F1 on what the run was evaluated on, rounded; and a note on it."""
    try:
        data = loaders.load_dataset(run.config()["dataset"])
        subset = data.evaluation_subset
        truth, labelled = matched(data, loaders.load_detections(run), subset, 0.5)
        if len(labelled) and len(truth):
            threshold = min(1.0, max(0.0, int(100 * plots.best_f1(labelled, len(truth))[0]) / 100))
            return (
                threshold,
                f"the threshold starts at the run's best F1 (tIoU 0.5, subset “{subset}”): {threshold:g}",
            )
    except InputError:
        pass  # its dataset or detections are gone: the run still detects
    return USUAL_THRESHOLD, f"the threshold starts at {USUAL_THRESHOLD:g}"


def score_curves(detection: detection_job.DetectionJob, request: dict, labels: list[str]) -> list[dict]:
    """Class scores per snippet, where the method has them."""
    kept = detection.scores()
    if kept is None:
        return []
    return [plots.score_curve(Path(request["run"]).name, *kept, [], class_colors(labels))]


def show_table(shown: pd.DataFrame) -> None:
    """The shown detections."""
    tables.show(
        shown.drop(columns="video_id"),
        height=300,
        column_config=tables.SEGMENT_COLUMNS,
        placeholder="",
        alt="Detections above the threshold by start time",
    )


def show_burn_in(detection: detection_job.DetectionJob, shown: pd.DataFrame, colors: dict) -> None:
    """Make, follow and download a video with the shown detections drawn under the picture."""
    drawing, state = detection.burn_in, ""
    if drawing.folder.is_dir():
        with notices.guard(stop=False):
            state = drawing.status()["state"]
    if state in drawing.active_states:
        st.fragment(follow_burn_in, run_every=1)(drawing)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        label = "Burn in again" if drawing.video_file.exists() else "Burn in"
        note = (
            "Makes an MP4 with a bar under the picture: the actions of the moment and a strip of all of them."
        )
        if st.button(label, icon=":material/movie_edit:", help=note):
            with notices.guard(stop=False):
                detection_job.burn(loaders.home(), detection, shown, colors)
                st.rerun()
        if state == "finished" and drawing.video_file.exists():
            name = f"{detection.request()['name']}-detections.mp4"
            st.download_button(
                f"Download the video ({drawing.video_file.stat().st_size / 2**20:.1f} MB)",
                drawing.video_file.read_bytes,
                name,
                "video/mp4",
                icon=downloads.ICON,
                on_click="ignore",
            )
            st.caption(drawing.status().get("message", ""))
    if state in ("failed", "killed"):
        job_progress.show_failure(drawing.status(), drawing.log_tail())


def follow_burn_in(drawing: detection_job.BurnIn) -> None:
    """Redrawn every second while the video is made."""
    with notices.guard(stop=False):
        status = drawing.status()
        if status["state"] not in drawing.active_states:
            st.rerun()
        job_progress.show_progress(status, "Burning in")
        job_progress.show_cancel(drawing, status, key="stop_burning")
