"""The post-processing lab: what other NMS settings and class scores make of a run's stored candidates."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import streamlit as st

from pages.common import address, downloads, loaders, notices, readable, tables
from pages.common.cached_results import cached_by_identity, evaluated
from pages.evaluate import lab_controls as controls
from pages.evaluate import lab_results as actions
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.class_scores import ClassScores
from tal_core.evaluation.result import Evaluation
from tal_core.plots import evaluation as plots
from tal_core.plots import postprocessing_lab as lab_plots
from tal_core.postprocessing.candidates import suppression
from tal_core.postprocessing.fusion import Fusion
from tal_core.postprocessing.lab import Bench, Stored, open_candidates
from tal_core.postprocessing.nms import Suppression
from tal_core.runs.run import Run
from tal_core.training.postprocessed_run import provenance_of

_HASHES: dict[type, Callable[[Any], Any]] = {
    Stored: id,
    Bench: id,
    ClassScores: id,
    Suppression: asdict,
    Fusion: asdict,
}


@cached_by_identity("Reading candidates", 4)
def _stored(folder: str, changed: int, data: Dataset, subset: str | None) -> Stored:
    path = Path(folder) / "candidates.npz"
    return open_candidates(path, data.labels, data.videos(subset, usable=False), data.blocked)


@cached_by_identity("Preparing the lab", 6, _HASHES)
def _bench(
    stored: Stored,
    data: Dataset,
    subset: str | None,
    tiou: tuple[float, ...],
    protocol: str,
    fused: tuple[Fusion, ClassScores] | None,
) -> Bench:
    used = stored if fused is None else stored.fused(fused[1], fused[0])
    videos = len(set(data.videos(subset, usable=False)))
    truth = data.ground_truth(subset)
    return Bench(used.candidates, used.labels, truth, tiou, protocol=protocol, num_videos=videos)


@cached_by_identity(entries=64, hash_funcs=_HASHES)
def _answer(bench: Bench, settings: Suppression) -> Evaluation:
    return bench.evaluate(settings)


def _with_candidates(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.candidates_file.exists()]


@st.fragment
def show_lab(
    runs: list[Run], data: Dataset, subset: str | None, tiou: tuple[float, ...], protocol: str
) -> None:
    """The tab; a move of a control redraws only this."""
    able = _with_candidates(runs)
    if not able:
        st.info(
            "The lab needs a run that keeps its candidates (`candidates.npz`): every run trained here does, "
            "imported detections don't. Choose such a run above."
        )
        return
    names = {run.run_id: run for run in able}
    run = able[0]
    if len(able) > 1:
        run = names[address.pick("Run in the lab", list(names), "lab_run", resets=("lab",))]
    with notices.guard(stop=False):
        path = run.candidates_file
        stored = _stored(str(run.folder), path.stat().st_mtime_ns, data, subset)
        present = evaluated(data, loaders.load_detections(run), subset, tiou, protocol)
        for note in stored.notes:
            st.warning(note)
        _show_origin(run)
        left, right = st.columns([2, 4], gap="large")
        with left:
            config = controls.show_nms(run)
            fused = controls.show_class_scores(data, stored)
            st.button(
                "Reset to the run's own settings", on_click=actions.reset, args=(run,), icon=":material/undo:"
            )
        begin = time.perf_counter()
        bench = _bench(stored, data, subset, tiou, protocol, fused)
        changed = _answer(bench, suppression(config))
        with right:
            _show_answer(present, changed)
            seconds = time.perf_counter() - begin
            st.caption(
                f"**{run.run_id}**: {readable.number(changed.num_detections)} detections, as it is "
                f"{readable.number(present.num_detections)}. Recomputed and drawn in {seconds:.2f} s."
            )
        _show_changes(present, changed)
        actions.show_suggest(run, bench, suppression(config))
        actions.show_keep(run, data, stored, config, fused)


def _show_origin(run: Run) -> None:
    """Where a run that was kept from the lab comes from."""
    origin = provenance_of(run)
    if origin is not None:
        words = [f"{name} {old} → {new}" for name, (old, new) in origin.get("changed", {}).items()]
        words += ["class scores"] if origin.get("class_scores") else []
        st.caption(
            f"**{run.run_id}** was kept from **{origin.get('source')}**: {', '.join(words) or 'unchanged'}."
        )


def _show_answer(present: Evaluation, changed: Evaluation) -> None:
    """Curve and table, as it is beside the lab."""
    gain = 100 * (changed.average_mAP - present.average_mAP)
    words = f"{gain:+.2f} points against the run as it is" if abs(gain) >= 0.005 else None
    st.metric("Average mAP", readable.percent(changed.average_mAP, 2), words)
    both = {"as it is": present, "lab": changed}
    figure = plots.map_curves(both)
    downloads.chart(figure, "lab-mAP", key="lab_curves", alt="mAP against tIoU, as it is and in the lab")
    table = lab_plots.compare_table(present, changed)
    tables.show_figures(table, "lab-mAP", alt="mAP in percent, as it is and in the lab")


def _show_changes(present: Evaluation, changed: Evaluation) -> None:
    """What it means for each class."""
    changes = lab_plots.class_changes(present, changed)
    with st.expander("Change per class", expanded=bool((changes["change"].abs() > 0.005).any())):
        left, right = st.columns([3, 2])
        with left:
            figure = lab_plots.change_bars(changes)
            downloads.chart(figure, "lab-classes", key="lab_bars", alt="Change of AP of each class")
        with right:
            formats = dict.fromkeys(changes.columns[1:], "%.1f")
            tables.show_figures(changes, "lab-classes", alt="AP of each class in percent", **formats)
        st.caption("Average AP over the tIoU thresholds, in percent.")
