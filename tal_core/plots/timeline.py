"""What the timeline shows of one video: rows of segments with their outcomes, and score curves.

Pure functions: tables in; tables and one JSON-able dictionary (``payload``) for the component out.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_core.evaluation import comparison
from tal_core.evaluation.outcomes import MISSED, OUTCOMES, errors_per_video
from tal_core.plots.colors import BACKGROUND, OUTCOME_COLORS, class_colors
from tal_core.types import GROUND_TRUTH_COLUMNS, TimeGrid, empty_table

IGNORED = "ambiguous"
FOUND = OUTCOMES[0]
TRUTH = "Ground truth"
LABELS_OF_CURVES = 5
"""Score curves drawn for a run unless classes are chosen: more can't be told apart."""
WORTH_A_CURVE = 0.25
"""A class whose highest score in the video is below this share of the highest of all is left out."""

_LEGEND = {
    "true positive": ("true positive / found", "right class, and tIoU at or above the threshold"),
    "localization error": ("bad boundary", "right class, tIoU between 0.1 and the threshold"),
    "wrong label": ("wrong label", "tIoU at or above the threshold, but the annotation is of another class"),
    "confusion error": ("confusion", "another class, and tIoU between 0.1 and the threshold"),
    "double detection": ("double detection", "the annotation is already taken by a higher score"),
    "background error": ("background", "no annotation overlaps by tIoU 0.1 or more"),
    MISSED: ("missed", "ground truth that no shown detection matches"),
    IGNORED: ("ambiguous", "annotated as ambiguous: evaluation ignores it"),
}


def outcome_name(outcome: str) -> str:
    """The outcome in the words of the legend."""
    return _LEGEND[outcome][0]


@dataclass(frozen=True)
class RunOutcomes:
    """A run's detections, labelled at one tIoU by ``evaluation.outcomes``, and the score they are cut at."""

    name: str
    labelled: pd.DataFrame
    threshold: float

    def shown(self, video_id: str | None = None, classes: Sequence[str] = ()) -> pd.DataFrame:
        """Detections at or above the threshold; of one video, or of the chosen classes only."""
        keep = self.labelled["score"].to_numpy() >= self.threshold
        if video_id is not None:
            keep &= self.labelled["video_id"].to_numpy() == video_id
        return of_classes(self.labelled[keep], classes)


def of_classes(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Rows of the chosen classes; all rows when none is chosen."""
    return table[table["label"].isin(classes)] if classes else table


def best_f1(labelled: pd.DataFrame, num_ground_truth: int) -> tuple[float, float]:
    """The score threshold with the best F1 over all classes, and that F1.

    F1 = 2 TP / (detections kept + annotations). Scores that are equal are kept or dropped together.
    """
    score = labelled["score"].to_numpy(np.float64)
    order = np.argsort(-score, kind="stable")
    return comparison.best_f1(
        score[order], (labelled["outcome"] == FOUND).to_numpy()[order], num_ground_truth
    )


def most_wrong_first(
    videos: Sequence[str],
    ground_truth: pd.DataFrame,
    runs: Sequence[RunOutcomes],
    classes: Sequence[str] = (),
) -> pd.DataFrame:
    """One row per video, most errors first, then by name: counts per outcome, summed over the runs.

    Columns: video_id, errors (every shown detection that isn't a true positive, plus what was missed),
    instances (annotations), one per outcome, missed. Without runs, by instances. ``ground_truth`` is the
    table that the detections were matched to.
    """
    wanted = of_classes(ground_truth, classes)
    table = pd.DataFrame({"video_id": sorted(videos), "errors": 0})
    table["instances"] = table["video_id"].map(wanted["video_id"].value_counts()).fillna(0).astype(int)
    for run in runs:
        missed = wanted[~np.isin(wanted.index, found_rows(run.shown()))]
        counts = errors_per_video(run.shown(classes=classes), missed, videos).sort_values("video_id")
        for column in [*OUTCOMES, MISSED, "errors"]:
            table[column] = table.get(column, 0) + counts[column].to_numpy()
    first = "errors" if runs else "instances"
    return table.sort_values([first, "video_id"], ascending=[False, True], ignore_index=True)


def found_rows(shown: pd.DataFrame) -> np.ndarray:
    """Rows of the ground truth that these detections match."""
    return shown.loc[shown["outcome"] == FOUND, "matched"].to_numpy()


def video_segments(
    video_id: str,
    ground_truth: pd.DataFrame,
    runs: Sequence[RunOutcomes],
    classes: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The video's annotations and, per run, its shown detections, by start time.

    Annotations keep their index (their row in ``ground_truth``) and get ``by_run``: for each run the (score,
    tIoU) of the detection that found them, or None. Detections have what ``label_detections`` gave and
    ``nearest_label``, the class of the annotation they match or overlap most ("" for background errors).
    """
    annotations = ground_truth[ground_truth["video_id"] == video_id].sort_values(["start", "end"])
    detections = [run.shown(video_id).sort_values(["start", "end"]) for run in runs]
    by_run: list[list] = [[] for _ in range(len(annotations))]
    for table in detections:
        hits = table[table["outcome"] == FOUND]
        found = dict(zip(hits["matched"], zip(hits["score"], hits["tiou"], strict=True), strict=True))
        for states, row in zip(by_run, annotations.index, strict=True):
            states.append(found.get(row))
    annotations = annotations.assign(by_run=pd.Series(by_run, index=annotations.index, dtype=object))
    label_of = annotations["label"].to_dict()
    named = [t.assign(nearest_label=[label_of.get(row, "") for row in t["nearest"]]) for t in detections]
    return of_classes(annotations, classes), [of_classes(table, classes) for table in named]


def stack_lanes(start: Sequence[float], end: Sequence[float]) -> np.ndarray:
    """A lane for each segment such that no two in a lane overlap, with as few lanes as possible.

    Segments in seconds, in any order; ``(N,)`` int. A segment may start where another of its lane ends.
    """
    lanes = np.zeros(len(start), dtype=int)
    busy: list[tuple[float, int]] = []  # (end, lane)
    free: list[int] = []
    used = 0
    for i in np.argsort(np.asarray(start), kind="stable"):
        while busy and busy[0][0] <= start[i]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, used = used, used + 1
        lanes[i] = lane
        heapq.heappush(busy, (max(float(end[i]), float(start[i]) + 1e-9), lane))
    return lanes


def score_curve(
    title: str,
    scores: np.ndarray,
    grid: TimeGrid,
    label_names: Sequence[str],
    classes: Sequence[str],
    colors: Mapping[str, str],
) -> dict[str, Any]:
    """Score over time of a run: snippet scores ``(T, K)`` of the chosen classes, else the video's highest."""
    peaks = scores.max(axis=0) if len(scores) else np.zeros(len(label_names))
    if classes:
        columns = [k for k, label in enumerate(label_names) if label in set(classes)]
    else:
        high = np.argsort(-peaks, kind="stable")[:LABELS_OF_CURVES]
        columns = high[peaks[high] >= WORTH_A_CURVE * peaks.max(initial=0)].tolist()
    peak = max((float(peaks[k]) for k in columns), default=1.0)
    top = next((t for t in (0.1, 0.2, 0.5, 1.0) if peak <= t), float(np.ceil(peak)))
    note = "score per snippet" if classes else "score per snippet of the highest classes"
    return {
        "title": title,
        "note": note,
        "stride": grid.stride,
        "offset": grid.offset,
        "top": top,
        "lines": [
            {
                "label": label_names[k],
                "color": colors.get(label_names[k], BACKGROUND),
                "values": np.round(scores[:, k].astype(float), 3).tolist(),
            }
            for k in columns
        ],
    }


def payload(
    video_id: str,
    duration: float,
    labels: Sequence[str],
    ground_truth: pd.DataFrame | None,
    runs: Sequence[RunOutcomes],
    *,
    tiou: float = 0.5,
    classes: Sequence[str] = (),
    ambiguous: pd.DataFrame | None = None,
    curves: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Everything the timeline component draws of one video, JSON-able.

    ``ground_truth`` is the subset's table with a plain 0..G-1 index, the one the runs were matched to; None
    if there is none, then detections need no outcomes and are coloured by class. The time axis ends at
    ``duration``, or later where a segment does.
    """
    matched = ground_truth is not None
    if ground_truth is None:
        annotations = empty_table(GROUND_TRUTH_COLUMNS)
        detections = [run.shown(video_id, classes).sort_values(["start", "end"]) for run in runs]
    else:
        annotations, detections = video_segments(video_id, ground_truth, runs, classes)
    unsure = annotations.iloc[:0] if ambiguous is None else ambiguous[ambiguous["video_id"] == video_id]
    unsure = unsure.sort_values("start")
    names = [run.name for run in runs]
    shown = [annotations, unsure, *detections]
    known = [*labels, *sorted({x for table in shown for x in table["label"]} - set(labels))]
    colors = class_colors(labels)
    number = {label: i for i, label in enumerate(known)}
    rows = [_truth_row(annotations, unsure, names, number)] if matched else []
    row_of = _run_row if matched else _plain_row
    rows += [row_of(run, table, number, tiou) for run, table in zip(runs, detections, strict=True)]
    legend = _legend(_counts(annotations, unsure, detections), bool(runs)) if matched else []
    return {
        "video_id": video_id,
        "duration": float(max([duration, *(table["end"].max() for table in shown if len(table))])),
        "description": f"Timeline of {video_id}: " + "; ".join(f"{r['title']}, {r['note']}" for r in rows),
        "labels": known,
        "label_colors": [colors.get(label, BACKGROUND) for label in known],
        "outcome_colors": {**OUTCOME_COLORS, IGNORED: BACKGROUND},
        "rows": rows,
        "curves": list(curves),
        "legend": legend,
        "legend_note": _legend_note(names, tiou) if matched else "Colours are classes.",
    }


def _truth_row(annotations: pd.DataFrame, unsure: pd.DataFrame, names: list[str], number: dict) -> dict:
    outcomes, texts = [], []
    for states in annotations["by_run"]:
        outcomes.append([MISSED if state is None else FOUND for state in states])
        texts.append("\n".join(_found_text(n, s) for n, s in zip(names, states, strict=True)))
    both = pd.concat([annotations[["start", "end", "label"]], unsure[["start", "end", "label"]]])
    note = _plural(len(annotations), "segment")
    if len(names) == 1:
        lost = sum(states == [MISSED] for states in outcomes)
        note += f": {len(outcomes) - lost} found, {lost} missed"
    elif names and outcomes:
        note += ", one stripe per run: " + ", ".join(names)
    if len(unsure):
        note += f" and {len(unsure)} ambiguous"
    return {
        "title": TRUTH,
        "note": note,
        "truth": True,
        **_segments(
            both,
            number,
            outcomes + [[IGNORED]] * len(unsure),
            texts + [_LEGEND[IGNORED][1]] * len(unsure),
            row_ids=annotations.index.tolist() + [-2] * len(unsure),
        ),
    }


def _found_text(name: str, state: tuple[float, float] | None) -> str:
    return f"{name}: missed" if state is None else f"{name}: found, score {state[0]:.3f}, tIoU {state[1]:.2f}"


def _run_row(run: RunOutcomes, table: pd.DataFrame, number: dict, tiou: float) -> dict:
    texts = []
    row: Any
    for row in table.itertuples():
        lines = [f"score {row.score:.3f}", f"{outcome_name(row.outcome)}: {_LEGEND[row.outcome][1]}"]
        if row.tiou > 0:
            kind = "tIoU {:.2f} with its match" if row.outcome == FOUND else "highest tIoU {:.2f}, with"
            lines.append(f"{kind.format(row.tiou)} {row.nearest_label}")
        texts.append("\n".join(lines))
    hits = int((table["outcome"] == FOUND).sum())
    note = f"{_plural(len(table), 'detection')} with score ≥ {run.threshold:.3g}"
    note += f": {hits} true positive at tIoU {tiou:g}" if len(table) else ""
    outcomes = [[outcome] for outcome in table["outcome"]]
    return {
        "title": run.name,
        "note": note,
        "truth": False,
        **_segments(table, number, outcomes, texts, partners=table["nearest"].tolist()),
    }


def _plain_row(run: RunOutcomes, table: pd.DataFrame, number: dict, _: float) -> dict:
    note = f"{_plural(len(table), 'detection')} with score ≥ {run.threshold:.3g}"
    texts = [f"score {score:.3f}" for score in table["score"]]
    return {
        "title": run.name,
        "note": note,
        "truth": False,
        **_segments(table, number, [[]] * len(table), texts),
    }


def _segments(
    table: pd.DataFrame,
    number: dict[str, int],
    outcomes: list[list[str]],
    texts: list[str],
    *,
    row_ids: Sequence[int] = (),
    partners: Sequence[int] = (),
) -> dict[str, Any]:
    """What the component draws in one row: lists of the same order, by start."""
    order = np.argsort(table["start"].to_numpy(), kind="stable")
    table = table.iloc[order]
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    lanes = stack_lanes(start.tolist(), end.tolist())

    def ordered(values: Sequence) -> list:
        return [values[i] for i in order] if len(values) else []

    return {
        "lanes": int(lanes.max()) + 1 if len(lanes) else 1,
        "segments": {
            "start": start.tolist(),
            "end": end.tolist(),
            "lane": lanes.tolist(),
            "label": [number[label] for label in table["label"]],
            "outcomes": ordered(outcomes),
            "text": ordered(texts),
            "id": ordered(row_ids),
            "partner": ordered(partners),
        },
    }


def _counts(
    annotations: pd.DataFrame, unsure: pd.DataFrame, detections: Sequence[pd.DataFrame]
) -> dict[str, list[int]]:
    counts = {outcome: [int((t["outcome"] == outcome).sum()) for t in detections] for outcome in OUTCOMES}
    states = list(annotations["by_run"])
    counts[MISSED] = [sum(s[k] is None for s in states) for k in range(len(detections))]
    counts[IGNORED] = [len(unsure)]
    return counts


def _legend(counts: dict[str, list[int]], any_run: bool) -> list[dict[str, Any]]:
    shown = [o for o in _LEGEND if (counts[IGNORED][0] if o == IGNORED else any_run)]
    colors = {**OUTCOME_COLORS, IGNORED: BACKGROUND}
    return [
        {
            "outcome": outcome,
            "name": _LEGEND[outcome][0],
            "meaning": f"{_LEGEND[outcome][1]}. Click to hide or show.",
            "color": colors[outcome],
            "counts": counts[outcome],
        }
        for outcome in shown
    ]


def _legend_note(names: list[str], tiou: float) -> str:
    if not names:
        return "Colours are classes. Choose a run to see its detections."
    of = f" ({' / '.join(names)})" if len(names) > 1 else ""
    return f"Counts in this video{of} at tIoU {tiou:g}; the left edge of a bar has its class's colour."


def segment_table(
    video_id: str,
    ground_truth: pd.DataFrame,
    runs: Sequence[RunOutcomes],
    classes: Sequence[str] = (),
) -> pd.DataFrame:
    """The video's annotations and shown detections as one table for people and CSV, by start time.

    Columns: row (``Ground truth`` or the run), start, end, label, score, outcome, tiou, annotation.
    For ground truth, outcome says found or missed by each run.
    """
    annotations, detections = video_segments(video_id, ground_truth, runs, classes)
    texts = [
        "; ".join(
            f"{'missed' if s is None else 'found'} by {run.name}" for run, s in zip(runs, states, strict=True)
        )
        for states in annotations["by_run"]
    ]
    tables = [annotations[["start", "end", "label"]].assign(row=TRUTH, outcome=texts)]
    tables += [
        table[["start", "end", "label", "score", "tiou"]].assign(
            row=run.name,
            outcome=table["outcome"].map(outcome_name),
            annotation=table["nearest_label"],
        )
        for run, table in zip(runs, detections, strict=True)
    ]
    whole = pd.concat([table for table in tables if len(table)] or tables[:1])
    columns = ["row", "start", "end", "label", "score", "outcome", "tiou", "annotation"]
    return whole.reindex(columns=columns).sort_values(["start", "end"], kind="stable", ignore_index=True)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
