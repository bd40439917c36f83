"""What leaves the app as files: tables, figures, detections, reports; each made when it is clicked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.detections import detections_json
from tal_core.data.formats.subtitles import to_srt, to_vtt
from tal_core.plots import save
from tal_core.report import make_report
from tal_core.runs.run import Run
from tal_core.streaming.live.folder import StreamFolder
from tal_core.types import DETECTION_COLUMNS

IMAGE = "figure_image"
"""What the camera of all figures saves, in the session: svg or png."""
ICON = ":material/download:"


def table(frame: pd.DataFrame, name: str, *, label: str = "Save table") -> None:
    """A small menu under a table: CSV with all digits, LaTeX rounded as shown. ``name``: of the files."""
    with _menu(label, f"table:{name}"):
        file = save.file_name(name)
        _button("CSV", lambda: save.to_csv(frame), f"{file}.csv", "text/csv")
        _button("LaTeX (booktabs)", lambda: save.to_latex(frame, name), f"{file}.tex", "text/x-tex")


def camera(name: str) -> dict:
    """The ``config`` of ``st.plotly_chart`` for a figure that `figure` saves under the same name."""
    return save.camera(name, st.session_state.get(IMAGE, "svg"))


def figure(drawn: go.Figure, name: str) -> None:
    """A small menu under a figure: HTML by a click; SVG and PNG by the camera, which the browser draws."""
    with _menu("Save figure", f"figure:{name}"):
        file = f"{save.file_name(name)}.html"
        _button("HTML, to zoom and hover", lambda: save.figure_page(drawn, name), file, "text/html")
        key = f"{IMAGE}:{name}"
        st.session_state[key] = st.session_state.get(IMAGE, "svg")

        def choose() -> None:
            st.session_state[IMAGE] = st.session_state[key]

        st.segmented_control(
            "The camera :material/photo_camera: at the figure's top right saves",
            ["svg", "png"],
            key=key,
            format_func=str.upper,
            required=True,
            on_change=choose,
        )


def chart(drawn: go.Figure, name: str, **options: Any) -> Any:
    """``st.plotly_chart`` with its menu under it; returns what that returns."""
    event = st.plotly_chart(drawn, config=camera(name), **options)
    figure(drawn, name)
    return event


def detections(found: Mapping[str, pd.DataFrame], name: str) -> None:
    """A menu per run of all its detections: ActivityNet JSON, CSV."""
    with st.container(horizontal=True):
        for run, rows in found.items():
            file = f"{name}-{save.file_name(run)}-detections"
            with _menu(f"Detections of {run}", f"detections:{file}"):
                _button("ActivityNet JSON", _json(rows), f"{file}.json", "application/json")
                _button("CSV", _csv(rows), f"{file}.csv", "text/csv")


def shown_detections(found: Mapping[str, pd.DataFrame], video: str) -> None:
    """A menu per run of its detections in one video: subtitles for any player, ActivityNet JSON, CSV."""
    for run, rows in found.items():
        file = save.file_name(f"{video}-{run}")
        with _menu(f"Detections of {run}", f"shown:{file}"):
            _button("Subtitles, WebVTT", _text(to_vtt, rows), f"{file}.vtt", "text/vtt")
            _button("Subtitles, SRT", _text(to_srt, rows), f"{file}.srt", "application/x-subrip")
            _button("ActivityNet JSON", _json(rows), f"{file}.json", "application/json")
            _button("CSV", _csv(rows), f"{file}.csv", "text/csv")


def stream_events(stream: StreamFolder, segments: Callable[[], pd.DataFrame]) -> None:
    """A menu of a stream's events as they were told, and of its closed segments."""
    file = save.file_name(stream.name)
    with _menu("Events", f"stream:{file}"):
        _button("JSONL, as they were told", lambda: _lines(stream), f"{file}.jsonl", "application/jsonl")
        _button("Segments, CSV", lambda: save.to_csv(segments()), f"{file}.csv", "text/csv")
        _button("Segments, WebVTT subtitles", lambda: to_vtt(segments()), f"{file}.vtt", "text/vtt")


def report(data: Dataset, runs: list[Run], subset: str | None, tiou: tuple, protocol: str) -> None:
    """The report of one run or of two as a page."""
    names = "-".join(run.run_id for run in runs)
    _button(
        "Report",
        lambda: make_report(data, runs, subset=subset, tiou=tiou, protocol=protocol),
        f"{names}-report.html",
        "text/html",
        help="One HTML page with settings, tables and figures, to read, print or send. It needs no network.",
        icon=":material/summarize:",
    )


def _lines(stream: StreamFolder) -> str:
    return "".join(json.dumps(record) + "\n" for record in stream.records(sys.maxsize))


def _json(rows: pd.DataFrame) -> Callable[[], str]:
    return lambda: detections_json(rows)


def _csv(rows: pd.DataFrame) -> Callable[[], str]:
    return lambda: save.to_csv(rows[list(DETECTION_COLUMNS)])


def _text(write: Callable[[pd.DataFrame], str], rows: pd.DataFrame) -> Callable[[], str]:
    return lambda: write(rows)


def _menu(label: str, key: str) -> Any:
    return st.popover(label, icon=ICON, type="tertiary", key=f"save:{key}")


def _button(label: str, make: Callable[[], str], file: str, mime: str, **options: Any) -> None:
    st.download_button(label, make, file, mime, key=f"file:{file}", on_click="ignore", **options)
