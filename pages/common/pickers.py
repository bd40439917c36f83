"""Pickers of datasets and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.common.address import choice, forget, pick
from pages.common.loaders import home, load_dataset
from pages.common.notices import guard
from tal_core.data.dataset import dataset as datasets
from tal_core.data.dataset.entry import list_datasets
from tal_core.evaluation.average_precision import PROTOCOLS, parse_tiou
from tal_core.evaluation.result import thresholds_text
from tal_core.runs import run as training_runs
from tal_core.types import InputError

EVERYTHING = "all subsets"
PRESETS = {"0.3:0.7:0.1": "THUMOS14", "0.5:0.95:0.05": "ActivityNet", "0.1:0.5:0.1": "low", "0.5": "one"}
PROTOCOL_HELP = (
    "official: the ActivityNet challenge's script, every annotation counts. toolbox: as OpenTAD and "
    "ActionFormer, zero-length and repeated annotations are removed first."
)


def pick_dataset(place: Any = None) -> datasets.Dataset:
    """The dataset picker, and the dataset. Ends the page with a box when it can't be opened.

    A link that names only a run opens that run's dataset.
    """
    with guard():
        names = [entry.name for entry in list_datasets(home())]
        default = []
        if "dataset" not in st.query_params and st.query_params.get("run"):
            with guard(stop=False):
                run = training_runs.open_run(home(), st.query_params.get_all("run")[0])
                default = [run.config()["dataset"]]
                forget("dataset")
        name = pick(
            "Dataset",
            names,
            "dataset",
            default=default,
            resets=("run", "video", "at", "subset", "classes", "thresholds"),
            place=place,
            help="Every dataset of this workspace.",
        )
        return load_dataset(name)


def pick_subset(
    data: datasets.Dataset,
    label: str = "Subset",
    *,
    default: str | None = None,
    resets: Sequence[str] = (),
    place: Any = None,
) -> str | None:
    """A subset of the dataset, the one for evaluation unless ``default`` says another; None for all."""
    names = [name for name in dict.fromkeys(data.index["subset"]) if name]
    usual = [default or data.evaluation_subset]
    chosen = pick(label, [*names, EVERYTHING], "subset", default=usual, resets=resets, place=place)
    return None if chosen == EVERYTHING else chosen


def pick_tiou(place: Any = None) -> float:
    """The tIoU at which detections and annotations match."""
    chosen = pick(
        "tIoU",
        [f"{k / 20:g}" for k in range(2, 20)],
        "tiou",
        kind="select_slider",
        default=["0.5"],
        place=place,
        help="A detection is right if it overlaps an annotation of its class with at least this tIoU.",
    )
    return float(chosen)


def pick_settings(data: datasets.Dataset) -> tuple[str | None, tuple[float, ...], str]:
    """How to evaluate: subset (None: all), tIoU thresholds and protocol."""
    first, second, third = st.columns(3)
    subset = pick_subset(data, place=first)
    usual = thresholds_text(data.tiou)
    text = pick(
        "tIoU thresholds",
        list(dict.fromkeys([usual, *PRESETS, *(choice("thresholds") or ())])),
        "thresholds",
        default=[usual],
        place=second,
        format_func=lambda t: f"{t}  ({PRESETS[t]})" if t in PRESETS else t,
        accept_new_options=True,
        help="first:last:step, or single ones such as 0.5 or 0.5,0.75. Type your own and press Enter.",
    )
    protocol = pick("Protocol", PROTOCOLS, "protocol", place=third, help=PROTOCOL_HELP)
    with guard():
        return subset, tuple(parse_tiou(text)), protocol


def run_title(run: training_runs.Run) -> str:
    """``run_id · method · state``: how a run is named in every picker."""
    with guard(stop=False):
        return f"{run.run_id} · {run.config()['model']} · {run.status()['state']}"
    return run.run_id


def runs_of(dataset: str | None = None, *, with_detections: bool = False) -> list[training_runs.Run]:
    """Runs, newest first; of one dataset, or only those that have detections to look at."""
    found = []
    for run in training_runs.list_runs(home()):
        try:
            if dataset is not None and run.config()["dataset"] != dataset:
                continue
        except InputError:
            continue
        if not with_detections or run.detections_file.exists():
            found.append(run)
    return found


def pick_runs(dataset: str, *, place: Any = None, label: str = "Runs") -> list[training_runs.Run]:
    """A multiselect of the dataset's runs that have detections; the newest at first."""
    runs = {run.run_id: run for run in runs_of(dataset, with_detections=True)}
    chosen = pick(
        label,
        list(runs),
        "run",
        default=list(runs)[:1],
        kind="multiselect",
        place=place,
        format_func=lambda run_id: run_title(runs[run_id]),
        help="Runs trained on this dataset that have detections.",
    )
    return [runs[run_id] for run_id in chosen]
