"""Segments from snippet scores: stretches above several thresholds, scored by how much they stand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field

from tal_core.models.config import MethodConfig, setting
from tal_core.models.method import Candidates
from tal_core.types import TimeGrid


class GroupingConfig(MethodConfig):
    """Settings of methods that group snippet scores into segments."""

    thresholds: list[Annotated[float, Field(gt=0, lt=1)]] = setting(
        [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "Snippet scores above each of these are grouped into segments.",
        "Detection",
        min_length=1,
        max_length=50,
    )
    contrast: float = setting(
        0.6, "How much high scores just outside a segment count against it.", "Detection", ge=0, le=1
    )


def grouped(scores: torch.Tensor, grid: TimeGrid, config: GroupingConfig) -> Candidates:
    """Candidates of one video from its ``(T, K)`` snippet scores."""
    positions, values, labels = group(scores.cpu().double(), config.thresholds, config.contrast)
    best = torch.argsort(values, descending=True, stable=True)[: config.max_candidates]
    return Candidates(
        segments=grid.seconds(positions[best].numpy()).astype("float32"),
        scores=values[best].float().numpy(),
        labels=labels[best].numpy(),
    )


def group(
    scores: torch.Tensor, thresholds: Sequence[float], contrast: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stretches of snippets whose class score stays at or above a threshold.

    Ends lie where the score, drawn as a line between snippet centres, crosses the threshold. The score of
    a stretch is the mean inside it less ``contrast`` times the mean in its flanks, each as long as itself
    (the outer-inner contrast of Shou et al., AutoLoc, ECCV 2018). Without it every peak of a ragged action
    would outscore the action as a whole.

    Args:
        scores: ``(T, K)`` snippet scores, float64, on the CPU.

    Returns:
        ``(N, 2)`` grid positions, ``(N,)`` scores and ``(N,)`` classes.
    """
    by_class = scores.T.contiguous()
    positions, labels = [], []
    for threshold in thresholds:
        inside = F.pad((by_class >= threshold).to(torch.int8), (1, 1)).diff(dim=1)
        label, first = torch.nonzero(inside == 1, as_tuple=True)
        last = torch.nonzero(inside == -1, as_tuple=True)[1] - 1
        start = first - _crossing(by_class, label, first, first - 1, threshold)
        end = last + _crossing(by_class, label, last, last + 1, threshold)
        positions.append(torch.stack([start, end], dim=1))
        labels.append(label)
    segments, label = torch.cat(positions), torch.cat(labels)
    start, end = segments.unbind(dim=1)
    length = (end - start).clamp(min=1e-3)
    flank = length.clamp(min=1)
    sums = F.pad(by_class.cumsum(dim=1), (1, 0))
    marks = [_integral(sums, label, at) for at in (start - flank, start, end, end + flank)]
    average = (marks[2] - marks[1]) / length
    around = (marks[1] - marks[0] + marks[3] - marks[2]) / (2 * flank)
    return segments, (average - contrast * around).clamp(min=0), label


def _integral(sums: torch.Tensor, label: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Sum of a class's scores from the start of the video to a grid position, from ``(K, T + 1)`` sums."""
    length = sums.shape[1] - 1
    place = (position + 0.5).clamp(0, length)
    whole = place.long().clamp(max=length - 1)
    before, after = sums[label, whole], sums[label, whole + 1]
    return before + (place - whole) * (after - before)


def _crossing(
    by_class: torch.Tensor,
    label: torch.Tensor,
    inside: torch.Tensor,
    outside: torch.Tensor,
    threshold: float,
) -> torch.Tensor:
    """How far from the snippet ``inside`` towards its neighbour ``outside`` the score meets the threshold.

    Half a snippet at the ends of the video, where there is no neighbour.
    """
    last = by_class.shape[1] - 1
    high, low = by_class[label, inside], by_class[label, outside.clamp(0, last)]
    return torch.where(
        (outside < 0) | (outside > last), 0.5, (high - threshold) / (high - low).clamp(min=1e-9)
    )
