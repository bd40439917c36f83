"""When an online detector speaks: thresholds and delay that suit a run.

They are chosen on what the run said of its evaluation subset, by the F1 of the segments at tIoU 0.5; such a
choice can only drop segments, so it does not flatter the run's mAP. Without those files, or without the
dataset, ``Rule``'s own values hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.dataset.dataset import Dataset, open_dataset
from tal_core.data.formats.files import read_json
from tal_core.evaluation.comparison import best_f1
from tal_core.evaluation.matching import greedy_match, overlapping_pairs
from tal_core.models.registry import METHODS
from tal_core.postprocessing.candidates import load_all_snippet_scores
from tal_core.runs.run import Run
from tal_core.streaming.online.tracker import Hysteresis, SegmentTracker
from tal_core.types import InputError, TimeGrid
from tal_core.workspace import home

TIOU = 0.5
HIGH, LOW, PAUSES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.3, 0.5, 0.7, 0.9), (0, 1, 2, 4)
MOST_SNIPPETS = 20_000


@dataclass(frozen=True)
class Rule:
    """``threshold``: score from which a segment is announced or, from a buffer, reported.

    For online methods alone: ``low``, the score below which it ends, and ``min_length`` of it in seconds.
    ``delay`` in seconds; None for the few snippets that suit any data. ``longest``: seconds of the longest
    training action, None if unknown. ``f1``: what the rule reached where it was chosen.
    """

    threshold: float = 0.3
    low: float = 0.2
    min_length: float = 0.0
    delay: float | None = None
    longest: float | None = None
    f1: float | None = None

    def hysteresis(self, stride: float, threshold: float | None = None) -> Hysteresis:
        """For the tracker; another ``threshold`` takes ``low`` along in proportion."""
        high = self.threshold if threshold is None else threshold
        return Hysteresis(high, self.low * high / self.threshold, self.min_length / stride)


def online_rule(run: Run) -> Rule:
    """The rule kept in the run's ``online.json``, or else chosen now."""
    path = run.online_file
    if path.exists():
        content = read_json(path)
        try:
            return Rule(**content["rule"])
        except (KeyError, TypeError):
            hint = f"Write it again: python -m tal_core online --run {run.run_id}."
            raise InputError("holds no rule of an online detector", where=path, hint=hint) from None
    try:
        return choose_rule(run, open_dataset(_home(run), run.config()["dataset"]))
    except InputError:  # the dataset is gone or on another machine
        return Rule()


def is_online(run: Run) -> bool:
    """Whether a run's method scores a stream snippet by snippet."""
    method = METHODS.get(run.config()["model"])
    return method is not None and method.online


def choose_rule(run: Run, data: Dataset) -> Rule:
    """The rule with the best F1 on the evaluation subset; ``Rule``'s own where that can't be measured."""
    training = data.ground_truth(data.training_subset)
    lengths = (training["end"] - training["start"]).to_numpy()
    longest = float(lengths.max()) if len(lengths) else None
    truth = data.ground_truth(data.evaluation_subset)
    if is_online(run):
        shortest = float(np.quantile(lengths, 0.02)) / 2 if len(lengths) else 0.0
        path = run.snippet_scores_file
        rule = _tracker_rule(path, truth, shortest) if path.exists() and len(truth) else Rule()
        return replace(rule, longest=longest)
    if not run.detections_file.exists() or truth.empty:
        return Rule(longest=longest)
    detections = run.detections().sort_values("score", ascending=False, kind="stable")
    threshold, f1 = best_f1(detections["score"].to_numpy(), matches(detections, truth) >= 0, len(truth))
    return Rule(threshold=max(threshold, 1e-3), low=0.0, f1=f1, longest=longest)


def matches(detections: pd.DataFrame, truth: pd.DataFrame, tiou: float = TIOU) -> np.ndarray:
    """Row of the annotation of its video and class that each detection takes, by rank; -1 for none."""
    keys = pd.MultiIndex.from_frame(truth[["video_id", "label"]])
    unique = keys.unique()
    pairs = overlapping_pairs(
        unique.get_indexer(pd.MultiIndex.from_frame(detections[["video_id", "label"]])),
        detections[["start", "end"]].to_numpy(np.float64),
        unique.get_indexer(keys),
        truth[["start", "end"]].to_numpy(np.float64),
        tiou,
    )
    return greedy_match(pairs, len(detections), len(truth), [tiou])[0]


def _tracker_rule(path: Path, truth: pd.DataFrame, min_length: float) -> Rule:
    """Thresholds and delay of the tracker, tried on stored snippet scores all at once."""
    scores, labels = load_all_snippet_scores(path)
    tries = list(product(HIGH, LOW, PAUSES))
    high, share, pause = (np.repeat(column, len(labels)) for column in np.array(tries).T)
    named = [(number, label) for number in range(len(tries)) for label in labels]
    rows, seen = [], 0
    videos: list[str] = []
    for video, (table, grid) in scores.items():
        if seen and seen + len(table) > MOST_SNIPPETS:
            break
        seen, videos = seen + len(table), [*videos, video]
        rule = Hysteresis(high, high * share, min_length / grid.stride)
        tracker = SegmentTracker(named, TimeGrid(grid.stride, grid.offset), rule, pause)
        events = [e for row in table.astype(np.float32) for e in tracker.update(np.tile(row, len(tries)))]
        rows += [
            (e.label[0], video, e.label[1], e.start, e.end, e.score)
            for e in [*events, *tracker.finish()]
            if e.kind == "end"
        ]
    segments = pd.DataFrame(rows, columns=["rule", "video_id", "label", "start", "end", "score"])
    truth = truth[truth["video_id"].isin(videos)]
    best, most = None, -1.0
    for number in sorted(segments["rule"].unique().tolist()):
        ranked = segments[segments["rule"] == number].sort_values("score", ascending=False, kind="stable")
        hits = int((matches(ranked, truth) >= 0).sum())
        f1 = 2 * hits / max(1, len(ranked) + len(truth))
        if f1 > most:
            best, most = tries[number], f1
    if best is None:
        return Rule(min_length=min_length)
    threshold, low_share, snippets = best
    stride = float(np.median([grid.stride for _, grid in scores.values()]))
    return Rule(threshold, round(threshold * low_share, 6), min_length, float(snippets * stride), f1=most)


def _home(run: Run) -> Path:
    return home() if run.shipped else run.folder.parent.parent
