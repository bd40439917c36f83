"""What waiting buys: a run's events against ground truth, for several delays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.files import read_json
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.frame_precision import evaluate_dataset_frames
from tal_core.inference.predict import check_features, load_model
from tal_core.runs.run import Run
from tal_core.streaming.online.buffered import BufferDetections, NetworkDetector
from tal_core.streaming.online.events import OnlineModel, SegmentEvent
from tal_core.streaming.online.online import online_output, open_online
from tal_core.streaming.online.thresholds import choose_rule, is_online, matches
from tal_core.types import InputError, Progress, TimeGrid

DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
MOST_REMEMBERED = 20_000  # buffers of a video
COLUMNS = ["video_id", "start", "end", "label", "score", "decided", "kind"]


@dataclass(frozen=True)
class Tradeoff:
    """What a run gives with one ``delay`` (seconds).

    ``average_mAP`` over the dataset's tIoU and ``f1`` at 0.5 of the emitted segments, fractions.
    ``end_latency`` and ``start_latency``: mean seconds from the true end (start) of the actions found at tIoU
    0.5 to the moment the end (start) was known; None where nothing was found, or starts aren't told.
    ``frame_mAP``: None for methods that don't score snippets. ``cost``: seconds of computing for a second of
    stream, here.
    """

    delay: float
    average_mAP: float
    f1: float
    end_latency: float | None
    start_latency: float | None
    frame_mAP: float | None
    segments: int
    cost: float


def measure_online(
    run: Run,
    data: Dataset,
    delays: Sequence[float] = DELAYS,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The form of ``online.json``: the run's rule, and a `Tradeoff` for each delay, on the evaluation subset.

    Raises:
        InputError: if the run can't serve streams, its features differ or nothing there is annotated.
    """
    model = load_model(run, device=device)
    check_features(data.num_features, model.info, where=f"dataset {data.name}")
    subset = data.evaluation_subset
    videos = data.videos(subset)
    if not videos or data.ground_truth(subset, videos).empty:
        hint = "Use a dataset with annotated videos beside those that train."
        raise InputError("there are no annotated videos to measure on", where=data.name, hint=hint)
    rule = choose_rule(run, data)
    detector = _RememberingDetector(NetworkDetector(model, rule.threshold))
    models = [open_online(model, delay=delay, rule=rule, detector=detector) for delay in delays]
    parts = [_Streamed() for _ in delays]
    for done, video in enumerate(videos):
        if progress:
            progress(done, len(videos), f"streaming {video}")
        features, grid = data.features(video), data.grid(video)
        detector.forget()
        for online, part in zip(models, parts, strict=True):
            part.add(video, online, features, grid)
            part.computing += detector.take_spared()
    if progress:
        progress(len(videos), len(videos), "streamed")
    labels = model.info.labels
    return {
        "dataset": data.name,
        "subset": subset,
        "tiou": [float(tiou) for tiou in data.tiou],
        "rule": asdict(rule),
        "offline": _offline(run, data, rule.threshold),
        "tradeoff": [
            asdict(_tradeoff(part, delay, data, labels)) for delay, part in zip(delays, parts, strict=True)
        ],
    }


@dataclass
class _Streamed:
    """Of the videos so far: events, snippet scores, seconds of computing and of stream."""

    events: list[tuple[str, SegmentEvent]] = field(default_factory=list)
    scores: dict[str, tuple[np.ndarray, TimeGrid]] = field(default_factory=dict)
    computing: float = 0.0
    streamed: float = 0.0

    def add(self, video: str, model: OnlineModel, features: np.ndarray, grid: TimeGrid) -> None:
        begun = time.perf_counter()
        output = online_output(model, features, grid)
        self.computing += time.perf_counter() - begun
        self.streamed += len(features) * grid.stride
        self.events += [(video, event) for event in output.events]
        if len(output.seconds) == len(features):
            self.scores[video] = (output.scores, grid)


class _RememberingDetector:
    """A ``Detector`` that asks another once for each buffer of a video: the same whatever the delay."""

    def __init__(self, detector: NetworkDetector):
        self.detector = detector
        self._remembered: dict[tuple[int, float], tuple[BufferDetections, float]] = {}
        self._spared = 0.0

    def forget(self) -> None:
        self._remembered.clear()

    def take_spared(self) -> float:
        """Seconds that the answers from memory since the last call took when they were computed."""
        spared, self._spared = self._spared, 0.0
        return spared

    def __call__(self, features: np.ndarray, grid: TimeGrid) -> BufferDetections:
        buffer = len(features), grid.offset
        if buffer in self._remembered:
            detections, seconds = self._remembered[buffer]
            self._spared += seconds
            return detections
        begun = time.perf_counter()
        detections = self.detector(features, grid)
        if len(self._remembered) < MOST_REMEMBERED:
            self._remembered[buffer] = detections, time.perf_counter() - begun
        return detections


def _tradeoff(part: _Streamed, delay: float, data: Dataset, labels: Sequence[str]) -> Tradeoff:
    """One delay, all videos."""
    truth = data.ground_truth(data.evaluation_subset)
    table = events_table(part.events)
    ends = table[table["kind"] == "end"].sort_values("score", ascending=False, kind="stable")
    evaluation = evaluate(truth, ends, data.tiou, videos=data.videos(data.evaluation_subset, usable=False))
    taken = matches(ends, truth) if len(ends) else np.zeros(0, int)
    hits = taken >= 0
    starts = table[table["kind"] == "start"].set_index(["video_id", "segment"])["decided"]
    segments = pd.MultiIndex.from_frame(ends[["video_id", "segment"]])[hits]
    start_latency = starts.reindex(segments).to_numpy() - truth["start"].to_numpy()[taken[hits]]
    frames = (
        evaluate_dataset_frames(data, part.scores, labels, data.evaluation_subset) if part.scores else None
    )
    return Tradeoff(
        delay=float(delay),
        average_mAP=float(evaluation.average_mAP),
        f1=float(2 * hits.sum() / max(1, len(ends) + len(truth))),
        end_latency=_mean(ends["decided"].to_numpy()[hits] - truth["end"].to_numpy()[taken[hits]]),
        start_latency=_mean(start_latency),
        frame_mAP=None if frames is None else _mean(np.array([frames.mean])),
        segments=len(ends),
        cost=part.computing / max(part.streamed, 1e-9),
    )


def _offline(run: Run, data: Dataset, threshold: float) -> dict[str, float] | None:
    """Average mAP that the run reaches with whole videos: of all detections, and from the rule's score on.

    None without detections. A tracker's threshold is one of snippets, so online methods have the first alone.
    """
    if not run.detections_file.exists():
        return None
    detections, subset = run.detections(), data.evaluation_subset
    cuts = {"average_mAP": -np.inf}
    if not is_online(run):
        cuts["average_mAP_from_threshold"] = threshold
    truth, videos = data.ground_truth(subset), data.videos(subset, usable=False)
    return {
        name: float(
            evaluate(truth, detections[detections["score"] >= cut], data.tiou, videos=videos).average_mAP
        )
        for name, cut in cuts.items()
    }


def events_table(events: Sequence[tuple[str, SegmentEvent]]) -> pd.DataFrame:
    """Events of videos as rows; those of kind ``end`` are detections (``DETECTION_COLUMNS`` and more)."""
    rows = [
        (video, event.start, event.end, event.label, event.score, event.decided, event.kind, event.segment)
        for video, event in events
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "segment"])
    numbers = dict.fromkeys(("start", "end", "score", "decided"), "float64")
    return table.astype({"video_id": "str", "label": "str", **numbers})


def read_tradeoff(run: Run) -> pd.DataFrame | None:
    """The trade-off kept in a run, a row each delay with `Tradeoff`'s fields; None if it wasn't measured.

    Raises InputError if the file is faulty.
    """
    path = run.online_file
    if not path.exists():
        return None
    content = read_json(path)
    try:
        return pd.DataFrame([asdict(Tradeoff(**row)) for row in content["tradeoff"]])
    except (KeyError, TypeError):
        hint = f"Write it again: python -m tal_core online --run {run.run_id}."
        raise InputError("holds no figures of an online detector", where=path, hint=hint) from None


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
