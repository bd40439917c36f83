"""Evaluate: mAP of runs, or of a detections file, on a dataset's ground truth, by tIoU and by class."""

import json

import streamlit as st

from pages.common import downloads, navigation, notices, pickers, published, readable
from pages.evaluate import frames_tab, lab, proposals_tab, segmentation_tab
from pages.evaluate import inputs as parts
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.average_precision import precision_recall
from tal_core.evaluation.result import Evaluation
from tal_core.plots import evaluation as plots
from tal_core.plots.comparison import with_published

VIEWS = (
    "mAP",
    "Classes",
    "Precision-recall",
    "Proposals",
    "Segmentation",
    "Frames",
    "Post-processing lab",
    "Counts and downloads",
)


def show_maps(
    evaluations: dict[str, Evaluation], data: Dataset, subset: str | None, methods: list[str]
) -> None:
    """mAP over tIoU as curves, with published results as reference lines, and as a table."""
    references = published.pick_references(data, subset, methods)
    tiou = next(iter(evaluations.values())).tiou
    figure = with_published(plots.map_curves(evaluations), references, tiou)
    downloads.chart(figure, f"{data.name}-mAP", key="map_curves", alt="mAP against the tIoU threshold")
    table = plots.map_table(evaluations)
    numbers = {c: st.column_config.NumberColumn(c, format="%.2f") for c in table.columns[1:]}
    st.dataframe(table, hide_index=True, column_config=numbers, alt="mAP in percent per tIoU")
    downloads.table(table, f"{data.name}-mAP")
    st.caption("mAP in percent: the mean over classes of the average precision at each tIoU.")


def show_classes(evaluations: dict[str, Evaluation], file: str) -> None:
    """AP per class as a heat map; all runs' as a table to save."""
    names = list(evaluations)
    name = st.selectbox("Run", names, key="evaluate_map_run") if len(names) > 1 else names[0]
    figure = plots.class_map(evaluations[name])
    downloads.chart(figure, f"{file}-AP", key="class_map", alt="AP per class and tIoU")
    downloads.table(plots.class_table(evaluations), f"{file}-AP", label="Save AP per class")


def show_precision_recall(found: dict, data: Dataset, subset: str | None, tiou: tuple, protocol: str) -> None:
    """Precision against recall of one class."""
    truth = data.ground_truth(subset)
    left, right = st.columns(2)
    label = left.selectbox("Class", sorted(truth["label"].unique()), key="evaluate_class")
    threshold = right.selectbox("tIoU", tiou, format_func="{:g}".format, key="evaluate_tiou")
    with notices.guard():
        curves = {
            name: precision_recall(
                truth,
                detections,
                [threshold],
                labels=[label],
                protocol=protocol,
            )
            for name, detections in found.items()
        }
    figure = plots.precision_recall_figure(curves)
    name = f"{data.name}-precision-recall"
    downloads.chart(figure, name, key="precision_recall", alt="Precision against recall")
    count = int((truth["label"] == label).sum())
    st.caption(f"{label}: {count} annotations. The strong line is interpolated; the area under it is the AP.")


def show_counts(evaluations: dict[str, Evaluation], name: str) -> None:
    """What counted, what was left out, and everything as files."""
    counts = plots.count_table(evaluations)
    st.dataframe(counts, hide_index=True, alt="Videos, annotations and detections counted or left out")
    st.caption(
        "Detections in videos outside the subset and detections without length count as false positives."
    )
    downloads.table(counts, f"{name}-counts")


def show_files(
    evaluations: dict[str, Evaluation], found: dict, runs: list, data: Dataset, settings: tuple
) -> None:
    """Numbers, detections and the report. ``settings``: subset, thresholds and protocol."""
    results = {run: result.to_json() for run, result in evaluations.items()}
    with st.container(horizontal=True):
        st.download_button(
            "Download all as JSON",
            lambda: json.dumps(results, indent=2),
            f"{data.name}-evaluation.json",
            on_click="ignore",
        )
        if 1 <= len(runs) <= 2:
            downloads.report(data, runs, *settings)
    if len(runs) > 2:
        st.caption("A report is of one run or of two: choose fewer.")
    downloads.detections(found, data.name)


def show_page() -> None:
    """Settings, then what they give."""
    navigation.header("Evaluate", "Mean average precision (mAP) by the benchmarks' protocols.")
    first, second = st.columns([1, 2])
    data = pickers.pick_dataset(place=first)
    runs = pickers.pick_runs(data.name, place=second)
    subset, tiou, protocol = parts.pick_settings(data)
    found = parts.gather(runs, data)
    if not found:
        st.info(f"Choose a run or a detections file to evaluate on **{data.name}**.")
        if not pickers.runs_of(data.name, with_detections=True):
            navigation.link("train", "Train a model", icon=":material/model_training:", dataset=data.name)
        return
    evaluations = {}
    with notices.guard(stop=False):
        methods = [run.config()["model"] for run in runs]
        evaluations = {n: parts.evaluated(data, d, subset, tiou, protocol)[0] for n, d in found.items()}
    if not evaluations:
        navigation.link_to_timeline(data.name, [run.run_id for run in runs], subset)
        downloads.detections(found, data.name)
        return
    where = f"subset **{subset}**" if subset else "**all subsets**"
    st.markdown(
        f"On {where} of **{data.name}**, {readable.tiou_text(tiou)}, {protocol} protocol. "
        "“Average” is the mean over these thresholds."
    )
    parts.show_oddities(found, data, subset)
    views = st.tabs(VIEWS)
    with views[0]:
        show_maps(evaluations, data, subset, methods)
    with views[1]:
        show_classes(evaluations, data.name)
    with views[2]:
        show_precision_recall(found, data, subset, tiou, protocol)
    with views[3]:
        proposals_tab.show(found, data, subset)
    with views[4]:
        segmentation_tab.show(found, data, subset)
    with views[5]:
        frames_tab.show(runs, data, subset)
    with views[6]:
        lab.show_lab(runs, data, subset, tiou, protocol)
    with views[7]:
        show_counts(evaluations, data.name)
        show_files(evaluations, found, runs, data, (subset, tiou, protocol))


show_page()
