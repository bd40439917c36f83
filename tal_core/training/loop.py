"""Trains a run from its config to its evaluated detections.

    1 claim the run                       4 epochs: steps, checkpoint, validation
    2 dataset, device, network            5 detections of the evaluation subset
    3 continue from a checkpoint if any   6 evaluation

Every random choice follows from the seed and the position, so a run that was stopped and resumed takes the
same steps as one that never was, and on a CPU has the same losses.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tal_core.data.dataset import Dataset, open_dataset
from tal_core.data.detections import write_detections
from tal_core.evaluation.average_precision import Evaluation, evaluate
from tal_core.inference.candidates import (
    post_process_predictions,
    save_candidates,
    save_snippet_scores,
    suppression,
)
from tal_core.inference.predict import Predictions, predict_videos, read_config
from tal_core.models.config import MethodConfig
from tal_core.models.device import choose_device, choose_precision, device_name
from tal_core.models.method import Method, Sampler
from tal_core.models.weights import WeightsInfo, load_weights, save_weights
from tal_core.training.checkpoint import Position, State, load_state, save_state, set_random_state
from tal_core.training.environment import describe
from tal_core.training.guard import check_startable, claimed, explained, stopped_by_signals
from tal_core.training.optimization import AveragedWeights, learning_rate, make_optimizer
from tal_core.training.records import Recorder, StopRequested
from tal_core.training.run import Run
from tal_core.types import InputError, Progress, TimeGrid
from tal_core.workspace import write_bytes, write_json

STEP_LINES = 25  # at least so many per epoch in metrics.jsonl
LINE_SECONDS = 1.0  # and one so often


@dataclass(frozen=True)
class Training:
    """What stays the same while a run trains."""

    run: Run
    method: Method
    config: MethodConfig
    dataset: Dataset
    device: torch.device
    precision: torch.dtype
    recorder: Recorder
    progress: Progress


def train(home: Path, run: Run, resume: bool = False, progress: Progress | None = None) -> str:
    """Train ``run`` until it has finished or is asked to stop; returns ``finished`` or ``stopped``.

    A run that never started starts, with ``resume`` or without; one that was stopped, failed or was killed
    needs ``resume``. Mixed precision and the device follow from the config.

    Raises:
        InputError: for what a person can mend: a run in use, a faulty dataset, a loss that is no number,
            no memory or disk left. The run's state is then ``failed``, with the reason.
    """
    if run.shipped:
        raise InputError("this run came with the program", where=run.run_id, mend="Start a new run instead.")
    method, config = read_config(run.folder)
    with claimed(run):
        check_startable(run, resume)
        (run.folder / "stop").unlink(missing_ok=True)
        with Recorder(run) as recorder, stopped_by_signals(recorder):
            try:
                _train(home, run, method, config, recorder, progress or (lambda *_: None))
            except StopRequested:
                (run.folder / "stop").unlink(missing_ok=True)
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


def _fail(recorder: Recorder, config: MethodConfig, error: BaseException) -> None:
    """Leave the reason in status and log, as far as they can still be written."""
    known = explained(error, config, recorder.device)
    reason = str(known) if known else f"{type(error).__name__}: {error}".rstrip(": ")
    text = reason if known else "".join(traceback.format_exception(error))
    try:
        recorder.finish("failed", phase="", message="", error=reason)
        recorder.log(f"Failed: {text}")
    except InputError:
        pass  # the folder is gone or the disk is full: the caller still gets the reason


def _train(home, run, method, config, recorder, progress) -> None:
    recorder.log(f"Training {run.run_id} with {method.title}")
    dataset = open_dataset(home, run.config()["dataset"], recorder.check)
    if not dataset.videos(dataset.training_subset):
        mend = f"See: python -m tal_core datasets check {run.config()['dataset']}."
        raise InputError("no training video has usable features", where=dataset.training_subset, mend=mend)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    recorder.device = device
    named = {"device": device_name(device), "precision": str(precision).removeprefix("torch.")}
    recorder.update(**named, epochs=config.epochs, message="Preparing the network and its training samples")
    environment = describe(device, precision, dataset)
    write_bytes(run.folder / "environment.json", (json.dumps(environment, indent=2) + "\n").encode())

    training = Training(run, method, config, dataset, device, precision, recorder, progress)
    state, info = _prepare(training)
    _validate_if_due(training, state, info)
    if state.position.epoch < config.epochs:
        sampler = method.sampler(state.model, dataset, config)
        while state.position.epoch < config.epochs:
            _train_epoch(training, state, sampler, info)
            _validate_if_due(training, state, info)
    _detect(training, state)


def _prepare(training: Training) -> tuple[State, WeightsInfo]:
    """Network, optimizer and position: new, or from the last checkpoint."""
    config, dataset, run = training.config, training.dataset, training.run
    grid = usual_grid(dataset)
    info = WeightsInfo(training.method.name, dataset.labels, dataset.num_features, 0, grid)
    torch.manual_seed(config.seed)
    model = training.method.build(config, info.num_features, len(info.labels))
    resumed = (run.checkpoints / "last.pt").exists()
    if not resumed:
        training.method.prepare(model, dataset, config)
    model.to(training.device)
    state = State(
        model=model,
        optimizer=make_optimizer(model, config),
        scaler=torch.amp.GradScaler(training.device.type, enabled=training.precision == torch.float16),
        average=None if config.ema_decay is None else AveragedWeights(model, config.ema_decay),
        position=Position(),
    )
    weights = sum(weight.numel() for weight in model.parameters())
    training.recorder.log(f"{weights} weights, on {device_name(training.device)}")
    if resumed:
        load_state(run.checkpoints, state, info, training.device)
        position = state.position
        training.recorder.log(f"Continuing after {position.epoch} epochs and {position.step} steps")
    return state, info


def usual_grid(dataset: Dataset) -> TimeGrid:
    """The median time grid of the training videos."""
    grids = [dataset.grid(video) for video in dataset.videos(dataset.training_subset)]
    stride = float(np.median([grid.stride for grid in grids]))
    return TimeGrid(stride, float(np.median([grid.offset for grid in grids])))


def _train_epoch(training: Training, state: State, sampler: Sampler, info: WeightsInfo) -> None:
    """Take the steps that are left of the present epoch; checkpoint at its end, or where it is stopped."""
    config, recorder, position = training.config, training.recorder, state.position
    seed = config.seed * 1_000_003 + position.epoch
    batches = sampler.epoch(position.epoch, torch.Generator().manual_seed(seed))
    if position.step == 0:
        torch.manual_seed(seed + 1)  # of dropout and the like
    elif state.rng:
        set_random_state(state.rng)
    meter = Meter(training, state, len(batches))
    state.model.train()
    begun = time.perf_counter() - position.seconds
    while position.step < len(batches):
        if recorder.stop_requested:
            position.seconds = time.perf_counter() - begun
            save_state(training.run.checkpoints, state, info)
        recorder.check()
        rate = learning_rate(config, position.epoch, position.step, len(batches))
        batch = to_device(batches[position.step], training.device)
        terms = _step(training, state, batch, rate)
        position.advance(terms)
        meter.step(terms, rate, batch)
    seconds = time.perf_counter() - begun
    means = {name: value / len(batches) for name, value in position.sums.items()}
    position.next_epoch()
    # The line goes first: if it is written again after a crash, readers take the later one.
    recorder.metric(
        "epoch", epoch=position.epoch, step=position.total_steps, **means, seconds=round(seconds, 3)
    )
    recorder.log(
        f"Epoch {position.epoch}/{config.epochs}: loss {means.get('loss', 0):.4f} in {seconds:.1f} s"
    )
    save_state(training.run.checkpoints, state, replace(info, epoch=position.epoch))


def _step(training: Training, state: State, batch: Any, rate: float) -> dict[str, float]:
    """One optimisation step; returns the loss terms. Raises InputError if one is NaN or infinite."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    mixed = training.precision != torch.float32
    with torch.autocast(training.device.type, training.precision if mixed else None, enabled=mixed):
        terms = state.model.loss(batch)
    values = {name: float(term.detach()) for name, term in terms.items()}
    wrong = next((name for name, value in values.items() if not math.isfinite(value)), None)
    if wrong is not None:
        where = f"epoch {state.position.epoch + 1}, step {state.position.step + 1}"
        mend = (
            f"Lower learning_rate (now {training.config.learning_rate:g}) or set gradient_clip in a new run."
        )
        raise InputError(f"{wrong} became {values[wrong]}", where=where, mend=mend)
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(terms["loss"]).backward()
    if training.config.gradient_clip is not None:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), training.config.gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.average:
        state.average.update(state.model)
    return values


def _validate_if_due(training: Training, state: State, info: WeightsInfo) -> None:
    """Measure mAP on the evaluation subset every ``validate_every`` epochs; keep the best weights.

    The last epoch is measured by the final detections, unless they need to know the best before. What was
    measured before a stop is read back from the metrics.
    """
    config, epoch, run = training.config, state.position.epoch, training.run
    last = epoch == config.epochs
    due = config.validate_every > 0 and epoch > 0 and (last or epoch % config.validate_every == 0)
    if not due or (last and config.checkpoint == "last") or not can_evaluate(training.dataset):
        return
    metrics = run.metrics()
    measured = metrics[metrics["kind"] == "validation"]
    if (measured["epoch"] == epoch).any():
        return
    training.recorder.update(phase="validating", message=f"Measuring mAP after epoch {epoch}")
    evaluation = _evaluate(training, _predict(training, state.detector))
    if measured.empty or evaluation.average_mAP > measured["average_mAP"].max():
        save_weights(
            run.checkpoints / "best.safetensors", state.detector.state_dict(), replace(info, epoch=epoch)
        )
    _report(training, state, evaluation)


def _detect(training: Training, state: State) -> None:
    """Write candidates, snippet scores, detections and evaluation of the evaluation subset."""
    run, config, recorder = training.run, training.config, training.recorder
    subset = training.dataset.evaluation_subset
    recorder.update(phase="detecting", eta_seconds=None, message=f"Detecting in subset {subset!r}")
    detector, best = state.detector, run.checkpoints / "best.safetensors"
    if config.checkpoint == "best" and best.exists():
        load_weights(best, detector)
    predictions = _predict(training, detector)
    save_candidates(run.folder / "candidates.npz", predictions.candidates, predictions.labels)
    if predictions.snippet_scores:
        save_snippet_scores(run.folder / "snippet_scores.npz", predictions.snippet_scores, predictions.labels)
    detections = post_process_predictions(predictions.candidates, predictions.labels, suppression(config))
    write_detections(detections, run.folder / "detections.json")
    evaluation = _evaluate(training, predictions, detections)
    message = "Finished. No annotated videos were held out from training, so there is no mAP."
    if evaluation is not None:
        write_json(run.folder / "evaluation.json", evaluation.to_json())
        if config.checkpoint == "last":
            _report(training, state, evaluation)
        recorder.update(average_mAP=evaluation.average_mAP)
        low, high = min(evaluation.tiou), max(evaluation.tiou)
        average = f"average mAP {100 * evaluation.average_mAP:.2f} % (tIoU {low:g} to {high:g})"
        message = f"Finished: {average} on the {len(predictions.candidates)} videos of subset {subset!r}."
    recorder.log(message)
    recorder.finish("finished", phase="", message=message)


def _predict(training: Training, network: torch.nn.Module) -> Predictions:
    dataset = training.dataset
    videos = dataset.videos(dataset.evaluation_subset) if can_evaluate(dataset) else []

    def report(done: int, total: int, message: str) -> None:
        training.recorder.check()
        training.progress(done, total, message)

    return predict_videos(network, dataset, videos, training.device, report)


def _evaluate(training: Training, predictions: Predictions, detections=None) -> Evaluation | None:
    """mAP on the evaluation subset, videos without usable features included; None without ground truth."""
    dataset = training.dataset
    if not can_evaluate(dataset):
        return None
    subset = dataset.evaluation_subset
    if detections is None:
        settings = suppression(training.config)
        detections = post_process_predictions(predictions.candidates, predictions.labels, settings)
    videos = dataset.videos(subset, usable=False)
    return evaluate(dataset.ground_truth(subset), detections, dataset.tiou, videos=videos)


def can_evaluate(dataset: Dataset) -> bool:
    """Whether there are annotated videos apart from those that train."""
    held_out = (dataset.index["subset"] == dataset.evaluation_subset) & (dataset.index["num_segments"] > 0)
    return bool(held_out.any())


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


class Meter:
    """Keeps status and metrics up to date from step to step of one epoch."""

    def __init__(self, training: Training, state: State, steps: int):
        self.training, self.position, self.steps = training, state.position, steps
        self.every = max(1, steps // STEP_LINES)
        self.begun = self.last_line = time.perf_counter()
        self.done = 0
        self.since_line = {"steps": 0, "samples": 0}
        self.sums: dict[str, float] = {}

    def step(self, terms: dict[str, float], rate: float, batch: Any) -> None:
        """Count one step; write a line now and then, with the mean of each term since the line before."""
        position, config, recorder = self.position, self.training.config, self.training.recorder
        self.done += 1
        self.since_line["steps"] += 1
        self.since_line["samples"] += num_samples(batch)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        now = time.perf_counter()
        left = self.steps - position.step + (config.epochs - position.epoch - 1) * self.steps
        total = position.total_steps + left
        recorder.update(
            phase="training",
            message=f"Epoch {position.epoch + 1} of {config.epochs}",
            epoch=position.epoch + 1,
            step=position.total_steps,
            steps=total,
            eta_seconds=round(left * (now - self.begun) / self.done, 1),
        )
        self.training.progress(position.total_steps, total, "training")
        if position.step % self.every and position.step < self.steps and now - self.last_line < LINE_SECONDS:
            return
        speed = round(self.since_line["samples"] / max(now - self.last_line, 1e-9), 1)
        recorder.update(samples_per_second=speed)
        recorder.metric(
            "step",
            epoch=position.epoch + 1,
            step=position.total_steps,
            **{name: value / self.since_line["steps"] for name, value in self.sums.items()},
            learning_rate=rate,
            samples_per_second=speed,
            memory_mb=recorder.memory_mb(),
        )
        self.last_line, self.since_line, self.sums = now, {"steps": 0, "samples": 0}, {}


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on ``device``."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def num_samples(batch: Any) -> int:
    """Length of a batch's first tensor."""
    while isinstance(batch, dict | list | tuple) and batch:
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch) if isinstance(batch, torch.Tensor) and batch.ndim else 1
