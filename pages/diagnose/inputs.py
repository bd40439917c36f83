"""Parts of the Diagnose page: the cached diagnosis, clickable figures, the segments behind a bar."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices, pickers, uploads
from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tal_core.evaluation.diagnosis.report import format_report, to_json
from tal_core.evaluation.outcomes import OUTCOMES
from tal_core.plots.timeline import best_f1

USUAL_SCORE = "best F1"
"""The Timeline's own choice of a score threshold."""


@cached_by_identity("Diagnosing")
def diagnosed(
    data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: tuple[float, ...], buckets: str
) -> Diagnosis:
    """The diagnosis on a subset (None: on all videos)."""
    return diagnose(
        data.ground_truth(subset),
        detections,
        tiou,
        durations=data.index.set_index("video_id")["duration"],
        buckets=buckets,
    )


@dataclass(frozen=True)
class View:
    """What the page looks at. ``run_id`` is None for a file's detections."""

    data: Dataset
    run_id: str | None
    detections: pd.DataFrame
    subset: str | None
    tiou: float
    buckets: str

    @property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis at the tIoU chosen. Raises InputError."""
        return self.at((self.tiou,))

    def at(self, tiou: Sequence[float]) -> Diagnosis:
        """The diagnosis averaged over thresholds. Raises InputError."""
        return diagnosed(self.data, self.detections, self.subset, tuple(tiou), self.buckets)

    def key(self, name: str) -> str:
        """A widget key that forgets the click when anything that the figure shows has changed."""
        shown = self.run_id or id(self.detections)
        return f"diagnose:{name}:{self.data.name}:{shown}:{self.subset}:{self.tiou}:{self.buckets}"

    def timeline(self, row: Any) -> dict[str, str]:
        """The address of the Timeline at a segment (a row of ``SEGMENT_COLUMNS``)."""
        query = {
            "dataset": self.data.name,
            "run": self.run_id or "",
            "video": row.video_id,
            "tiou": f"{self.tiou:g}",
            "at": f"{row.start:.3f}-{row.end:.3f}",
            "score": USUAL_SCORE,
        }
        if self.subset:
            query["subset"] = self.subset
        if row.outcome in OUTCOMES and 0 <= row.score < self.usual_score:
            # Rounded down, so that the segment itself is above the threshold.
            query["score"] = f"{math.floor(row.score * 1e4) / 1e4:.4f}"
        return query

    @cached_property
    def usual_score(self) -> float:
        """The score threshold at which the Timeline shows a run unless it is told otherwise."""
        inside = self.diagnosis.labelled["video_id"].isin(self.data.videos(self.subset, usable=False))
        return best_f1(self.diagnosis.labelled[inside], len(self.data.ground_truth(self.subset)))[0]


def pick_detections(data: Dataset, place: Any) -> tuple[str | None, pd.DataFrame | None]:
    """A run and its detections; those of an uploaded file instead, if there is one; or nothing."""
    runs = {run.run_id: run for run in pickers.runs_of(data.name, with_detections=True)}
    chosen = None
    if runs:
        chosen = address.pick(
            "Run",
            list(runs),
            "run",
            place=place,
            format_func=lambda run_id: pickers.run_title(runs[run_id]),
            help="Runs on this dataset that have detections.",
        )
    title = "Diagnose a detections file instead"
    file = uploads.detections_file(title, "diagnose_upload", expanded=not runs)
    if file is not None:
        with notices.guard(stop=False):
            table, notes = uploads.renamed(data, uploads.read_detections(file))
            words = " ".join(notes)
            st.caption(f"Shown is the file **{file.name}**; remove it to see the run again. {words}")
            return None, table
    if chosen is None:
        return None, None
    with notices.guard():
        return chosen, loaders.load_detections(runs[chosen])


def show_downloads(view: View) -> None:
    """The whole diagnosis as files."""
    name = f"{view.data.name}-{view.run_id or 'file'}-diagnosis"
    first, second, _ = st.columns([2, 2, 3])
    first.download_button(
        "Download the report as text",
        lambda: format_report(view.diagnosis, title=f"{view.data.name}, tIoU {view.tiou:g}"),
        f"{name}.txt",
        on_click="ignore",
    )
    second.download_button(
        "Download all as JSON",
        lambda: json.dumps(to_json(view.diagnosis), indent=2),
        f"{name}.json",
        on_click="ignore",
    )
