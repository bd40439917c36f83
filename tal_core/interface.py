"""What a notebook or script needs, reached as ``import tal_core as tal``.

Times are seconds. Ground truth is a table ``video_id, start, end, label``, detections are the same with
``score``; wherever either is asked for, a file does as well. Features are arrays ``(T, D)``, time first.
``home`` is the workspace, by default the folder ``TAL_HOME`` or ``./workspace``. Wrong input raises
``InputError``, whose message says what is wrong, where, and how to fix it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core import workspace
from tal_core.data.dataset import dataset as datasets
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation import average_precision, comparison, proposal_recall
from tal_core.evaluation import segmentation as frames
from tal_core.evaluation.comparison import Interval
from tal_core.evaluation.diagnosis import diagnose as diagnosing
from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.inputs import as_annotations, as_detections, read_inputs
from tal_core.evaluation.proposal_recall import ProposalRecall
from tal_core.evaluation.result import Evaluation, parse_tiou
from tal_core.evaluation.segmentation import Segmentation
from tal_core.runs import run as runs
from tal_core.runs.run import Run
from tal_core.types import Annotations, InputError, Progress, TimeGrid

GroundTruth = Path | str | pd.DataFrame | Annotations
"""An annotation file of any known form, a table, or what `load_annotations` returned."""

Detections = Path | str | pd.DataFrame
"""An ActivityNet result file, a CSV, or a table."""

Home = Path | str | None


def _home(home: Home) -> Path:
    return workspace.home() if home is None else Path(home).expanduser().resolve()


def _thresholds(tiou: float | str | Sequence[float]) -> list[float]:
    return parse_tiou(tiou) if isinstance(tiou, str) else np.atleast_1d(np.asarray(tiou, float)).tolist()


def load_annotations(path: Path | str, video_info: Path | pd.DataFrame | None = None) -> Annotations:
    """Read an annotation file or folder; its form is recognised.

    Args:
        path: ActivityNet JSON, a THUMOS14 text folder, ELAN, VIA, Label Studio or CSV.
        video_info: a CSV or table of subset, duration (s) and fps of the videos, for files that lack them.

    Raises:
        InputError: naming file, video and field, if the annotations can't be used as they are.
    """
    return as_annotations(path, video_info)


def load_detections(path: Path | str) -> pd.DataFrame:
    """Read detections, in file order: ``video_id, start, end, label, score``.

    Args:
        path: ActivityNet result JSON or CSV.

    Raises:
        InputError: naming file, video and field of the first fault.
    """
    return as_detections(path)


def open_dataset(name: str, *, home: Home = None, progress: Progress | None = None) -> Dataset:
    """Open a registered dataset, such as ``demo``.

    Raises:
        InputError: if the dataset is unknown, or its annotations or features can't be used at all.
    """
    return datasets.open_dataset(_home(home), name, progress)


def open_run(run_id: str, *, home: Home = None) -> Run:
    """A run of the workspace, or one that comes with the program, such as ``demo-baseline``.

    Raises:
        InputError: if there is none.
    """
    return runs.open_run(_home(home), run_id)


def train(
    dataset: str,
    method: str,
    *,
    preset: str = "auto",
    settings: dict[str, Any] | None = None,
    run_id: str | None = None,
    home: Home = None,
    progress: Progress | None = None,
) -> Run:
    """Train a method here and now; returns the run with its detections and evaluation.

    Args:
        dataset: a registered dataset.
        method: such as ``baseline`` or ``actionformer``.
        preset: ``auto`` (derived from the dataset), ``defaults``, or a published one.
        settings: settings that override the preset's, such as ``{"epochs": 2}``.
        run_id: name of the run; by default made of dataset, method and time.

    Raises:
        InputError: for unknown names and settings, faulty data, a loss that is no number, no memory left.
    """
    # Here and below: torch takes seconds to load, and evaluating needs none of it.
    from tal_core.models.data_summary import summarise
    from tal_core.models.suggested_settings import configure
    from tal_core.training import loop

    folder = _home(home)
    summary = summarise(datasets.open_dataset(folder, dataset, progress))
    config, _, _ = configure(method, preset, settings or {}, summary)
    run = runs.create_run(folder, dataset, method, config, run_id)
    loop.train(folder, run, progress=progress)
    return run


def predict(
    run: Run | str,
    *,
    dataset: str | None = None,
    features: np.ndarray | Path | str | None = None,
    video: Path | str | None = None,
    subset: str | None = None,
    grid: TimeGrid | None = None,
    class_scores: np.ndarray | None = None,
    device: str = "auto",
    home: Home = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Detections of a trained run in exactly one of a dataset, features or a video.

    Args:
        run: a run or its id.
        dataset: a registered dataset; ``subset`` defaults to its evaluation subset.
        features: ``(T, D)`` or a feature file; D as in training.
        video: a video file, for runs whose features were extracted here.
        grid: where ``features`` lie in time; by default as in training.
        class_scores: ``(K,)`` of the one video, for runs whose proposals need them.

    Raises:
        InputError: if the run has no usable weights, or the features differ from those it was trained on.
    """
    from tal_core.inference.detection_input import features_of_video
    from tal_core.inference.predict import (
        load_model,
        predict_dataset,
        predict_features,
    )

    if sum(source is not None for source in (dataset, features, video)) != 1:
        raise InputError("nothing to detect in", hint="Give one of dataset, features and video.")
    if subset is not None and dataset is None:
        raise InputError("subset belongs to dataset", hint="Leave it out.")
    run = open_run(run, home=home) if isinstance(run, str) else run
    if dataset is not None:
        table, _ = predict_dataset(_home(home), run, dataset, subset=subset, device=device, progress=progress)
        return table
    model = load_model(run, device=device)
    name = "video"
    if video is not None:
        name = Path(video).stem
        features, grid = features_of_video(Path(video), model.info, progress)
    elif not isinstance(features, np.ndarray):
        from tal_core.data.features.store import read_feature_file

        path = Path(str(features))
        name, features = path.stem, read_feature_file(path, "auto", model.info.num_features)
    return predict_features(model, features, grid, video_id=name, class_scores=class_scores)[0]


def evaluate(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    tiou: float | str | Sequence[float] = "0.3:0.7:0.1",
    subset: str | None = None,
    protocol: str = "official",
    excuse_ambiguous: bool = False,
) -> Evaluation:
    """AP per class and mAP (fractions) at each tIoU threshold.

    Args:
        tiou: a threshold, several, or text as the command takes it: first:last:step.
        subset: of the ground truth; by default the one meant for evaluation.
        protocol: ``official`` (ActivityNet's script) or ``toolbox`` (ActionFormer's and OpenTAD's).
        excuse_ambiguous: as THUMOS14's own kit, a detection over an Ambiguous segment is no false positive.

    Raises:
        InputError: without annotations, for thresholds outside (0, 1] and an unknown protocol.
    """
    inputs = read_inputs(ground_truth, detections, subset=subset)
    ambiguous = inputs.annotations.ambiguous if excuse_ambiguous else None
    return average_precision.evaluate(
        inputs.truth,
        inputs.detections,
        _thresholds(tiou),
        protocol=protocol,
        videos=inputs.videos,
        ambiguous=ambiguous,
    )


def proposals(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    subset: str | None = None,
    max_proposals: float | None = 100,
    tiou: float | str | Sequence[float] = proposal_recall.THRESHOLDS,
) -> ProposalRecall:
    """Recall of segments whatever their labels (fractions): AR@AN and its area, as ActivityNet counts it.

    Args:
        max_proposals: per video on average; None takes as many as there are.

    Raises:
        InputError: without annotations, or without proposals in their videos.
    """
    inputs = read_inputs(ground_truth, detections, subset=subset)
    return proposal_recall.proposal_recall(inputs.truth, inputs.detections, max_proposals, _thresholds(tiou))


def diagnose(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    subset: str | None = None,
    tiou: float | str | Sequence[float] = 0.5,
    buckets: str = "auto",
    progress: Progress | None = None,
) -> Diagnosis:
    """Kinds of error, what fixing each would gain, and sensitivity to length, coverage and instances.

    Args:
        tiou: one threshold, or several to average over.
        buckets: ``thumos14``, ``activitynet``, ``quantiles``, or ``auto``: told by the video ids.

    Raises:
        InputError: without annotations, for thresholds outside (0, 1] and unknown buckets.

    Source: Alwassel et al., Diagnosing Error in Temporal Action Detectors, ECCV 2018.
    """
    inputs = read_inputs(ground_truth, detections, subset=subset)
    return diagnosing.diagnose(
        inputs.truth,
        inputs.detections,
        _thresholds(tiou),
        durations=inputs.durations,
        buckets=buckets,
        progress=progress,
    )


def segmentation(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    subset: str | None = None,
    step: float = 0.1,
    min_score: float = -np.inf,
) -> Segmentation:
    """Frame accuracy, edit score and F1 (percent), frames ``step`` seconds apart.

    Args:
        min_score: weaker detections are left out; by default the best one at each moment counts.

    Raises:
        InputError: without videos, or if ``step`` isn't positive or makes too many frames.

    Source: Lea et al., Temporal Convolutional Networks for Action Segmentation and Detection, CVPR 2017.
    """
    inputs = read_inputs(ground_truth, detections, subset=subset)
    durations = dict(zip(inputs.videos, inputs.durations.loc[inputs.videos], strict=True))
    return frames.segmentation_scores(inputs.truth, inputs.detections, durations, step, min_score)


@dataclass(frozen=True)
class Comparison:
    """Two sets of detections on the same videos; differences are second minus first.

    ``classes``: ``label, first, second, difference``, AP as fractions, averaged over the thresholds.
    ``videos``: ``video_id, annotations, first, second, difference``, F1 from 0 to 1.
    ``annotations``: ground truth with ``found`` by whom at the first threshold, ``score`` and ``tiou``.
    ``interval``: of the difference in average mAP.
    """

    classes: pd.DataFrame
    videos: pd.DataFrame
    annotations: pd.DataFrame
    interval: Interval


def compare(
    ground_truth: GroundTruth,
    first: Detections,
    second: Detections,
    *,
    subset: str | None = None,
    tiou: float | str | Sequence[float] = "0.3:0.7:0.1",
    protocol: str = "official",
    draws: int = comparison.DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Where each of two detectors is better, and how sure the difference is (a bootstrap over the videos).

    Args:
        draws: resamples of the bootstrap; the interval encloses 95 % of them.

    Raises:
        InputError: as `evaluate`; if there are fewer than two videos.

    Source: Efron, Bootstrap Methods, Annals of Statistics 1979.
    """
    annotations, thresholds = as_annotations(ground_truth), _thresholds(tiou)
    sides, evaluations = [], []
    for detections in (first, second):
        inputs = read_inputs(annotations, detections, subset=subset)
        truth, table = inputs.truth, inputs.detections
        sides.append(comparison.match_side(truth, table, thresholds, inputs.videos, protocol))
        evaluations.append(average_precision.evaluate(truth, table, thresholds, protocol=protocol))
    return Comparison(
        comparison.class_differences(evaluations[0], evaluations[1]),
        comparison.video_differences(sides[0], sides[1]),
        comparison.found_by(sides[0], sides[1], 0),
        comparison.paired_bootstrap(sides[0], sides[1], draws, seed, progress),
    )


def extract(
    videos: Path | str,
    out: Path | str,
    *,
    extractor: str = "motion",
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    processes: int | None = None,
    progress: Callable[[Any], None] | None = None,
) -> pd.DataFrame:
    """Extract the features of every video in a folder; what is done already is skipped.

    Args:
        out: folder of the features, ``<video>.npy`` ``(T, D)`` float32 each.
        extractor: ``motion`` needs no download; ``python -m tal_core extract --list`` names all.
        settings: of the extractor, such as ``{"stride_seconds": 0.4}``.
        progress: called with a ``Step`` a few times a second.

    Returns:
        One row per video: ``video`` (relative to its folder), ``features`` (path), ``state`` (``done`` or
        ``failed``), ``snippets``, ``seconds``, ``damage`` and ``error``. Its ``attrs`` hold ``stride`` and
        ``offset`` in seconds, as datasets need them.

    Raises:
        InputError: without videos, for unknown extractors and settings; if ``out`` can't be written or holds
            features of other settings.
    """
    from tal_core.video.extraction.folder import (
        extract_folder,
        read_manifest,
    )
    from tal_core.video.extractors.spec import read_spec

    spec, folder = read_spec({**(settings or {}), "name": extractor}), Path(out)
    extract_folder(Path(videos), folder, spec, device=device, processes=processes, progress=progress)
    manifest = read_manifest(folder)
    states = manifest.videos if manifest is not None else {}
    columns = ["video", "features", "state", "snippets", "seconds", "damage", "error"]
    rows = [
        (name, str(folder / v.features), v.state, v.snippets, v.seconds, v.damage, v.error)
        for name, v in states.items()
    ]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs.update(stride=spec.grid.stride, offset=spec.grid.offset)
    return table


def stream(
    run: Run | str,
    source: Path | str,
    *,
    delay: float | None = None,
    paced: bool = False,
    device: str = "auto",
    home: Home = None,
) -> Iterator[dict[str, Any]]:
    """Detect on a live stream, a camera or a file; yields what happens as it happens.

    Args:
        source: a video file, ``camera:0``, or an rtmp, rtsp, http or https address.
        delay: seconds the detector waits before it decides; by default the run's own.
        paced: play a file in real time.

    Yields:
        The records of ``events.jsonl``: ``kind`` is ``stream`` (the first), ``start`` and ``end`` of a
        segment with ``label, start, end, score, decided`` (seconds), ``gap``, and ``over`` (the last).
        Leaving the loop ends the stream.

    Raises:
        InputError: if the run can't serve a stream, or the source can't be opened or breaks.
    """
    from tal_core.streaming.live.opening import make_session, open_detector
    from tal_core.streaming.live.sinks import Report, Sink
    from tal_core.streaming.live.sources import open_source

    reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()

    class Queued(Sink):
        """Hands reports over to the caller's thread; None after the last."""

        def take(self, report: Report) -> None:
            reports.put(report)

        def close(self) -> None:
            reports.put(None)

    run = open_run(run, home=home) if isinstance(run, str) else run
    opened = open_source(str(source), paced=paced)
    model, extractor = open_detector(run, delay=delay, device=device)
    session = make_session(model, opened, extractor, [Queued()], run.run_id)
    session.start()
    try:
        while (report := reports.get()) is not None:
            yield from report.records
    finally:
        session.stop()
    if session.error is not None:
        raise session.error
