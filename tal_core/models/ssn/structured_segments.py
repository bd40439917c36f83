"""The arithmetic of structured segment networks (SSN; Zhao et al., ICCV 2017), without a network.

    proposals and ground truth -> kinds (foreground, incomplete, background), labels, regression targets
    a proposal and its context -> snippets of its starting, course and ending stage
    features of those snippets -> structured temporal pyramid pooling (STPP)
    scores of every snippet    -> the same pooling after the heads, for testing
    outputs of the heads       -> losses
    pooled scores              -> class scores, suppression, moved boundaries

Numbers equal the authors' implementation (yjxiong/action-detection). A frame there is the finest unit of time
a proposal is cut to; here that is whatever the positions count.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.shared.class_head import pairwise_iou

FOREGROUND, INCOMPLETE, BACKGROUND, UNUSED = 0, 1, 2, -1
CONTEXT = 0.5  # a starting or ending stage is this part of the proposal's length (the paper's section 3.1)


class Named(NamedTuple):
    """What each of N proposals overlaps: its action's ``label`` from 1 (0: none), ``iou`` and ``overlap``.

    ``overlap`` is the part of the proposal that this action covers. ``action`` (N,) is the action's row.
    """

    label: torch.Tensor
    iou: torch.Tensor
    overlap: torch.Tensor
    action: torch.Tensor


def name_proposals(proposals: torch.Tensor, actions: torch.Tensor, classes: torch.Tensor) -> Named:
    """Give each proposal ``(N, 2)`` the action of highest tIoU; ``actions`` (M, 2), ``classes`` from 0."""
    if len(actions) == 0:
        nothing = proposals.new_zeros(len(proposals))
        return Named(nothing.long(), nothing, nothing, nothing.long())
    iou, action = pairwise_iou(proposals, actions).max(dim=1)
    best = actions[action]
    shared = torch.minimum(proposals[:, 1], best[:, 1]) - torch.maximum(proposals[:, 0], best[:, 0])
    overlap = shared.clamp(min=0) / (proposals[:, 1] - proposals[:, 0])
    return Named(torch.where(iou > 0, classes[action] + 1, 0), iou, overlap, action)


class KindRules(NamedTuple):
    """Bounds of the three kinds of training proposals, all strict (section 4.3 and the authors' configs)."""

    foreground_iou: float = 0.7
    incomplete_iou: float = 0.3
    incomplete_overlap: float = 0.01
    background_iou: float = 0.01
    background_coverage: float = 0.02


def proposal_kinds(
    iou: torch.Tensor, overlap: torch.Tensor, coverage: torch.Tensor, rules: KindRules
) -> torch.Tensor:
    """``(N,)`` kinds of proposals; ``coverage`` is their length in that of the video."""
    kinds = torch.full(iou.shape, UNUSED, device=iou.device)
    kinds[(iou < rules.background_iou) & (coverage > rules.background_coverage)] = BACKGROUND
    kinds[(iou < rules.incomplete_iou) & (overlap > rules.incomplete_overlap)] = INCOMPLETE
    kinds[iou > rules.foreground_iou] = FOREGROUND
    return kinds


def regression_targets(proposals: torch.Tensor, actions: torch.Tensor, frame: float = 0.0) -> torch.Tensor:
    """``(N, 2)`` shift of the centre in proposal lengths, and log ratio of the lengths, for paired rows.

    ``frame`` is added to lengths whose ends are the numbers of a first and last frame.
    """
    size = proposals[:, 1] - proposals[:, 0] + frame
    wanted = actions[:, 1] - actions[:, 0] + frame
    shift = (actions.sum(dim=1) - proposals.sum(dim=1)) / 2 / size
    return torch.stack([shift, torch.log(wanted / size)], dim=1)


def proposal_snippets(
    frames: torch.Tensor,
    num_frames: torch.Tensor,
    counts: Sequence[int],
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frame numbers, from 1, of the snippets that stand for proposals, and their context's scaling.

    ``frames`` (N, 2) int64 starts and ends, ``num_frames`` (N,) of their videos, ``counts`` the snippets of
    the three stages. Returns (N, sum(counts)) int64 and (N, 2) float32: how much of the starting and of the
    ending stage the video shows. Snippets are spread evenly; with a ``generator`` each lies anywhere in
    its share of the stage, as in training.
    """
    first, last = frames[:, 0] + 1, frames[:, 1]
    size = last - first + 1
    reach = (size * CONTEXT).long()
    begin = (first - reach).clamp(min=1)
    end = torch.minimum(num_frames, last + reach)
    lengths = torch.stack([first - begin, size - 1, end - last], dim=1)
    starts = torch.stack([begin, first, last], dim=1)
    offsets = [
        _even_offsets(lengths[:, stage], count)
        if generator is None
        else _random_offsets(lengths[:, stage], count, generator)
        for stage, count in enumerate(counts)
    ]
    places = torch.cat([starts[:, stage, None] + offset for stage, offset in enumerate(offsets)], dim=1)
    scaling = lengths[:, [0, 2]] / (size * CONTEXT)[:, None]
    return torch.minimum(places, num_frames[:, None]), scaling.float()


def _even_offsets(length: torch.Tensor, count: int) -> torch.Tensor:
    """``(N, count)`` middles of equal shares of stages of ``length`` (N,); 0 where frames are too few."""
    share = length.double()[:, None] / count
    offsets = (share / 2 + share * torch.arange(count)).long()
    return torch.where(length[:, None] > count, offsets, 0)


def _random_offsets(length: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """``(N, count)`` a random place in each whole-numbered share; 0 where a share would be less than 1."""
    share = (length[:, None] + 1) // count
    drawn = torch.rand(len(length), count, generator=generator)
    offsets = share * torch.arange(count) + (drawn * share).long()
    return torch.where(share > 0, offsets, 0)


class PyramidLayout(NamedTuple):
    """Parts of the starting, course and ending stage, such as ``((1,), (1, 2), (1,))``."""

    starting: tuple[int, ...]
    course: tuple[int, ...]
    ending: tuple[int, ...]

    @property
    def slots(self) -> int:
        return sum(map(sum, self))


class PyramidPooling(nn.Module):
    """STPP over sampled snippets: a fixed linear map from snippets to slots (section 3.2)."""

    weights: torch.Tensor
    stage: torch.Tensor

    def __init__(self, layout: PyramidLayout, counts: Sequence[int]):
        super().__init__()
        rows, stages, begin = [], [], 0
        for stage, (parts, count) in enumerate(zip(layout, counts, strict=True)):
            for number in parts:
                edges = [int(piece * (count / number)) for piece in range(number + 1)]
                for left, right in pairwise(edges):
                    row = torch.zeros(sum(counts))
                    row[begin + left : begin + right] = 1 / (right - left) / sum(parts)
                    rows.append(row)
                    stages.append(stage)
            begin += count
        self.course = slice(counts[0], counts[0] + counts[1])
        self.register_buffer("weights", torch.stack(rows), persistent=False)
        self.register_buffer("stage", torch.tensor(stages), persistent=False)

    def forward(self, snippets: torch.Tensor, scaling: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(N, S, D)`` and context scaling (N, 2) -> mean of the course (N, D), pyramid (N, slots * D)."""
        factors = torch.stack([scaling[:, 0], torch.ones_like(scaling[:, 0]), scaling[:, 1]], dim=1)
        pooled = torch.matmul(self.weights, snippets) * factors[:, self.stage, None]
        return snippets[:, self.course].mean(dim=1), pooled.flatten(1)


def structured_losses(
    outputs: Sequence[torch.Tensor],
    labels: torch.Tensor,
    kinds: torch.Tensor,
    targets: torch.Tensor,
    blocks: int,
    hard_ratio: float,
) -> dict[str, torch.Tensor]:
    """The three losses (section 4.2) of N proposals, in float32.

    ``outputs``: activity (N, K + 1), completeness (N, K), regression (N, K, 2). ``labels`` (N,) from 1, 0 for
    background; ``kinds`` (N,); ``targets`` (N, 2) normalised. Incomplete proposals come in ``blocks`` equal
    runs, one a video; of each only the hardest count.
    """
    activity, completeness, regression = (output.float() for output in outputs)
    foreground, incomplete = kinds == FOREGROUND, kinds == INCOMPLETE
    own = (labels - 1).clamp(min=0)
    rated = foreground | (kinds == BACKGROUND)
    entropy = F.cross_entropy(activity, labels, reduction="none")
    signed = completeness.gather(1, own[:, None]).squeeze(1)
    positive = (torch.relu(1 - signed) * foreground).sum()
    negative = torch.relu(1 + signed[incomplete]).view(blocks, -1)
    mined = negative.topk(int(negative.shape[1] * hard_ratio), dim=1).values.sum()
    count = foreground.sum() + int(negative.numel() * hard_ratio)
    moved = regression.gather(1, own[:, None, None].expand(-1, 1, 2)).squeeze(1)
    distance = F.smooth_l1_loss(moved, targets, reduction="none").sum(dim=1)
    return {
        "activity": (entropy * rated).sum() / rated.sum().clamp(min=1),
        "completeness": (positive + mined) / count.clamp(min=1),
        "regression": (distance * foreground).sum() / foreground.sum().clamp(min=1),
    }


def whole_snippets(edges: torch.Tensor, length: int) -> torch.Tensor:
    """Edges cut to whole snippets, at least one."""
    start = edges[:, 0].floor().clamp(max=length - 1)
    return torch.stack([start, torch.maximum(edges[:, 1].floor(), start + 1)], dim=1)


def stage_ticks(segments: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stages of proposals on ``length`` scored snippets: ``(N, 4)`` int64 ticks and ``(N, 2)`` scaling.

    ``segments`` (N, 2) are relative to the video, float64.
    """
    start, end = segments.unbind(dim=1)
    reach = (end - start) * CONTEXT
    begin, stop = (start - reach).clamp(min=0.0), (end + reach).clamp(max=1.0)
    ticks = (torch.stack([begin, start, end, stop], dim=1) * length).long()
    return ticks, torch.stack([(start - begin) / reach, (stop - end) / reach], dim=1)


def pool_scores(
    scores: torch.Tensor, ticks: torch.Tensor, scaling: torch.Tensor, layout: PyramidLayout, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heads applied to every snippet, pooled over proposals: activity, completeness, regression.

    ``scores`` (T, K + 1 + slots * 3 K) of the merged layer: activity, completeness of each slot, regression
    of each slot. Sums over time make a piece cost the same however long it is. Returns (N, K + 1), (N, K)
    and (N, K, 2). As in the authors' code a slot isn't divided by the number of pieces of its stage.
    """
    length, slots = len(scores), layout.slots
    sums = torch.cat([scores.new_zeros(1, scores.shape[1]), scores.cumsum(dim=0, dtype=torch.float64)])
    first, last = ticks[:, 1], torch.maximum(ticks[:, 1] + 1, ticks[:, 2])
    first, last = first.clamp(max=length - 1), last.clamp(max=length)
    split = num_classes + 1, slots * num_classes, 2 * slots * num_classes
    activity_sums, completeness_sums, regression_sums = sums.split(split, dim=1)
    activity = (activity_sums[last] - activity_sums[first]) / (last - first)[:, None]
    by_slot = torch.cat(
        [completeness_sums.unflatten(1, (slots, -1)), regression_sums.unflatten(1, (slots, -1))], dim=2
    )
    left, right, weight = _pieces(ticks, scaling, layout, length)
    slot = torch.arange(slots, device=scores.device)
    pooled = ((by_slot[right, slot] - by_slot[left, slot]) * weight[:, :, None]).sum(dim=1).float()
    return activity.float(), pooled[:, :num_classes], pooled[:, num_classes:].unflatten(1, (num_classes, 2))


def _pieces(
    ticks: torch.Tensor, scaling: torch.Tensor, layout: PyramidLayout, length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where each slot of each proposal begins and ends, (N, slots), and what a snippet in it weighs."""
    lefts, rights, weights = [], [], []
    factors = (scaling[:, 0], torch.ones_like(scaling[:, 0]), scaling[:, 1])
    for stage, parts in enumerate(layout):
        left = ticks[:, stage]
        right = torch.maximum(left + 1, ticks[:, stage + 1])
        inside = (right > 0) & (left < length)
        for number in parts:
            edges = left[:, None] + (right - left)[:, None] / number * torch.arange(
                number + 1, device=ticks.device
            )
            edges = edges.double().long().clamp(0, length)
            size = edges.diff(dim=1)
            share = factors[stage][:, None] / size.clamp(min=1)
            lefts.append(edges[:, :-1])
            rights.append(edges[:, 1:])
            weights.append(torch.where(inside[:, None] & (size > 0), share, 0.0))
    return torch.cat(lefts, dim=1), torch.cat(rights, dim=1), torch.cat(weights, dim=1)


def class_scores(activity: torch.Tensor, completeness: torch.Tensor, background: bool) -> torch.Tensor:
    """``(N, K)``: softmax of activity ``(N, K + 1)`` times exp(completeness) ``(N, K)`` (equation 1).

    Column 0 of the activity is background: with ``background`` it takes part in the softmax.
    """
    chance = activity.softmax(dim=1)[:, 1:] if background else activity[:, 1:].softmax(dim=1)
    return chance * completeness.exp()


def suppress_per_class(
    segments: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Rows that hard NMS keeps, best first; what overlaps a better one of its class by more goes."""
    order = scores.argsort(descending=True, stable=True)
    placed, label = segments[order], labels[order]
    overlapping = (pairwise_iou(placed, placed) > threshold) & (label[:, None] == label)
    rival, alive = overlapping.cpu().numpy(), torch.ones(len(order), dtype=torch.bool).numpy()
    for row in range(len(order)):
        if alive[row]:
            alive[row + 1 :] &= ~rival[row, row + 1 :]
    return order[torch.from_numpy(alive).to(order.device)]


def move_boundaries(
    segments: torch.Tensor, regression: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """Segments ``(N, 2)`` moved by shift and log ratio ``(N, 2)`` and cut to ``low``..``high``."""
    size = segments[:, 1] - segments[:, 0]
    centre = segments.mean(dim=1) + size * regression[:, 0]
    reach = size * regression[:, 1].exp() / 2
    return torch.stack([centre - reach, centre + reach], dim=1).clamp(low, high)


def only_classes(scores: torch.Tensor, video: torch.Tensor, number: int) -> torch.Tensor:
    """``(N, K)`` scores, -1 for all but the ``number`` classes with the highest ``video`` (K,) scores."""
    kept = video.topk(min(number, len(video))).indices
    only = torch.full_like(scores, -1.0)
    only[:, kept] = scores[:, kept]
    return only


def detect(
    segments: torch.Tensor,
    scores: torch.Tensor,
    regression: torch.Tensor,
    most: int | None,
    first_nms: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detections of one video, best first: segments moved by their class's regression, scores, labels.

    ``segments`` (N, 2) relative to the video, ``scores`` (N, K), below 0 for none, ``regression`` (N, K, 2).
    The ``most`` best pairs of proposal and class stay (all if None), NMS sees them where they were proposed.
    """
    values, pairs = scores.flatten().sort(descending=True, stable=True)
    pairs = pairs[values >= 0][:most]
    row, label = pairs // scores.shape[1], pairs % scores.shape[1]
    if first_nms is not None:
        kept = suppress_per_class(segments[row], scores[row, label], label, first_nms)
        row, label = row[kept], label[kept]
    moved = move_boundaries(segments[row], regression[row, label].to(segments), 0.0, 1.0)
    return moved, scores[row, label], label
