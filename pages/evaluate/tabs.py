"""The tabs of the Evaluate page. A new one is a function that shows what it is given, and a line in TABS."""

import json
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import streamlit as st

from pages.common import downloads, notices, published, tables
from pages.evaluate import frames_tab, lab, proposals_tab, segmentation_tab
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.average_precision import precision_recall
from tal_core.evaluation.result import Evaluation
from tal_core.plots import evaluation as plots
from tal_core.plots.comparison import with_published
from tal_core.runs.run import Run


class Shown(NamedTuple):
    """What the page is asked to show; detections and evaluations by run or file."""

    data: Dataset
    runs: list[Run]
    detections: dict[str, pd.DataFrame]
    evaluations: dict[str, Evaluation]
    subset: str | None
    tiou: tuple[float, ...]
    protocol: str


def show_maps(shown: Shown) -> None:
    """mAP over tIoU as curves, with published results as reference lines, and as a table."""
    data, evaluations = shown.data, shown.evaluations
    methods: list[str] = []
    with notices.guard(stop=False):
        methods = [run.config()["model"] for run in shown.runs]
    references = published.pick_references(data, shown.subset, methods)
    tiou = next(iter(evaluations.values())).tiou
    figure = with_published(plots.map_curves(evaluations), references, tiou)
    downloads.chart(figure, f"{data.name}-mAP", key="map_curves", alt="mAP against the tIoU threshold")
    table = plots.map_table(evaluations)
    tables.show_figures(table, f"{data.name}-mAP", alt="mAP in percent per tIoU")
    st.caption("mAP in percent: the mean over classes of the average precision at each tIoU.")


def show_classes(shown: Shown) -> None:
    """AP per class as a heat map; all runs' as a table to save."""
    evaluations, file = shown.evaluations, shown.data.name
    names = list(evaluations)
    name = st.selectbox("Run", names, key="evaluate_map_run") if len(names) > 1 else names[0]
    figure = plots.class_map(evaluations[name])
    downloads.chart(figure, f"{file}-AP", key="class_map", alt="AP per class and tIoU")
    downloads.table(plots.class_table(evaluations), f"{file}-AP", label="Save AP per class")


def show_precision_recall(shown: Shown) -> None:
    """Precision against recall of one class."""
    truth = shown.data.ground_truth(shown.subset)
    left, right = st.columns(2)
    label = left.selectbox("Class", sorted(truth["label"].unique()), key="evaluate_class")
    threshold = right.selectbox("tIoU", shown.tiou, format_func="{:g}".format, key="evaluate_tiou")
    with notices.guard():
        curves = {
            name: precision_recall(truth, detections, [threshold], labels=[label], protocol=shown.protocol)
            for name, detections in shown.detections.items()
        }
    figure = plots.precision_recall_figure(curves)
    name = f"{shown.data.name}-precision-recall"
    downloads.chart(figure, name, key="precision_recall", alt="Precision against recall")
    count = int((truth["label"] == label).sum())
    st.caption(f"{label}: {count} annotations. The strong line is interpolated; the area under it is the AP.")


def show_counts(shown: Shown) -> None:
    """What counted, what was left out, and everything as files."""
    counts = plots.count_table(shown.evaluations)
    tables.show(counts, alt="Videos, annotations and detections counted or left out")
    st.caption(
        "Detections in videos outside the subset and detections without length count as false positives."
    )
    downloads.table(counts, f"{shown.data.name}-counts")
    show_files(shown)


def show_files(shown: Shown) -> None:
    """Numbers, detections and the report."""
    data, runs = shown.data, shown.runs
    results = {run: result.to_json() for run, result in shown.evaluations.items()}
    with st.container(horizontal=True):
        st.download_button(
            "Download all as JSON",
            lambda: json.dumps(results, indent=2),
            f"{data.name}-evaluation.json",
            on_click="ignore",
        )
        if 1 <= len(runs) <= 2:
            downloads.report(data, runs, shown.subset, shown.tiou, shown.protocol)
    if len(runs) > 2:
        st.caption("A report covers one or two runs: choose fewer.")
    downloads.detections(shown.detections, data.name)


def show_measure(shown: Shown, measure: Callable[[pd.DataFrame, pd.DataFrame], dict[str, float]]) -> None:
    """A table of numbers that a function makes of ground truth and the detections of each run."""
    truth = shown.data.ground_truth(shown.subset)
    rows = [{"run": name, **measure(truth, table)} for name, table in shown.detections.items()]
    table = pd.DataFrame(rows)
    file = f"{shown.data.name}-{measure.__name__}"
    tables.show_figures(
        table, file, alt=f"{measure.__name__} of each run", **dict.fromkeys(table.columns[1:], "%g")
    )


TABS: dict[str, Callable[[Shown], None]] = {
    "mAP": show_maps,
    "Classes": show_classes,
    "Precision-recall": show_precision_recall,
    "Proposals": lambda shown: proposals_tab.show(shown.detections, shown.data, shown.subset),
    "Segmentation": lambda shown: segmentation_tab.show(shown.detections, shown.data, shown.subset),
    "Frames": lambda shown: frames_tab.show(shown.runs, shown.data, shown.subset),
    "Post-processing lab": lambda shown: lab.show_lab(
        shown.runs, shown.data, shown.subset, shown.tiou, shown.protocol
    ),
    "Counts and downloads": show_counts,
}
