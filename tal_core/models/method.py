"""What the training loop and inference know of a method, whatever its network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import DataSummary
from tal_core.types import TimeGrid


class VideoClasses(NamedTuple):
    """The likeliest classes of a video: ``labels`` (C,) int64 class indices and ``scores`` (C,) float32.

    A proposal becomes one detection of each, scored by the ``product`` of both scores or its square ``root``.
    """

    labels: np.ndarray
    scores: np.ndarray
    fusion: str = "product"


@dataclass(frozen=True)
class Candidates:
    """Scored segments of one video before NMS, best first.

    ``segments`` (N, 2) float32 seconds, ``scores`` (N,) float32, ``labels`` (N,) int64 class indices, all
    -1 for proposals, which get ``classes`` after NMS. Detections are cut at 0 and at ``end`` seconds, after
    NMS: candidates that reach beyond overlap each other as they are.
    """

    segments: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    end: float = math.inf
    classes: VideoClasses | None = None

    def __len__(self) -> int:
        return len(self.scores)


class Model(Protocol):
    """A network that can be trained and asked for candidates.

    ``features`` (B, T, D) are videos padded to one length, real where ``mask`` (B, T) is true; ``segments``
    and ``labels`` list each video's ground truth, ``(N, 2)`` float32 grid positions and ``(N,)`` classes.
    """

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Any:
        """What the network says of the videos: a NamedTuple of tensors, described in the method's file."""

    def targets(self, outputs: Any, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> Any:
        """What it should have said of what is in ``outputs``: a tensor, or a NamedTuple of them."""

    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        """Scalar loss terms of one batch; ``"loss"`` is the one to minimise."""

    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor | None]:
        """Candidates of one video from its ``(T, D)`` features, and ``(T, K)`` snippet scores if any."""


class Sampler(Protocol):
    """Training batches, reproducible step by step."""

    def epoch(self, epoch: int, generator: torch.Generator) -> Sequence[Any]:
        """The batches of one epoch (counted from 0): known length, ``[step]`` reads one batch.

        All order is drawn from ``generator`` here and random changes to a batch depend on its position
        alone, so that a run stopped inside an epoch continues with the very next batch. A batch is a
        dict, list or tuple of tensors. It is made in a background thread, so that it may neither touch the
        network nor torch's own random state; if it must, the sequence's ``needs_network`` is true. A method
        trained in stages gives different batches in different epochs.
        """


class Suggestion(NamedTuple):
    """A setting derived from the data, and one line that says why."""

    value: Any
    reason: str


def lays_out_by_length(form: str) -> str:
    """Why most networks can't be exported."""
    return f"lays out a video by its length while it runs, which {form} doesn't keep"


@dataclass(frozen=True)
class Method:
    """All that the rest of the program knows of a method: one entry of the registry.

    ``build(config, num_features, num_classes)`` makes the network; ``sampler(model, dataset, config)``
    its training batches; ``prepare(model, dataset, config)`` sets what the network takes from the
    training data, such as the features' mean, once before the first epoch. ``suggest(summary)`` gives the
    settings that suit a dataset, by field; ``check(config, summary)`` says in a line each what will go
    badly on it.

    ``online``: its network carries a state from snippet to snippet (``zero_state(streams)`` and
    ``advance(features, state)``) and scores a stream as it comes; any other runs over a sliding buffer.
    ``not_exportable(form)`` says why the network can't be exported in a format ("torch-export"), as the rest
    of a sentence that begins with the method's name; None if it can. ``from_reference`` brings the weights
    of the authors' program under the names of this one, where their checkpoints can be imported.
    """

    name: str
    title: str
    summary: str
    reference: str
    config: type[MethodConfig]
    build: Callable[[Any, int, int], nn.Module]
    sampler: Callable[[nn.Module, FeatureDataset, Any], Sampler]
    prepare: Callable[[nn.Module, FeatureDataset, Any], None] = lambda model, dataset, config: None
    suggest: Callable[[DataSummary], dict[str, Suggestion]] = lambda summary: {}
    check: Callable[[Any, DataSummary], list[str]] = lambda config, summary: []
    online: bool = False
    not_exportable: Callable[[str], str | None] = lays_out_by_length
    from_reference: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None
