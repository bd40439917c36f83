"""The report: one HTML page on a run, or on two runs against each other, that needs nothing but a browser.

Settings, mAP by tIoU and class, what was counted, recall of proposals, labelled frames, the diagnosis,
training curves and cost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go
from markupsafe import escape

from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation import comparison
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.diagnosis import advice as diagnosis_advice
from tal_core.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tal_core.evaluation.outcomes import label_detections
from tal_core.evaluation.proposal_recall import proposal_recall, without_repeats
from tal_core.evaluation.result import Evaluation, thresholds_text
from tal_core.evaluation.segmentation import compare_subset, usual_step
from tal_core.plots import comparison as two
from tal_core.plots import diagnosis as errors
from tal_core.plots import evaluation as plots
from tal_core.plots import proposals as recalls
from tal_core.plots.save import html_figure, html_table, page
from tal_core.plots.timeline import best_f1
from tal_core.runs.run import Run
from tal_core.schema import to_text
from tal_core.training.run_table import run_table, setting_differences
from tal_core.types import InputError, Progress

WIDTH = 720
"""Of figures in pixels: as wide as an A4 page prints."""
DIAGNOSED_AT = 0.5
"""tIoU of the diagnosis, as DETAD's figures are usually drawn."""
_PROTOCOLS = {
    "official": "the official protocol (ActivityNet's script)",
    "toolbox": "the toolbox protocol (ActionFormer's and OpenTAD's)",
}
_SUMMARY = {
    "run": "run",
    "method": "method",
    "average_mAP": "average mAP as it ended (%)",
    "parameters": "parameters",
    "gflops_per_minute": "GFLOPs per minute of video",
    "training_seconds": "training (s)",
    "times_real_time": "× real time",
    "device": "speed on",
    "created": "started (UTC)",
}


@dataclass
class _Page:
    """HTML parts as they are added."""

    parts: list[str] = field(default_factory=list)
    figures: int = 0

    def add(self, tag: str, text: str, quiet: bool = False) -> None:
        kind = ' class="quiet"' if quiet else ""
        self.parts.append(f"<{tag}{kind}>{escape(text)}</{tag}>\n")

    def table(self, table: pd.DataFrame) -> None:
        self.parts.append(html_table(table))

    def figure(self, figure: go.Figure, name: str) -> None:
        self.figures += 1
        self.parts.append(html_figure(figure, name, f"figure-{self.figures}", WIDTH))


@dataclass(frozen=True)
class _Material:
    """What the sections draw from."""

    data: Dataset
    runs: Sequence[Run]
    subset: str | None
    tiou: list[float]
    protocol: str
    detections: dict[str, pd.DataFrame]
    evaluations: dict[str, Evaluation]


def dataset_of(runs: Sequence[Run]) -> str:
    """The dataset of one run or of two.

    Raises:
        InputError: for another number of runs, a run given twice, and runs of two datasets.
    """
    names = [run.run_id for run in runs]
    if not 1 <= len(names) <= 2:
        raise InputError(f"a report is of one run or of two, not of {len(names)}", hint="Choose fewer.")
    if len(set(names)) < len(names):
        raise InputError(f"the run {names[0]!r} is given twice", hint="Name another one to compare it with.")
    datasets = [run.config()["dataset"] for run in runs]
    if len(set(datasets)) > 1:
        pairs = " and ".join(f"{run} is of {data}" for run, data in zip(names, datasets, strict=True))
        raise InputError(
            "the runs are of two datasets", where=pairs, hint="Report on each alone, or on two of one."
        )
    return datasets[0]


def make_report(
    data: Dataset,
    runs: Sequence[Run],
    *,
    subset: str | None,
    tiou: Sequence[float] | None = None,
    protocol: str = "official",
    progress: Progress | None = None,
) -> str:
    """The report of one run or of two as a self-contained HTML page.

    ``subset``: None for all videos. ``tiou``: the dataset's own thresholds if None.

    Raises:
        InputError: as `dataset_of`, for a run without detections, and as ``evaluate`` does.
    """
    if dataset_of(runs) != data.name:
        raise InputError(f"the runs are not of the dataset {data.name!r}", hint="Choose their own dataset.")
    steps = iter(range(1, 2 * len(runs) + 2))

    def say(message: str) -> None:
        if progress:
            progress(next(steps), 2 * len(runs) + 1, message)

    found = {run.run_id: run.detections() for run in runs}
    truth, thresholds = data.ground_truth(subset), list(tiou or data.tiou)
    evaluations = {}
    for name, table in found.items():
        evaluations[name] = evaluate(
            truth, table, thresholds, protocol=protocol, videos=data.videos(subset, usable=False)
        )
        say(f"evaluated {name}")
    material = _Material(data, runs, subset, thresholds, protocol, found, evaluations)
    sheet = _Page()
    title = " against ".join(found) + f" on {data.name}"
    _add_head(sheet, material, title)
    _add_settings(sheet, material)
    _add_maps(sheet, material)
    _add_classes(sheet, material)
    _add_counts(sheet, material)
    _add_proposals(sheet, material)
    _add_frames(sheet, material)
    for name, table in found.items():
        durations = data.index.set_index("video_id")["duration"]
        _add_diagnosis(sheet, name, diagnose(truth, table, (DIAGNOSED_AT,), durations=durations))
        say(f"diagnosed {name}")
    _add_training(sheet, material)
    say("done")
    return page(title, sheet.parts)


def _add_head(sheet: _Page, material: _Material, title: str) -> None:
    """What this is about, and the runs with their cost."""
    sheet.add("h1", title)
    where = f"Subset {material.subset}" if material.subset else "All videos"
    sheet.add(
        "p",
        f"{where} of the dataset {material.data.name}: "
        f"{len(material.data.videos(material.subset, usable=False))} videos. "
        f"tIoU {thresholds_text(material.tiou)}, {_PROTOCOLS[material.protocol]}.",
    )
    averages = [f"{name} {100 * e.average_mAP:.2f} %" for name, e in material.evaluations.items()]
    sheet.add("p", f"Average mAP: {', '.join(averages)}.")
    if len(material.runs) == 2:
        _add_verdict(sheet, material)
    table = run_table(material.runs)[list(_SUMMARY)]
    table["average_mAP"] *= 100
    table["training_seconds"] = table["training_seconds"].round()
    table["created"] = pd.to_datetime(table["created"], unit="s", utc=True)
    sheet.table(table.dropna(axis=1, how="all").rename(columns=_SUMMARY))
    if table["times_real_time"].isna().any():
        sheet.add("p", "What was never recorded or measured is left out or shown as –.", quiet=True)


def _add_verdict(sheet: _Page, material: _Material) -> None:
    """Whether the difference could be chance of the videos."""
    first, second = material.evaluations
    videos = material.data.videos(material.subset, usable=False)
    truth = material.data.ground_truth(material.subset)
    before, after = (
        comparison.match_side(truth, table, material.tiou, videos, material.protocol)
        for table in material.detections.values()
    )
    try:
        found = comparison.paired_bootstrap(before, after)
    except InputError as error:
        sheet.add("p", f"No interval of the difference: {error}", quiet=True)
        return
    lower, higher = (evaluation.average_mAP for evaluation in material.evaluations.values())
    difference = 100 * (higher - lower)
    words = "zero lies outside" if found.clear else "zero lies within, so either could be better on others"
    sheet.add(
        "p",
        f"{second} minus {first}: {difference:+.2f} points, 95 % interval {100 * found.low:+.2f} to "
        f"{100 * found.high:+.2f} ({words}; paired bootstrap of {found.videos} videos, {found.draws} draws).",
    )


def _add_settings(sheet: _Page, material: _Material) -> None:
    """All settings of one run; of two only where they differ, and what just one has."""
    sheet.add("h2", "Settings")
    if len(material.runs) == 1:
        settings = [[name, to_text(value)] for name, value in material.runs[0].settings().items()]
        if not settings:
            sheet.add("p", "None: the detections were imported.")
            return
        settings += [["", ""]] * (len(settings) % 2)
        half = len(settings) // 2  # side by side, so that they take half a page
        rows = [[*left, *right] for left, right in zip(settings[:half], settings[half:], strict=True)]
        sheet.table(pd.DataFrame(rows, columns=["setting", "value", "setting ", "value "]))
        return
    own = [run.settings() for run in material.runs]
    differences = setting_differences(material.runs).set_index("run").T.rename_axis("setting").reset_index()
    if len(differences):
        sheet.table(differences)
    else:
        shared = own[0].keys() & own[1].keys()
        sheet.add("p", "The settings that both have are the same." if shared else "No settings in common.")
    for run, mine, others in zip(material.runs, own, own[::-1], strict=True):
        only = {name: to_text(value) for name, value in mine.items() if name not in others}
        if only:
            words = ", ".join(f"{name} = {value}" for name, value in only.items())
            sheet.add("p", f"Only {run.run_id} has: {words}.", quiet=True)


def _add_maps(sheet: _Page, material: _Material) -> None:
    sheet.add("h2", "mAP")
    sheet.figure(plots.map_curves(material.evaluations), "mAP")
    sheet.table(plots.map_table(material.evaluations))
    sheet.add("p", "In percent: the mean over classes of the average precision at each tIoU.", quiet=True)


def _add_classes(sheet: _Page, material: _Material) -> None:
    """AP of every class, or how the two differ."""
    sheet.add("h2", "AP per class")
    if len(material.runs) == 1:
        sheet.figure(plots.class_map(next(iter(material.evaluations.values()))), "AP per class")
        sheet.table(plots.class_table(material.evaluations).drop(columns="run"))
        sheet.add("p", "In percent.", quiet=True)
        return
    left, right = material.evaluations
    table = comparison.class_differences(*material.evaluations.values())
    shown = two.most_different(table)
    sheet.figure(two.difference_bars(shown, "label", (left, right), "AP"), "AP per class")
    if len(shown) < len(table):
        sheet.add("p", f"The {len(shown)} classes that differ most; the table has all.", quiet=True)
    table[["first", "second", "difference"]] *= 100
    titles = {"first": left, "second": right, "difference": "difference (points)"}
    sheet.table(table.rename(columns=titles))
    sheet.add("p", "AP in percent, averaged over the tIoU thresholds.", quiet=True)


def _add_counts(sheet: _Page, material: _Material) -> None:
    sheet.add("h2", "What was counted")
    sheet.table(plots.count_table(material.evaluations))
    sheet.add(
        "p",
        "Detections in videos outside the subset and detections without length count as false positives.",
        quiet=True,
    )


def _add_proposals(sheet: _Page, material: _Material) -> None:
    """Recall whatever the labels."""
    sheet.add("h2", "Proposals")
    truth, found = material.data.ground_truth(material.subset), {}
    for name, table in material.detections.items():
        try:
            found[name] = proposal_recall(truth, without_repeats(table))
        except InputError as error:
            sheet.add("p", f"{name}: {error}", quiet=True)
    if not found:
        return
    sheet.figure(recalls.recall_curves(found), "AR-AN")
    sheet.table(recalls.recall_table(found))
    sheet.add(
        "p",
        "In percent, as in ActivityNet's proposal task: labels ignored, averaged over tIoU 0.5:0.95:0.05. A "
        "segment that several classes share counts once.",
        quiet=True,
    )


def _add_frames(sheet: _Page, material: _Material) -> None:
    """What the action segmentation literature reports."""
    sheet.add("h2", "Labelled frames")
    data, subset, found, scores = material.data, material.subset, {}, {}
    truth, step, videos = data.ground_truth(subset), usual_step(data), data.videos(subset, usable=False)
    for name, table in material.detections.items():
        inside = table[table["video_id"].isin(videos)]
        scores[name], _ = best_f1(label_detections(truth, inside, DIAGNOSED_AT)[0], len(truth))
        try:
            found[name] = compare_subset(data, inside, subset, step, scores[name])
        except InputError as error:
            sheet.add("p", f"{name}: {error}", quiet=True)
    if found:
        sheet.table(recalls.segmentation_table(found, scores))
    sheet.add(
        "p",
        f"In percent, averaged over videos, a frame each {step:g} s. Detections count from the score with "
        f"the best F1 at tIoU {DIAGNOSED_AT:g}; each frame has the label of the best-scored one over it. "
        "Background counts in accuracy and is left out of edit and F1.",
        quiet=True,
    )


def _add_diagnosis(sheet: _Page, name: str, diagnosis: Diagnosis) -> None:
    """The figures of the Diagnose page, each with its sentence."""
    sheet.add("h2", f"Diagnosis of {name}")
    sheet.add("p", f"At tIoU {DIAGNOSED_AT:g}. {_plain(diagnosis_advice.headline(diagnosis))}")
    for note in diagnosis.notes:
        sheet.add("p", note, quiet=True)
    advice = diagnosis_advice
    sections = {
        "What fixing would gain": (errors.gain_figure(diagnosis), ""),
        "False positives": (errors.profile_figure(diagnosis), advice.profile_words(diagnosis)),
        "Sensitivity": (errors.sensitivity_figure(diagnosis), advice.sensitivity_words(diagnosis)),
        "Missed": (errors.missed_figure(diagnosis), advice.missed_words(diagnosis)),
        "Boundaries": (errors.boundary_figure(diagnosis.boundaries), advice.boundary_words(diagnosis)),
        "Scores": (
            errors.reliability_figure(diagnosis.calibration),
            advice.calibration_words(diagnosis.calibration),
        ),
    }
    for title, (figure, words) in sections.items():
        sheet.add("h3", title)
        if words:
            sheet.add("p", _plain(words))
        sheet.figure(figure, f"{name} {title}")


def _plain(markdown: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"\1", markdown)


def _add_training(sheet: _Page, material: _Material) -> None:
    """Loss and validation mAP, where they were recorded."""
    metrics = {run.run_id: run.metrics() for run in material.runs}
    recorded = {name: table for name, table in metrics.items() if len(table)}
    sheet.add("h2", "Training")
    for name in [name for name in metrics if name not in recorded]:
        sheet.add("p", f"{name} recorded no training: imported detections and weights have none.")
    loss, validation = two.loss_curves(recorded), two.validation_curves(recorded)
    if loss.data:
        sheet.add("h3", "Training loss")
        sheet.add("p", "Moving averages. Losses of different methods have different terms.", quiet=True)
        sheet.figure(loss, "training loss")
    if validation.data:
        sheet.add("h3", "Validation mAP")
        sheet.add("p", "On the evaluation subset, average over the thresholds.", quiet=True)
        sheet.figure(validation, "validation mAP")
