"""Detections from a run's checkpoint, for a dataset or for one array of features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.device import choose_device
from tal_core.models.config import MethodConfig, ProposerConfig
from tal_core.models.method import Candidates, Model
from tal_core.models.shared.weights import WeightsInfo, load_weights, read_info
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.postprocessing.fusion import is_classless, with_classes
from tal_core.runs.run import Run
from tal_core.types import InputError, Progress, TimeGrid


@dataclass(frozen=True)
class TrainedModel:
    """A run's network with its weights, ready to detect."""

    network: nn.Module
    config: MethodConfig
    info: WeightsInfo
    device: torch.device


@dataclass
class Predictions:
    """What a model says of some videos: candidates before NMS, and class scores per snippet if it has any."""

    labels: list[str]
    candidates: dict[str, Candidates] = field(default_factory=dict)
    snippet_scores: dict[str, tuple[np.ndarray, TimeGrid]] = field(default_factory=dict)


def load_model(run: os.PathLike, *, device: str = "auto", checkpoint: str | None = None) -> TrainedModel:
    """The model of a run (its folder or a ``Run``); ``checkpoint`` is ``last``, ``best`` or as configured.

    Raises:
        InputError: if the run has no weights, or they are faulty or of another method or size.
    """
    run = Run(Path(run))
    method, config = run.method_config()
    path = run.weights_file(checkpoint or config.checkpoint)
    info = read_info(path)
    if info.method != method.name:
        what = f"are weights of {info.method}, but the run's config says {method.name}"
        raise InputError(what, where=path, hint="Put the run's own checkpoint back.")
    chosen = choose_device(device)
    network = method.build(config, info.num_features, len(info.labels))
    load_weights(path, network)
    return TrainedModel(network.to(chosen).eval(), config, info, chosen)


def predict_videos(
    network: nn.Module,
    dataset: FeatureDataset,
    videos: Sequence[str],
    device: torch.device,
    progress: Progress | None = None,
    labels: Sequence[str] | None = None,
    *,
    classless: bool = False,
) -> Predictions:
    """Candidates and snippet scores of ``videos`` from ``network``.

    ``labels``: the network's classes, by default the dataset's. Proposals without classes get those of the
    dataset's video-level scores, unless they may stay ``classless``; raises InputError if it has none.
    """
    network.eval()
    predictions = Predictions(list(dataset.labels if labels is None else labels))
    class_scores = None
    for done, video in enumerate(videos):
        if progress:
            progress(done, len(videos), "detecting")
        grid = dataset.grid(video)
        found, scores = _predict(network, dataset.features(video), grid, device)
        found = replace(found, end=_end(found.end, dataset.duration(video), grid.stride))
        if is_classless(found) and not classless:
            class_scores = class_scores or dataset.class_scores(videos, predictions.labels)
            found = with_classes(found, class_scores.of(video), cast(ProposerConfig, network.config), video)
        predictions.candidates[video] = found
        if scores is not None:
            predictions.snippet_scores[video] = (scores.astype(np.float16), grid)
    if progress:
        progress(len(videos), len(videos), "detecting")
    return predictions


def predict_dataset(
    home: Path,
    run: os.PathLike,
    dataset: str,
    *,
    subset: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, Predictions]:
    """Detections of a dataset's ``subset`` (its evaluation subset by default) and what they come from.

    Raises:
        InputError: if the run has no usable weights, or the features differ from those it was trained on.
    """
    model = load_model(run, device=device)
    data = open_dataset(home, dataset, progress)
    check_features(data.num_features, model.info, where=f"dataset {dataset}")
    videos = data.videos(subset or data.evaluation_subset)
    # The run's classes, in the run's order: another dataset may have others.
    predictions = predict_videos(model.network, data, videos, model.device, progress, model.info.labels)
    table = post_process_predictions(predictions.candidates, model.info.labels, suppression(model.config))
    return table, predictions


def predict_features(
    run: os.PathLike | TrainedModel,
    features: np.ndarray,
    grid: TimeGrid | None = None,
    *,
    video_id: str = "video",
    class_scores: np.ndarray | None = None,
    device: str = "auto",
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Detections in one ``(T, D)`` array of features, and ``(T, K)`` snippet scores if the method has any.

    ``grid`` says where the snippets lie in time; by default as in the training features. ``class_scores``
    ``(K,)``: the video's own, for runs whose proposals need them.

    Raises:
        InputError: if the array is no finite ``(T, D)`` table, or D differs from the training features.
    """
    model = run if isinstance(run, TrainedModel) else load_model(run, device=device)
    features = np.asarray(features)
    if features.ndim != 2 or len(features) == 0 or features.dtype.kind not in "fiu":
        what = f"features have shape {features.shape} and type {features.dtype}"
        raise InputError(what, where=video_id, hint="Give numbers of shape (snippets, channels).")
    check_features(features.shape[1], model.info, where=video_id)
    if not np.isfinite(features).all():
        raise InputError(
            "features contain NaN or infinite values", where=video_id, hint="Extract them again."
        )
    found, scores = _predict(model.network, features, grid or model.info.grid, model.device)
    if is_classless(found):
        found = with_classes(found, class_scores, cast(ProposerConfig, model.config), video_id)
    table = post_process_predictions({video_id: found}, model.info.labels, suppression(model.config))
    return table, scores


def check_features(num_features: int, info: WeightsInfo, where: str) -> None:
    """Raise InputError unless the features have as many channels as the run was trained on."""
    if num_features != info.num_features:
        what = f"features have {num_features} channels, but the run was trained on {info.num_features}"
        raise InputError(what, where=where, hint="Use features of the same extractor as in training.")


def _end(of_features: float, duration: float, step: float) -> float:
    """Where detections are cut: at the end of the video as stated, unless features go on well beyond it."""
    return duration if of_features <= duration + step else of_features


@torch.inference_mode()
def _predict(
    network: nn.Module, features: np.ndarray, grid: TimeGrid, device: torch.device
) -> tuple[Candidates, np.ndarray | None]:
    tensor = torch.from_numpy(np.array(features, dtype=np.float32)).to(device)
    found, scores = cast(Model, network).candidates(tensor, grid)
    return found, None if scores is None else scores.float().cpu().numpy()
