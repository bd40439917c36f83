"""The workspace, its datasets and detections, opened once for all sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.common.notices import guard, progress
from tal_core import workspace
from tal_core.data.dataset import dataset as datasets
from tal_core.data.dataset.entry import load_entry
from tal_core.runs import run as training_runs

MOST_DATASETS = 8


"""Opened datasets kept in memory."""


def home() -> Path:
    return workspace.home()


def changed(*paths: Any) -> tuple[int, ...]:
    """When each file or folder last changed; 0 for what isn't there. Part of every cache key."""
    stamps = []
    for path in paths:
        try:
            stamps.append(Path(path).stat().st_mtime_ns)
        except (OSError, TypeError):
            stamps.append(0)
    return tuple(stamps)


@st.cache_resource(show_spinner=False)
def _opened() -> dict[tuple, datasets.Dataset]:
    """Opened datasets by what they were made from, latest last. A plain function with ``cache_resource``
    couldn't draw its progress: Streamlit would replay the bar at every hit."""
    return {}


def _dataset_key(name: str) -> tuple:
    entry = load_entry(home(), name)
    files = (entry.annotations, entry.video_info, entry.blocked, *entry.features)
    return (str(home()), entry.model_dump_json(), *changed(*files))


def load_dataset(name: str) -> datasets.Dataset:
    """The opened dataset, shared by all sessions: never change its tables.

    Read again when its registry entry, annotations or feature folders change. Raises InputError.
    """
    key, opened = _dataset_key(name), _opened()
    if key not in opened:
        with progress(f"Opening {name}") as report:
            opened[key] = datasets.open_dataset(home(), name, progress=report)
        for old in list(opened)[:-MOST_DATASETS]:
            opened.pop(old, None)
    return opened[key]


def check_again(name: str) -> None:
    """Read a dataset's files anew, every value included: sees changes in place. Raises InputError."""
    with progress(f"Checking {name}") as report:
        _opened()[_dataset_key(name)] = datasets.open_dataset(home(), name, report, scan_all=True)


@st.cache_resource(max_entries=8, show_spinner="Reading detections")
def _read_detections(_run: training_runs.Run, key: tuple) -> pd.DataFrame:
    return _run.detections()


def _detections_key(run: training_runs.Run) -> tuple:
    with guard(stop=False):
        entry = load_entry(home(), run.config()["dataset"])
        blocked = (str(entry.blocked), *changed(entry.blocked))
        return (str(run.folder), *changed(run.detections_file), *blocked)
    return (str(run.folder), *changed(run.detections_file))


def load_detections(run: training_runs.Run) -> pd.DataFrame:
    """The run's detections, shared by all sessions: never change the table. Raises InputError."""
    return _read_detections(run, _detections_key(run))
