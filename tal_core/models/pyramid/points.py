"""What the cells of a feature pyramid are trained on and what they detect.

Shared by the anchor-free methods (Zhang et al., ActionFormer, ECCV 2022, section 3.3): a cell is a point in
time that classifies the action around it and regresses the distances to its start and end.

    training    points matched with ground truth -> class and distance targets -> focal and distance-IoU loss
    inference   points above a score -> scored segments = candidates

Positions count snippets of the finest level; cell ``i`` of level ``l`` is the point ``i * 2**l``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from tal_core.models.method import Candidates
from tal_core.models.pyramid.blocks import Cells
from tal_core.models.pyramid.config import PyramidConfig
from tal_core.types import TimeGrid

LENGTH_TOLERANCE = 1e-3  # segments whose lengths differ by less, in snippets, count as equally short


class Points(NamedTuple):
    """The moments that cells stand for, ``(P,)`` each: position on the feature grid, stride of the level, and
    the nearest and farthest segment end that it is trained on."""

    position: torch.Tensor
    stride: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def points(cells: Cells, ranges: Sequence[tuple[float, float]]) -> Points:
    """The moments that cells stand for; ``ranges`` of each level."""
    rows = torch.tensor([[2.0**n, *bounds] for n, bounds in enumerate(ranges)], device=cells.level.device)
    return Points(cells.position.float(), *rows[cells.level].unbind(1))


def pad_segments(
    segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ground truth of ``B`` videos as ``(B, M, 2)`` and ``(B, M)``; what is added has no length."""
    empty = segments[0].new_zeros(1, 2)
    padded = pad_sequence([*segments, empty], batch_first=True)[:-1]
    classes = pad_sequence([*labels, labels[0].new_zeros(1)], batch_first=True)[:-1]
    return padded, classes


class Assignment(NamedTuple):
    """Which segments are candidates of which points.

    ``candidates`` (..., P, M) bool; ``shortest`` (..., P) index of the shortest candidate; ``distances``
    (..., P, M, 2) to the start and the end of every segment, in snippets.
    """

    candidates: torch.Tensor
    shortest: torch.Tensor
    distances: torch.Tensor


def match(where: Points, segments: torch.Tensor, radius: float | None) -> Assignment:
    """Match points with segments (ActionFormer, section 3.3).

    A segment is a candidate of a point that lies strictly inside its part within ``radius`` strides of its
    centre and whose farther end is in the range of the point's level, if it is as short as the shortest such.

    Args:
        segments: ``(..., M, 2)`` grid positions that broadcast against ``(P, M, 2)``.
    """
    start, end = segments.unbind(-1)
    position = where.position.unsqueeze(-1)
    left, right = position - start, end - position
    inside = torch.minimum(left, right) > 0
    if radius is not None:
        reach = where.stride.unsqueeze(-1) * radius
        centre = 0.5 * (start + end)
        inside &= (position > centre - reach) & (position < centre + reach)
    farther = torch.maximum(left, right)
    inside &= (farther >= where.low.unsqueeze(-1)) & (farther <= where.high.unsqueeze(-1))
    length = (end - start).expand(inside.shape).masked_fill(~inside, math.inf)
    least, shortest = length.min(dim=-1)
    candidates = inside & (length <= least.unsqueeze(-1) + LENGTH_TOLERANCE)
    return Assignment(candidates, shortest, torch.stack([left, right], dim=-1))


def class_targets(candidates: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``(..., P, K)`` of 0 and 1: the classes ``labels`` (..., M) of each point's candidates."""
    targets = torch.zeros(*candidates.shape[:-1], num_classes, device=candidates.device)
    return targets.scatter_reduce_(-1, labels.expand(candidates.shape), candidates.to(targets.dtype), "amax")


@torch.no_grad()
def assign(
    where: Points, segments: torch.Tensor, labels: torch.Tensor, radius: float | None, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of points: classes ``(..., P, K)`` of 0 and 1, and distances ``(..., P, 2)`` in strides.

    ``segments`` (..., M, 2) and ``labels`` (..., M) broadcast against the points: ``(B, 1, M, 2)`` for points
    that all videos share, ``(P, M, 2)`` where every point has its own video. Distances mean something only
    where a class target is 1.
    """
    matches = match(where, segments, radius)
    classes = class_targets(matches.candidates, labels, num_classes)
    index = matches.shortest[..., None, None].expand(*matches.shortest.shape, 1, 2)
    distances = matches.distances.gather(-2, index).squeeze(-2)
    return classes, distances / where.stride.unsqueeze(-1)


def focal_loss(
    logits: torch.Tensor, targets: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """Sigmoid focal loss of each entry, in float32 (Lin et al., ICCV 2017, eq. 5)."""
    logits = logits.float()
    chance = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = chance + targets - 2 * chance * targets
    return (1 - alpha + (2 * alpha - 1) * targets) * entropy * wrong**gamma


def distance_iou(distances: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """tIoU of segments given by ``(..., 2)`` distances from common points."""
    shared = torch.minimum(distances, targets).sum(-1)
    return shared / ((distances + targets).sum(-1) - shared).clamp(min=1e-8)


def distance_iou_loss(distances: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - IoU + (centre distance / enclosing length)^2 of ``(..., 2)`` distances from common points.

    Zheng et al., Distance-IoU Loss, AAAI 2020, eq. 7, in one dimension; computed in float32.
    """
    distances = distances.float()
    enclosing = torch.maximum(distances, targets).sum(-1)
    offset = 0.5 * ((distances - targets) * distances.new_tensor([-1.0, 1.0])).sum(-1)
    return 1 - distance_iou(distances, targets) + (offset / enclosing.clamp(min=1e-8)) ** 2


def smooth(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Class targets ``(..., K)`` drawn towards 1 / (K + 1)."""
    return targets * (1 - smoothing) + smoothing / (targets.shape[-1] + 1) if smoothing else targets


class LossNormaliser(nn.Module):
    """Running mean of the number of positive points, by which loss sums are divided."""

    value: torch.Tensor

    def __init__(self, initial: float, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.tensor(float(initial)))

    @torch.no_grad()
    def update(self, positives: torch.Tensor) -> torch.Tensor:
        """Count in the positives of one batch (a scalar tensor); returns the new mean."""
        self.value.lerp_(positives.to(self.value.dtype).clamp(min=1), 1 - self.momentum)
        return self.value.clone()


def weighted_total(
    classification: torch.Tensor, regression: torch.Tensor, weight: float
) -> dict[str, torch.Tensor]:
    """The loss terms and their sum; a weight of 0 or less balances the two."""
    balance = weight if weight > 0 else (classification / regression.clamp(min=0.01)).detach()
    return {
        "loss": classification + balance * regression,
        "classification": classification,
        "regression": regression,
    }


class Best(NamedTuple):
    """The best ``scores`` of a level and their ``cells`` and ``labels``, ``(N,)`` each, best first."""

    scores: torch.Tensor
    cells: torch.Tensor
    labels: torch.Tensor


def best_cells(logits: torch.Tensor, config: PyramidConfig) -> Best:
    """Which cells and classes of a level, by their ``(T, K)`` logits, give candidates."""
    num_classes = logits.shape[1]
    scores, index = logits.float().sigmoid().flatten().topk(min(config.max_candidates, logits.numel()))
    index = index[scores > config.min_candidate_score]
    cell = torch.div(index, num_classes, rounding_mode="floor")
    return Best(scores[: len(index)], cell, index - cell * num_classes)


class Decoded(NamedTuple):
    """Candidates on the feature grid: ``segments`` (N, 2), ``scores`` (N,), ``labels`` (N,)."""

    segments: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor

    def rows(self, index: torch.Tensor) -> Decoded:
        return Decoded(*(part[index] for part in self))


def to_segments(best: Best, distances: torch.Tensor, level: int, config: PyramidConfig) -> Decoded:
    """Candidates of a level from its best cells and their ``(N, 2)`` distances in its strides."""
    stride = 2.0**level
    reach, position = distances.float() * stride, best.cells * stride
    segments = torch.stack([position - reach[:, 0], position + reach[:, 1]], dim=1)
    long_enough = segments[:, 1] - segments[:, 0] > config.min_length
    return Decoded(segments, best.scores, best.labels).rows(long_enough)


class Window(NamedTuple):
    """Snippets ``begin`` to ``end`` of a video, of which those from ``first`` to ``last`` are its own."""

    begin: int
    end: int
    first: int
    last: int


def windows(length: int, config: PyramidConfig) -> list[Window]:
    """Windows of a video of ``length`` snippets, overlapping by half; a short video is one.

    A window's own is its middle half; the first and last have also what is before and behind it.
    """
    size = config.detection_window
    if size is None or length <= size:
        return [Window(0, length, 0, length)]
    begins = range(0, length - size // 2, size // 2)
    return [
        Window(
            begin,
            begin + size,
            begin + size // 4 if begin else 0,
            begin + 3 * size // 4 if begin < begins[-1] else length,
        )
        for begin in begins
    ]


def join_windows(
    parts: Sequence[Window], decoded: Sequence[Sequence[Decoded]], logits: Sequence[Sequence[torch.Tensor]]
) -> tuple[list[Decoded], list[torch.Tensor]]:
    """Candidates and ``(T_l, K)`` logits of a video, level by level, from those of its windows.

    Of each window those count whose centre is its own.
    """
    if len(parts) == 1:
        return list(decoded[0]), list(logits[0])
    own = [
        [_own(level, window, parts[-1].last) for level in levels]
        for window, levels in zip(parts, decoded, strict=True)
    ]
    cut = [
        [
            level[(window.first - window.begin) // 2**n : -(-(window.last - window.begin) // 2**n)]
            for n, level in enumerate(levels)
        ]
        for window, levels in zip(parts, logits, strict=True)
    ]
    return (
        [Decoded(*map(torch.cat, zip(*levels, strict=True))) for levels in zip(*own, strict=True)],
        [torch.cat(levels) for levels in zip(*cut, strict=True)],
    )


def _own(candidates: Decoded, window: Window, length: int) -> Decoded:
    """A window's candidates on the video's grid, as far as their centre is its own."""
    segments = candidates.segments + window.begin
    centre = segments.mean(dim=1).clamp(0, length - 1)
    return candidates._replace(segments=segments).rows((centre >= window.first) & (centre < window.last))


def to_candidates(levels: Sequence[Decoded], grid: TimeGrid, end: float, config: PyramidConfig) -> Candidates:
    """Candidates of all levels, best first, in seconds; detections are cut at ``end``.

    They may reach beyond: the references suppress them as they are and cut what is left.
    """
    segments, scores, labels = (torch.cat(parts).cpu() for parts in zip(*levels, strict=True))
    order = scores.argsort(descending=True, stable=True)
    if config.opentad:
        order = order[: config.max_candidates]
    if config.classes == "agnostic":
        labels = labels - 1  # of the one class 0: proposals
    seconds = grid.seconds(segments[order].double()).float().numpy()
    return Candidates(seconds, scores[order].numpy(), labels[order].numpy(), end)


def snippet_scores(logits: Sequence[torch.Tensor], length: int) -> torch.Tensor:
    """``(length, K)``: the best score that any level's cell at a snippet gives each class."""
    best = logits[0][:length].float()
    for level, scores in enumerate(logits[1:], start=1):
        best = torch.maximum(best, scores.float().repeat_interleave(2**level, dim=0)[:length])
    return best.sigmoid()
