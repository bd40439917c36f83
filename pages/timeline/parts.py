"""Parts of the Timeline page: runs cut at a score, the video list, score curves, texts."""

import re

import pandas as pd
import streamlit as st

from pages.common import address, downloads, loaders, navigation, notices, pickers, tables
from pages.common.cached_results import matched
from tal_core.data.dataset.dataset import Dataset
from tal_core.plots import timeline as plots
from tal_core.plots.colors import class_colors
from tal_core.postprocessing.candidates import load_snippet_scores
from tal_core.runs.run import Run
from tal_core.types import InputError


def cut_runs(
    runs: list[Run], data: Dataset, subset: str | None, tiou: float, score: float | None
) -> tuple[list[plots.RunOutcomes], list[str]]:
    """Runs with their outcomes, and a sentence for each on its threshold; deleted ones get a box.

    A run that never looked at this subset has missed nothing in it: it is named and left out.
    """
    outcomes, notes = [], []
    for run in runs:
        with notices.guard(stop=False):
            truth, labelled = matched(data, loaders.load_detections(run), subset, tiou)
            if labelled.empty:
                notes.append(
                    f"**{run.run_id}** has no detections in videos of this subset, so it is left out"
                )
                continue
            threshold, f1 = plots.best_f1(labelled, len(truth)) if score is None else (score, None)
            outcomes.append(plots.RunOutcomes(run.run_id, labelled, threshold))
            best = f" (best F1, {f1:.2f}, over the subset at tIoU {tiou:g})" if f1 is not None else ""
            notes.append(f"**{run.run_id}**: score ≥ {threshold:.3g}{best}")
    return outcomes, notes


def go_to(video: str) -> None:
    """Choose another video, whole: the stretch that a link asked for is of the one before."""
    address.remember("video", [video])
    address.forget("at")


def asked_stretch() -> tuple[float, float] | None:
    """Start and end in seconds of the stretch that a link asks for (``at=12.5-14.25``), if any."""
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)", "".join(address.choice("at") or ()))
    return (float(found[1]), float(found[2])) if found else None


def pick_video(table: pd.DataFrame, any_run: bool) -> str:
    """The video picker, sorted, with steps to the neighbours."""
    videos = table["video_id"].tolist()
    titles = {row.video_id: f"{row.video_id} · {row.instances} annotated" for row in table.itertuples()}
    if any_run:
        for row in table.itertuples():
            titles[row.video_id] += f" · {row.errors} errors, {row.missed} of them missed"
    place, back, forth = st.columns([6, 1, 1], vertical_alignment="bottom")
    order = "most wrong first" if any_run else "most segments first"
    title = f"Video ({order})"
    video = address.pick(title, videos, "video", resets=("at",), place=place, format_func=titles.get)
    position = videos.index(video)
    for column, text, step in ((back, "Previous", -1), (forth, "Next", 1)):
        inside = 0 <= position + step < len(videos)
        column.button(
            text,
            disabled=not inside,
            width="stretch",
            on_click=go_to,
            args=(videos[position + step] if inside else video,),
        )
    return video


def show_videos(table: pd.DataFrame, video: str) -> None:
    """Errors of every video; choosing a row opens it."""
    videos, key = table["video_id"].tolist(), "timeline_videos"
    st.session_state[key] = {"selection": {"rows": [videos.index(video)], "columns": [], "cells": []}}

    def choose() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            go_to(videos[rows[0]])

    names = {outcome: plots.outcome_name(outcome) for outcome in table.columns[3:]}
    st.dataframe(
        table.rename(columns=names) if names else table.drop(columns="errors"),
        hide_index=True,
        key=key,
        on_select=choose,
        selection_mode="single-row",
        height=300,
        alt="Videos, most wrong first, with the number of detections per outcome",
    )


def score_curves(runs: list[Run], data: Dataset, video: str, classes: list[str]) -> list[dict]:
    """Score curves of the runs that keep them; a line says whose can't be read."""
    curves = []
    for run in runs:
        if not run.snippet_scores_file.exists():
            continue  # imported detections have none
        try:
            scores, grid, names = load_snippet_scores(run.snippet_scores_file, video)
            curves.append(
                plots.score_curve(run.run_id, scores, grid, names, classes, class_colors(data.labels))
            )
        except InputError as error:
            st.caption(f"No score curve of {run.run_id}: {error}")
    return curves


def explain_runs(dataset: str, chosen: list[Run]) -> None:
    """Why there is no run to choose, and what to do about it."""
    if chosen:
        return
    runs = pickers.runs_of(dataset)
    if any(run.detections_file.exists() for run in runs):
        return
    if runs:
        with notices.guard(stop=False):
            state = runs[0].status()["state"]
            st.info(
                f"No run of **{dataset}** has detections yet: the newest, **{runs[0].run_id}**, is {state}. "
                "Detections are made when training ends; until then you see only the ground truth."
            )
        navigation.link("train", "See how the run is doing", run=runs[0].run_id)
    else:
        st.info(f"There are no runs on **{dataset}** yet, so you see only the ground truth.")
        navigation.link("train", "Train a first model", dataset=dataset)


def show_segments(table: pd.DataFrame, video: str) -> None:
    """The video's segments as a table; the table, and each run's detections in it, as files."""
    tables.show(
        table,
        height=tables.height(len(table)),
        placeholder="",
        alt="Segments of the video: ground truth and detections with their outcomes",
        column_config={**tables.SEGMENT_COLUMNS, "row": "in", "annotation": "with annotation of"},
    )
    rows = table[table["row"] != plots.TRUTH].assign(video_id=video)
    with st.container(horizontal=True):
        downloads.table(table, f"{video}-timeline")
        downloads.shown_detections(
            {str(name): table for name, table in rows.groupby("row", sort=False)}, video
        )
