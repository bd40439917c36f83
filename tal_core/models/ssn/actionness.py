"""Temporal actionness grouping (TAG): proposals from how much each snippet looks like an action.

Section 5 of SSN (Zhao et al., ICCV 2017). A small network rates every snippet; stretches above a threshold
are basins, and neighbouring basins are joined as long as the gaps take no more than a tolerated part of the
whole. Many thresholds and tolerances give proposals from strict to generous, NMS removes near copies.

Where actions follow each other without a gap one actionness can't part them. ``classwise`` rates every class
and groups within each; the proposals stay class-agnostic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.config import MethodConfig, setting
from tal_core.models.method import Candidates, Method
from tal_core.models.shared.class_head import DilatedBlock, pad_truth
from tal_core.models.shared.clips import ClipSampler
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.types import TimeGrid

# Of the authors' proposal script.
THRESHOLDS = (0.01, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TOLERANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


class ActionnessConfig(MethodConfig):
    """Settings of actionness grouping."""

    classwise: bool = setting(False, "Rate and group each class by itself.", "Network")
    channels: int = setting(64, "Channels of the network.", "Network", ge=4, le=2048)
    layers: int = setting(3, "Dilated convolutions; each doubles how far it sees.", "Network", ge=0, le=12)
    dropout: float = setting(0.3, "Share of channels left out in training.", "Network", ge=0, lt=1)
    sequence_length: int = setting(2304, "Longest training clip in snippets.", "Windows", ge=2, le=100_000)
    copy_iou: float = setting(
        0.9, "tIoU above which a proposal is a copy of another.", "Detection", gt=0, le=1
    )


class Outputs(NamedTuple):
    """``logits`` (B, T, G) of snippets, real where ``mask`` (B, T); G = 1 or the number of classes."""

    logits: torch.Tensor
    mask: torch.Tensor


class Actionness(Normalised):
    """Features -> dilated convolutions -> actionness of every snippet, of all classes or of each."""

    def __init__(self, config: ActionnessConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config = config
        self.embed = nn.Conv1d(num_features, config.channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            DilatedBlock(config.channels, 2**layer, config.dropout) for layer in range(config.layers)
        )
        self.output = nn.Conv1d(config.channels, num_classes if config.classwise else 1, 1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)`` and (B, T) -> logits ``(B, T, G)``, G = 1 or the number of classes."""
        real = mask[:, None].to(features.dtype)
        normalised = self.normalise(features).clamp(-10, 10)
        hidden = torch.relu(self.embed(normalised.transpose(1, 2) * real)) * real
        for block in self.blocks:
            hidden = block(hidden, real)
        return self.output(hidden).transpose(1, 2)

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Binary cross-entropy over the snippets of a batch of ``clips.ClipSampler``."""
        outputs = self.outputs(batch["features"], batch["mask"])
        targets = self.targets(outputs, batch["segments"], batch["labels"])
        logits, mask = outputs
        return {"loss": F.binary_cross_entropy_with_logits(logits.float()[mask], targets[mask])}

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits of videos ``(B, T, D)``, real where ``mask`` (B, T) is true."""
        return Outputs(self(features, mask), mask)

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """``(B, T, G)`` of 0 and 1: whether an action covers the centre of a snippet."""
        logits, mask = outputs
        groups = logits.shape[2]
        truth, classes = pad_truth(segments, labels, background=-1)
        time = torch.arange(mask.shape[1], device=mask.device)[None, :, None]
        covers = (truth[:, None, :, 0] <= time) & (time < truth[:, None, :, 1])
        group = classes if groups > 1 else torch.where(classes >= 0, 0, -1)
        member = group[:, :, None] == torch.arange(groups, device=mask.device)
        return torch.matmul(covers.float(), member.float()).clamp(max=1)

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, None]:
        """Proposals of one video, label -1, best first."""
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        actionness = self(features[None], mask)[0].float().sigmoid().cpu().numpy()
        found = [group_actionness(column) for column in actionness.T]
        segments, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = distinct(segments, scores, self.config.copy_iou)[: self.config.max_candidates]
        return Candidates(
            segments=np.asarray(grid.seconds(segments[kept]), dtype=np.float32),
            scores=scores[kept].astype(np.float32),
            labels=np.full(len(kept), -1, dtype=np.int64),
        ), None


def group_actionness(
    actionness: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    tolerances: Sequence[float] = TOLERANCES,
) -> tuple[np.ndarray, np.ndarray]:
    """Grouped basins of ``(T,)`` actionness: ``(N, 2)`` grid positions and ``(N,)`` scores.

    A score is the mean actionness inside less that of flanks half as long. From each basin, grouping goes
    forwards, and from each backwards, until gaps take more than the tolerated part.
    """
    found = [np.zeros((0, 2))]
    for threshold in thresholds:
        rise, fall, start, end = _basins(actionness, threshold)
        if len(rise):
            below = np.concatenate([[0], np.cumsum(actionness < threshold)])
            for tolerance in tolerances:
                found.append(_grouped(rise, fall, start, end, below, tolerance))
    segments = np.unique(np.concatenate(found), axis=0)
    return segments, _contrast(actionness, segments)


def _basins(actionness: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    """First snippet and the one after the last of each basin, and where the line between snippets crosses."""
    edges = np.diff(np.concatenate([[0], actionness >= threshold, [0]]).astype(np.int8))
    rise, fall = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    start = rise - _crossing(actionness, rise, rise - 1, threshold)
    end = fall - 1 + _crossing(actionness, fall - 1, fall, threshold)
    return rise, fall, start, end


def _crossing(
    actionness: np.ndarray, inside: np.ndarray, outside: np.ndarray, threshold: float
) -> np.ndarray:
    """Part of the way from a snippet to its neighbour; half a snippet at the ends of the video."""
    last = len(actionness) - 1
    high, low = actionness[inside], actionness[outside.clip(0, last)]
    return np.where((outside < 0) | (outside > last), 0.5, (high - threshold) / np.maximum(high - low, 1e-9))


def _grouped(
    rise: np.ndarray,
    fall: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    below: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """``(2 n, 2)`` segments: the longest tolerable group from each basin forwards, and backwards."""
    count = len(rise)
    rows = np.arange(count)
    # Gaps up to a place, less the tolerated part of the time up to it: a group breaks where this has risen.
    ahead, behind = below[rise] - tolerance * rise, below[fall] - tolerance * fall
    breaks = (ahead[None, :] > ahead[:, None]) & (rows[None, :] > rows[:, None])
    last = np.where(breaks.any(axis=1), breaks.argmax(axis=1), count) - 1
    breaks = ((behind[None, :] < behind[:, None]) & (rows[None, :] < rows[:, None]))[:, ::-1]
    first = np.where(breaks.any(axis=1), count - breaks.argmax(axis=1), 0)
    return np.concatenate([np.stack([start, end[last]], axis=1), np.stack([start[first], end], axis=1)])


def _contrast(actionness: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Mean inside, less the mean over flanks of half the length, at least one snippet each."""
    sums = np.concatenate([[0.0], np.cumsum(actionness, dtype=np.float64)])
    start, end = segments.T + 0.5
    size = np.maximum(end - start, 1e-3)
    flank = np.maximum(size / 2, 1)
    marks = np.interp([start - flank, start, end, end + flank], np.arange(len(sums)), sums)
    inside = (marks[2] - marks[1]) / size
    return inside - (marks[1] - marks[0] + marks[3] - marks[2]) / (2 * flank)


def distinct(segments: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Rows by falling score, without those that overlap an earlier one by more than ``iou``."""
    order = np.argsort(-scores, kind="stable")
    start, end = segments[order].T
    alive = np.ones(len(order), bool)
    for row in range(len(order)):
        if alive[row]:
            rest = slice(row + 1, None)
            shared = np.minimum(end[row], end[rest]) - np.maximum(start[row], start[rest])
            union = (end[row] - start[row]) + (end[rest] - start[rest]) - shared
            alive[rest] &= shared <= iou * union
    return order[alive]


METHOD = Method(
    name="actionness",
    title="Temporal actionness grouping",
    summary="Proposals for SSN from grouped actionness.",
    reference="Zhao et al., Temporal Action Detection with Structured Segment Networks, ICCV 2017.",
    config=ActionnessConfig,
    build=Actionness,
    sampler=lambda model, dataset, config: ClipSampler(
        dataset, config.batch_size, config.sequence_length, keep=config.keep_features, device=config.device
    ),
    prepare=take_statistics,
)
