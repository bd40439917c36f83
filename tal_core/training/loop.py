"""Trains a run from its config to its evaluated detections.

    1 claim the run                       4 epochs: steps, checkpoint, validation
    2 dataset, device, network            5 detections of the evaluation subset
    3 continue from a checkpoint if any   6 evaluation

Every random choice follows from the seed and the position, so a run that was stopped and resumed takes the
same steps as one that never was, and on a CPU has the same losses.
"""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tal_core.background.processes import StopRequested, stop_signals
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.protocol import FeatureDataset, evaluated_videos
from tal_core.data.formats.detections import write_detections
from tal_core.device import choose_device, choose_precision, device_name
from tal_core.evaluation.result import Evaluation
from tal_core.inference.predict import Predictions, predict_videos
from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import summarise
from tal_core.models.method import Method
from tal_core.models.shared.weights import WeightsInfo, load_weights, save_weights
from tal_core.models.suggested_settings import warnings
from tal_core.postprocessing.candidates import (
    post_process_predictions,
    save_candidates,
    save_snippet_scores,
    suppression,
)
from tal_core.runs.evaluate_run import average_text, evaluate_run
from tal_core.runs.recorder import RunRecorder
from tal_core.runs.run import Run
from tal_core.training.checkpoint import State, load_state
from tal_core.training.environment import describe
from tal_core.training.guard import check_startable, claimed, explained
from tal_core.training.steps import Steps, Training, new_state, train_epoch
from tal_core.types import InputError, Progress, TimeGrid


def train(
    home: Path,
    run: Run,
    resume: bool = False,
    progress: Progress | None = None,
    dataset: FeatureDataset | None = None,
) -> str:
    """Train ``run`` until it has finished or is asked to stop; returns ``finished`` or ``stopped``.

    A run that never started starts, with ``resume`` or without; one that was stopped, failed or was killed
    needs ``resume``. Mixed precision and the device follow from the config. ``dataset``: what to train on
    instead of the registered dataset of the run's name.

    Raises:
        InputError: for what a person can fix: a run in use, a faulty dataset, a loss that is no number,
            no memory or disk left. The run's state is then ``failed``, with the reason.
    """
    if run.shipped:
        raise InputError("this run came with the program", where=run.run_id, hint="Start a new run instead.")
    method, config = run.method_config()
    with claimed(run):
        check_startable(run, resume)
        run.stop_file.unlink(missing_ok=True)
        with RunRecorder(run) as recorder, stop_signals(recorder.request_stop):
            try:
                recorder.log(f"Training {run.run_id} with {method.title}")
                data = dataset or open_dataset(home, run.config()["dataset"], recorder.check)
                _train(run, data, method, config, recorder, progress or (lambda *_: None))
            except StopRequested:
                run.stop_file.unlink(missing_ok=True)
                recorder.log("Stopped.")
                recorder.finish("stopped", phase="", message="Stopped. Resume continues from here.")
                return "stopped"
            except BaseException as error:
                _fail(recorder, config, error)
                known = explained(error, config, recorder.device)
                if known is None:
                    raise
                raise known from None
            return "finished"


def _fail(recorder: RunRecorder, config: MethodConfig, error: BaseException) -> None:
    """Leave the reason in status and log, as far as they can still be written."""
    known = explained(error, config, recorder.device)
    reason = str(known) if known else f"{type(error).__name__}: {error}".rstrip(": ")
    text = reason if known else "".join(traceback.format_exception(error))
    try:
        recorder.finish("failed", phase="", message="", error=reason)
        recorder.log(f"Failed: {text}")
    except InputError:
        pass  # the folder is gone or the disk is full: the caller still gets the reason


def _train(
    run: Run,
    dataset: FeatureDataset,
    method: Method,
    config: MethodConfig,
    recorder: RunRecorder,
    progress: Progress,
) -> None:
    if not dataset.videos(dataset.training_subset):
        hint = f"See: python -m tal_core datasets check {dataset.name}."
        raise InputError("no training video has usable features", where=dataset.training_subset, hint=hint)
    check_class_scores(config, dataset)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    recorder.device = device
    named = {"device": device_name(device), "precision": str(precision).removeprefix("torch.")}
    recorder.update(**named, epochs=config.epochs, message="Preparing the network and its training samples")
    environment = describe(device, precision, dataset)
    run.write_json(run.environment_file, environment)

    training = Training(run, method, config, dataset, device, precision, recorder, progress)
    _warn(training)
    state, info = _prepare(training)
    _validate_if_due(training, state, info)
    if state.position.epoch < config.epochs:
        sampler = method.sampler(state.model, dataset, config)
        steps = Steps(state, config, device, precision, recorder.log)
        while state.position.epoch < config.epochs:
            train_epoch(training, steps, sampler, info)
            _validate_if_due(training, state, info)
    detect(training, state)


def _warn(training: Training) -> None:
    """Log what will go badly with this data and these settings."""
    for warning in warnings(training.method, training.config, summarise(training.dataset)):
        training.recorder.log(f"Warning: {warning}")


def _prepare(training: Training) -> tuple[State, WeightsInfo]:
    """Network, optimizer and position: new, or from the last checkpoint."""
    config, dataset, run = training.config, training.dataset, training.run
    grid = usual_grid(dataset)
    info = WeightsInfo(training.method.name, dataset.labels, dataset.num_features, 0, grid, dataset.extractor)
    torch.manual_seed(config.seed)
    model = training.method.build(config, info.num_features, len(info.labels))
    resumed = (run.checkpoints / "last.pt").exists()
    if not resumed:
        training.method.prepare(model, dataset, config)
    state = new_state(model, config, training.device, training.precision)
    weights = sum(weight.numel() for weight in model.parameters())
    training.recorder.update(parameters=weights)
    training.recorder.log(f"{weights} weights, on {device_name(training.device)}")
    if resumed:
        load_state(run.checkpoints, state, info, training.device)
        position = state.position
        training.recorder.log(f"Continuing after {position.epoch} epochs and {position.step} steps")
    return state, info


def usual_grid(dataset: FeatureDataset) -> TimeGrid:
    """The median time grid of the training videos, or of all if none trains."""
    videos = dataset.videos(dataset.training_subset) or dataset.videos()
    grids = [dataset.grid(video) for video in videos]
    stride = float(np.median([grid.stride for grid in grids]))
    return TimeGrid(stride, float(np.median([grid.offset for grid in grids])))


def _validate_if_due(training: Training, state: State, info: WeightsInfo) -> None:
    """Measure mAP on the evaluation subset every ``validate_every`` epochs; keep the best weights.

    The last epoch is measured by the final detections, unless they need to know the best before. What was
    measured before a stop is read back from the metrics.
    """
    config, epoch, run = training.config, state.position.epoch, training.run
    last = epoch == config.epochs
    due = config.validate_every > 0 and epoch > 0 and (last or epoch % config.validate_every == 0)
    if not due or (last and config.checkpoint == "last"):
        return
    if not evaluated_videos(training.dataset, usable=False):
        return
    metrics = run.metrics()
    measured = metrics[metrics["kind"] == "validation"]
    if (measured["epoch"] == epoch).any():
        return
    training.recorder.update(phase="validating", message=f"Measuring mAP after epoch {epoch}")
    evaluation = evaluate_run(training.dataset, _detections(training, _predict(training, state.detector)))
    assert evaluation is not None  # there are videos to evaluate on
    if measured.empty or evaluation.average_mAP > measured["average_mAP"].max():
        save_weights(run.weights_file("best"), state.detector.state_dict(), replace(info, epoch=epoch))
    _report(training, state, evaluation)


def detect(training: Training, state: State, *, classless: bool = False) -> None:
    """Write candidates, snippet scores, detections and evaluation of the evaluation subset.

    With ``classless``, proposals without classes are written as they are, and not evaluated.
    """
    run, config, recorder = training.run, training.config, training.recorder
    subset = training.dataset.evaluation_subset
    recorder.update(phase="detecting", eta_seconds=None, message=f"Detecting in subset {subset!r}")
    detector, best = state.detector, run.weights_file("best")
    if config.checkpoint == "best" and best.exists():
        load_weights(best, detector)
    predictions = _predict(training, detector, classless)
    save_candidates(run.candidates_file, predictions.candidates, predictions.labels)
    if predictions.snippet_scores:
        save_snippet_scores(run.snippet_scores_file, predictions.snippet_scores, predictions.labels)
    detections = _detections(training, predictions)
    write_detections(detections, run.detections_file)
    evaluation = None if classless else evaluate_run(training.dataset, detections)
    message = "Finished. No annotated videos were held out from training, so there is no mAP."
    if classless:
        message = f"Finished: {len(detections)} proposals without classes, so there is no mAP."
    if evaluation is not None:
        run.write_json(run.evaluation_file, evaluation.to_json())
        if config.checkpoint == "last":
            _report(training, state, evaluation)
        recorder.update(average_mAP=evaluation.average_mAP)
        where = f"the {len(predictions.candidates)} videos of subset {subset!r}"
        message = f"Finished: {average_text(evaluation)} on {where}."
    recorder.log(message)
    recorder.finish("finished", phase="", message=message)


def _predict(training: Training, network: torch.nn.Module, classless: bool = False) -> Predictions:
    dataset = training.dataset
    videos = evaluated_videos(dataset)

    def report(done: int, total: int, message: str) -> None:
        training.recorder.check()
        training.progress(done, total, message)

    return predict_videos(network, dataset, videos, training.device, report, classless=classless)


def _detections(training: Training, predictions: Predictions) -> pd.DataFrame:
    settings = suppression(training.config)
    return post_process_predictions(predictions.candidates, predictions.labels, settings)


def check_class_scores(config: MethodConfig, dataset: FeatureDataset) -> None:
    """Raise InputError if the config needs class scores of videos and the dataset lacks them."""
    if config.needs_class_scores:
        dataset.class_scores(evaluated_videos(dataset))


def _report(training: Training, state: State, evaluation: Evaluation) -> None:
    """Add a validation to metrics, status and log."""
    epoch, average = state.position.epoch, float(evaluation.average_mAP)
    training.recorder.metric(
        "validation",
        epoch=epoch,
        step=state.position.total_steps,
        tiou=[float(threshold) for threshold in evaluation.tiou],
        mAP=[float(value) for value in evaluation.mAP],
        average_mAP=average,
    )
    training.recorder.update(average_mAP=average)
    training.recorder.log(f"After epoch {epoch}: average mAP {100 * average:.2f} %")
