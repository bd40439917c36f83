"""What waiting buys: a run's events against ground truth, for several delays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.dataset import Dataset
from tal_core.data.files import read_json
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.frames import evaluate_dataset_frames
from tal_core.inference.predict import check_features, load_model
from tal_core.streaming.events import Event
from tal_core.streaming.online import online_output, open_online
from tal_core.streaming.online_rule import Rule, choose_rule, matches, rule_json
from tal_core.training.run import Run
from tal_core.types import InputError, Progress

DELAYS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
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
        mend = "Use a dataset with annotated videos beside those that train."
        raise InputError("there are no annotated videos to measure on", where=data.name, mend=mend)
    rule = choose_rule(run, data)
    found = []
    for number, delay in enumerate(delays):

        def report(done: int, total: int, message: str, number: int = number, delay: float = delay) -> None:
            del message
            if progress:
                progress(number * total + done, len(delays) * total, f"delay {delay:g} s")

        found.append(_measure(model, rule, delay, data, videos, report))
    return {
        "dataset": data.name,
        "subset": subset,
        "tiou": [float(one) for one in data.tiou],
        "rule": rule_json(rule),
        "tradeoff": [asdict(one) for one in found],
    }


def _measure(model, rule: Rule, delay: float, data: Dataset, videos: Sequence[str], report) -> Tradeoff:
    """One delay, all videos."""
    detector = open_online(model, delay=delay, rule=rule)
    events: list[tuple[str, Event]] = []
    scores, seconds, streamed = {}, 0.0, 0.0
    for done, video in enumerate(videos):
        report(done, len(videos), "streaming")
        features, grid = data.features(video), data.grid(video)
        begun = time.perf_counter()
        output = online_output(detector, features, grid)
        seconds += time.perf_counter() - begun
        streamed += len(features) * grid.stride
        events += [(video, event) for event in output.events]
        if len(output.seconds) == len(features):
            scores[video] = (output.scores, grid)
    report(len(videos), len(videos), "streaming")
    truth = data.ground_truth(data.evaluation_subset)
    table = events_table(events)
    ends = table[table["kind"] == "end"].sort_values("score", ascending=False, kind="stable")
    evaluation = evaluate(truth, ends, data.tiou, videos=data.videos(data.evaluation_subset, usable=False))
    taken = matches(ends, truth) if len(ends) else np.zeros(0, int)
    hit = taken >= 0
    starts = table[table["kind"] == "start"].set_index(["video_id", "segment"])["decided"]
    known = pd.MultiIndex.from_frame(ends[["video_id", "segment"]])[hit]
    start_latency = starts.reindex(known).to_numpy() - truth["start"].to_numpy()[taken[hit]]
    frames = (
        evaluate_dataset_frames(data, scores, model.info.labels, data.evaluation_subset) if scores else None
    )
    return Tradeoff(
        delay=float(delay),
        average_mAP=float(evaluation.average_mAP),
        f1=float(2 * hit.sum() / max(1, len(ends) + len(truth))),
        end_latency=_mean(ends["decided"].to_numpy()[hit] - truth["end"].to_numpy()[taken[hit]]),
        start_latency=_mean(start_latency),
        frame_mAP=None if frames is None else _mean(np.array([frames.mean])),
        segments=len(ends),
        cost=seconds / max(streamed, 1e-9),
    )


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
        mend = f"Write it again: python -m tal_core online --run {run.run_id}."
        raise InputError("holds no figures of an online detector", where=path, mend=mend) from None


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
