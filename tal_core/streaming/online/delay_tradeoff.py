"""What waiting buys: a run's events against ground truth, for several delays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.dataset.dataset import Dataset
from tal_core.data.formats.files import read_json
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.frame_precision import evaluate_dataset_frames
from tal_core.inference.predict import check_features, load_model
from tal_core.runs.run import Run
from tal_core.streaming.online.buffered import BufferedModel
from tal_core.streaming.online.events import Event, OnlineModel
from tal_core.streaming.online.online import online_output, open_online
from tal_core.streaming.online.thresholds import choose_rule, matches, rule_json
from tal_core.types import InputError, Progress, TimeGrid

DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
MOST_REMEMBERED = 20_000  # places in a video
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
    detectors = [open_online(model, delay=delay, rule=rule) for delay in delays]
    memory = _Memory(detectors)
    parts = [_Streamed() for _ in delays]
    for done, video in enumerate(videos):
        if progress:
            progress(done, len(videos), f"streaming {video}")
        features, grid = data.features(video), data.grid(video)
        memory.known.clear()
        for detector, part in zip(detectors, parts, strict=True):
            part.add(video, detector, features, grid)
            part.computing += memory.forget_spared()
    if progress:
        progress(len(videos), len(videos), "streamed")
    found = [
        _tradeoff(part, delay, data, model.info.labels) for delay, part in zip(delays, parts, strict=True)
    ]
    return {
        "dataset": data.name,
        "subset": subset,
        "tiou": [float(one) for one in data.tiou],
        "rule": rule_json(rule),
        "offline": _offline(run, data, rule.threshold),
        "tradeoff": [asdict(one) for one in found],
    }


@dataclass
class _Streamed:
    """What came of the videos so far: events, snippet scores, seconds of computing and of stream."""

    events: list[tuple[str, Event]] = field(default_factory=list)
    scores: dict[str, tuple[np.ndarray, TimeGrid]] = field(default_factory=dict)
    computing: float = 0.0
    streamed: float = 0.0

    def add(self, video: str, detector: OnlineModel, features: np.ndarray, grid: TimeGrid) -> None:
        """Stream a video."""
        begun = time.perf_counter()
        output = online_output(detector, features, grid)
        self.computing += time.perf_counter() - begun
        self.streamed += len(features) * grid.stride
        self.events += [(video, event) for event in output.events]
        if len(output.seconds) == len(features):
            self.scores[video] = (output.scores, grid)


class _Memory:
    """What buffered detectors say at each place of one video: the same whatever their delay, so asked once.

    ``spared``: seconds that the calls answered from memory took when they were computed.
    """

    def __init__(self, detectors: Sequence[OnlineModel]):
        self.known: dict[tuple[int, float], tuple[tuple, float]] = {}
        self.spared = 0.0
        for detector in detectors:
            if isinstance(detector, BufferedModel):
                detector.detect = partial(self._detect, detector.detect)

    def forget_spared(self) -> float:
        """The seconds spared since the last call."""
        spared, self.spared = self.spared, 0.0
        return spared

    def _detect(self, detect: Callable[..., tuple], features: np.ndarray, grid: TimeGrid) -> tuple:
        place = len(features), grid.offset
        if place in self.known:
            said, seconds = self.known[place]
            self.spared += seconds
            return said
        begun = time.perf_counter()
        said = detect(features, grid)
        if len(self.known) < MOST_REMEMBERED:
            self.known[place] = said, time.perf_counter() - begun
        return said


def _tradeoff(part: _Streamed, delay: float, data: Dataset, labels: Sequence[str]) -> Tradeoff:
    """One delay, all videos."""
    truth = data.ground_truth(data.evaluation_subset)
    table = events_table(part.events)
    ends = table[table["kind"] == "end"].sort_values("score", ascending=False, kind="stable")
    evaluation = evaluate(truth, ends, data.tiou, videos=data.videos(data.evaluation_subset, usable=False))
    taken = matches(ends, truth) if len(ends) else np.zeros(0, int)
    hit = taken >= 0
    starts = table[table["kind"] == "start"].set_index(["video_id", "segment"])["decided"]
    known = pd.MultiIndex.from_frame(ends[["video_id", "segment"]])[hit]
    start_latency = starts.reindex(known).to_numpy() - truth["start"].to_numpy()[taken[hit]]
    frames = (
        evaluate_dataset_frames(data, part.scores, labels, data.evaluation_subset) if part.scores else None
    )
    return Tradeoff(
        delay=float(delay),
        average_mAP=float(evaluation.average_mAP),
        f1=float(2 * hit.sum() / max(1, len(ends) + len(truth))),
        end_latency=_mean(ends["decided"].to_numpy()[hit] - truth["end"].to_numpy()[taken[hit]]),
        start_latency=_mean(start_latency),
        frame_mAP=None if frames is None else _mean(np.array([frames.mean])),
        segments=len(ends),
        cost=part.computing / max(part.streamed, 1e-9),
    )


def _offline(run: Run, data: Dataset, threshold: float) -> dict[str, float] | None:
    """Average mAP that the run reaches with whole videos: of all detections, and from the rule's score on.

    None without detections. A tracker's threshold is one of snippets, so there MiniROAD has the first alone.
    """
    if not (run.folder / "detections.json").exists():
        return None
    detections, subset = run.detections(), data.evaluation_subset
    cuts = {"average_mAP": -np.inf}
    if run.config()["model"] != "miniroad":
        cuts["average_mAP_from_threshold"] = threshold
    truth, videos = data.ground_truth(subset), data.videos(subset, usable=False)
    return {
        name: float(
            evaluate(truth, detections[detections["score"] >= cut], data.tiou, videos=videos).average_mAP
        )
        for name, cut in cuts.items()
    }


def events_table(events: Sequence[tuple[str, Event]]) -> pd.DataFrame:
    """Events of videos as rows; those of kind ``end`` are detections (``DETECTION_COLUMNS`` and more)."""
    rows = [
        (video, one.start, one.end, one.label, one.score, one.decided, one.kind, one.segment)
        for video, one in events
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "segment"])
    numbers = dict.fromkeys(("start", "end", "score", "decided"), "float64")
    return table.astype({"video_id": "str", "label": "str", **numbers})


def read_tradeoff(run: Run) -> pd.DataFrame | None:
    """The trade-off kept in a run, a row each delay with `Tradeoff`'s fields; None if it wasn't measured.

    Raises InputError if the file is faulty.
    """
    path = run.folder / "online.json"
    if not path.exists():
        return None
    content = read_json(path)
    try:
        return pd.DataFrame([asdict(Tradeoff(**row)) for row in content["tradeoff"]])
    except (KeyError, TypeError):
        hint = f"Write it again: python -m tal_core online --run {run.run_id}."
        raise InputError("holds no figures of an online detector", where=path, hint=hint) from None


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
