"""Timeline: ground truth and the detections of runs on one time axis, coloured by what became of each."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from pages.common import address, navigation, pickers, player
from pages.common.timeline_component import show_timeline
from pages.timeline import editing as timeline_edit
from pages.timeline import parts
from tal_core.data.dataset.dataset import Dataset
from tal_core.plots import timeline as plots

AUTOMATIC = "best F1"
THRESHOLDS = [0.0, 0.01, 0.02, *(k / 20 for k in range(1, 20)), 0.98, 0.99]


def pick_subset(data: Dataset) -> str | None:
    """The subset whose videos are listed: the link's video decides, else the one for evaluation."""
    asked = data.index.loc[data.index["video_id"] == st.query_params.get("video"), "subset"]
    if len(asked) and "subset" not in st.query_params:
        address.remember("subset", [asked.iloc[0] or pickers.EVERYTHING])
    return pickers.pick_subset(data, "Videos of subset", resets=("video", "at"))


def pick_score() -> float | None:
    """The score threshold; None for each run's own."""
    levels = {f"{t:g}": t for t in THRESHOLDS}
    for text in address.choice("score") or ():
        if text.replace(".", "", 1).isdecimal():
            levels[text] = float(text)
    chosen = address.pick(
        "Score at least",
        [AUTOMATIC, *sorted(levels, key=levels.__getitem__)],
        "score",
        kind="select_slider",
        help="Detections with a lower score are hidden. “best F1” takes, for each run, the threshold that "
        "gives the best F1 at this tIoU over all videos of the subset.",
    )
    return levels.get(chosen)


@dataclass(frozen=True)
class View:
    """What was chosen: the dataset, its videos, one of them, and what it is compared with."""

    data: Dataset
    videos: pd.DataFrame
    video: str
    truth: pd.DataFrame
    outcomes: list[plots.RunOutcomes]
    curves: list[dict]
    tiou: float
    classes: list[str]
    notes: list[str]


def choose() -> View:
    """All pickers."""
    first, second = st.columns([1, 2])
    data = pickers.pick_dataset(place=first)
    runs = pickers.pick_runs(data.name, place=second)
    parts.explain_runs(data.name, runs)
    columns = st.columns([2, 3, 3, 4])
    with columns[0]:
        subset = pick_subset(data)
    with columns[1]:
        tiou = pickers.pick_tiou()
    with columns[2]:
        score = pick_score()
    with columns[3]:
        classes = address.pick(
            "Classes", data.labels, "classes", kind="multiselect", placeholder="all classes"
        )
    outcomes, notes = parts.cut_runs(runs, data, subset, tiou, score)
    truth = data.ground_truth(subset)
    if truth.empty:
        st.info("This subset has no annotated segments, so every detection counts as background.")
    shown = {outcome.name for outcome in outcomes}
    videos = plots.most_wrong_first(data.videos(subset, usable=False), truth, outcomes, classes)
    video = parts.pick_video(videos, bool(outcomes))
    curves = parts.score_curves([run for run in runs if run.run_id in shown], data, video, classes)
    return View(data, videos, video, truth, outcomes, curves, tiou, classes, notes)


def show_video(view: View) -> str | None:
    """The player beside the list of videos, or the list alone; the player's key if there is one."""
    path = view.data.video_path(view.video)
    if path is None:
        with st.expander("All videos"):
            parts.show_videos(view.videos, view.video)
        return None
    left, right = st.columns([2, 3])
    with left:
        steered = player.show_player(path)
    with right:
        parts.show_videos(view.videos, view.video)
    return steered


def show_page() -> None:
    """Pickers, the player beside the video list, the timeline, the table."""
    navigation.header(
        "Timeline", "Every detection beside the ground truth: what is right, what is wrong, and how."
    )
    # In a container of its own whatever appears and goes above (a progress bar, a hint) moves nothing below:
    # a player that moves within the page would load its video again.
    with st.container():
        timeline_edit.show_saved()
        view = choose()
    data, video, truth, outcomes = view.data, view.video, view.truth, view.outcomes
    steered = show_video(view)
    editing = timeline_edit.start(data, video)
    if editing:
        truth, outcomes = editing.truth, timeline_edit.rematched(editing, outcomes, view.tiou)
    drawing = plots.payload(
        video,
        data.duration(video),
        data.labels,
        truth,
        outcomes,
        tiou=view.tiou,
        classes=view.classes,
        ambiguous=data.annotations.ambiguous,
        curves=view.curves,
    )
    show_timeline(
        {**drawing, "frame_seconds": player.frame_seconds(data, video)},
        player=steered,
        focus=parts.asked_stretch(),
        edit=editing.for_component() if editing else None,
        on_edit=editing.receive if editing else None,
    )
    if editing:
        timeline_edit.show(editing)
    if view.notes:
        st.caption("Shown: " + "; ".join(view.notes) + ".")
    parts.show_segments(plots.segment_table(video, truth, outcomes, view.classes), video)


show_page()
