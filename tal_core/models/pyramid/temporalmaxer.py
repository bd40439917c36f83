"""TemporalMaxer: a feature pyramid of nothing but max pooling (Tang, Kim and Sohn, 2023).

Keeping the strongest response of three neighbouring snippets is all the temporal context modelling there is
(section 3.2); embedding, heads and decoding are ActionFormer's. Cells are labelled as there, but of all
segments around a cell the one that the present predictions fit best gives its distances, a simplified
optimal-transport assignment after YOLOX's SimOTA (Ge et al., 2021).

    features -> embedding -> max pooling, level by level -> neck norm -> heads -> logits, distances

The neck's group norm takes its statistics over a video padded to ``sequence_length``. The padding is
constant, so its share is computed instead of run: the same numbers at the cost of the real snippets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import nn

from tal_core.models.config import revised, setting
from tal_core.models.method import Method
from tal_core.models.pyramid.auto import check_pyramid, suggest_pyramid
from tal_core.models.pyramid.blocks import Heads, join_levels, padded_length, shared_from_reference
from tal_core.models.pyramid.config import PyramidConfig, sampler
from tal_core.models.pyramid.network import LossSums, Outputs, PyramidNetwork
from tal_core.models.pyramid.points import (
    LossNormaliser,
    Points,
    class_targets,
    distance_iou_loss,
    focal_loss,
    match,
    pad_segments,
    points,
    smooth,
)

NORM_GROUPS = 4
EPSILON = 1e-5


class TemporalMaxerConfig(PyramidConfig):
    """Settings of TemporalMaxer; defaults for THUMOS14."""

    epochs: int = revised("epochs", 65, "Passes over the training videos, warm-up included.")
    neck_norm: Literal["groupnorm", "layernorm"] = setting(
        "groupnorm",
        "Norm of the pyramid before the heads: over time and a quarter of the channels (THUMOS14), or over"
        " the channels of each cell (EPIC-Kitchens, MultiTHUMOS).",
        "Network",
    )
    class_cost: float = setting(
        1.0, "Weight of the class scores in what a cell's segment costs.", "Windows", ge=0, le=1000
    )
    distance_cost: float = setting(
        2.0, "Weight of the distances in what a cell's segment costs.", "Windows", ge=0, le=1000
    )
    keep_share: float = setting(
        1.0, "Share of the cells inside a segment, cheapest first, that count in full.", "Windows", ge=0, le=1
    )
    confuse_weight: float = setting(
        0.0, "What the other cells inside a segment count.", "Windows", ge=0, le=1
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.neck_norm == "groupnorm" and self.embed_dim % NORM_GROUPS:
            raise ValueError(
                f"embed_dim can't be {self.embed_dim}: neck_norm=groupnorm needs a multiple of {NORM_GROUPS}"
            )
        return self


class TemporalMaxer(PyramidNetwork[TemporalMaxerConfig]):
    """Embedding, max pooling, norm, heads."""

    def __init__(self, config: TemporalMaxerConfig, num_features: int, num_classes: int):
        super().__init__(config, num_features, num_classes, config.kernel_size)
        self.neck = (
            nn.LayerNorm(config.embed_dim, config.epsilon) if config.neck_norm == "layernorm" else None
        )
        self.heads = Heads(config, self.num_classes)
        self.normaliser = LossNormaliser(config.initial_normaliser)
        self.gap = config.kernel_size // 2

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits and cells, some of the padding among them."""
        padded = padded_length(features.shape[1], self.config.sequence_length, 2 ** (self.config.levels - 1))
        rest = self._run_length(features.shape[1], padded) - features.shape[1]
        levels, masks = self.pyramid(F.pad(features, (0, 0, 0, rest)), F.pad(mask, (0, rest)))
        cells = join_levels(self.normalised(levels, padded), masks, self.gap)
        return Outputs(self.heads.logits(cells), cells)

    def _run_length(self, length: int, padded: int) -> int:
        """Snippets to run for a video that counts as ``padded``: as far as the convolutions reach."""
        stride = 2 ** (self.config.levels - 1)
        reach = self.config.kernel_size // 2
        return min(padded, (math.ceil(length / stride) + reach) * stride)

    def pyramid(
        self, features: torch.Tensor, mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """``(B, T, D)`` -> levels ``(B, T / 2**l, C)`` and their masks ``(B, T / 2**l)``.

        Level 0 holds the activation's constant on padding, the others 0.
        """
        levels = [self.embedding(features, ~mask.unsqueeze(2))]
        masks = [mask]
        for _ in range(self.config.levels - 1):
            masks.append(masks[-1][:, ::2])
            levels.append(halve(levels[-1]) * masks[-1].unsqueeze(2))
        return levels, masks

    def normalised(self, levels: list[torch.Tensor], padded: int) -> list[torch.Tensor]:
        """The neck; level ``l`` counts as padded to ``padded / 2**l`` cells."""
        if self.neck is not None:
            return [self.neck(level) for level in levels]
        behind = F.relu(cast(nn.LayerNorm, self.embedding.norms[-1]).bias)
        return [
            padded_group_norm(level, padded // 2**number, behind if number == 0 else torch.zeros_like(behind))
            for number, level in enumerate(levels)
        ]

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> Surroundings:
        """Where the cells lie; whose distances they learn depends on what the network says (`assign`)."""
        cells = outputs.cells
        padded, classes = pad_segments(segments, labels)
        where = points(cells, self.config.ranges)
        radius, video = self.config.center_radius, cells.video
        return surroundings(where, padded[video], classes[video], cells.valid, radius, len(padded))

    def loss_sums(self, outputs: Outputs, targets: Surroundings) -> LossSums:
        """Focal loss of all valid cells and distance-IoU loss of the positive ones, weighted by `assign`."""
        logits, cells = outputs
        # The cells whose distances matter; where all inside a segment count, only those that learn one.
        asked = targets.candidates if self.config.keep_share == 1 else targets.inside
        index = asked.any(dim=1).nonzero().squeeze(1)
        distances = logits.new_zeros(len(asked), 2)
        distances = distances.index_copy(0, index, self.heads.distances(cells, index).to(distances.dtype))
        assigned = assign(targets, logits.detach(), distances.detach(), self.config)

        classes = class_targets(targets.candidates, targets.labels, self.num_classes)
        positive = targets.candidates.any(dim=1)
        weights = torch.where(positive, assigned.weights, cells.valid.to(assigned.weights.dtype))
        wrong = focal_loss(logits, smooth(classes, self.config.label_smoothing)).sum(dim=1)
        # Distances to a cell's own position where there is nothing to learn keep the loss finite.
        far = torch.where(positive.unsqueeze(1), assigned.distances, 1.0)
        off = distance_iou_loss(distances, far) * positive
        return LossSums((wrong * weights).sum(), (off * weights).sum(), (assigned.weights * positive).sum())


def halve(x: torch.Tensor) -> torch.Tensor:
    """Maximum of each even cell and its neighbours, ``(B, T, C)`` -> ``(B, T / 2, C)``; x >= 0, T even."""
    even, odd = x[:, ::2], x[:, 1::2]
    before = F.pad(odd[:, :-1], (0, 0, 1, 0))  # as x >= 0, 0 does as well as minus infinity
    return torch.maximum(torch.maximum(even, odd), before)


def padded_group_norm(x: torch.Tensor, length: int, behind: torch.Tensor) -> torch.Tensor:
    """Group norm of ``(B, T, C)`` as if ``length - T`` more cells of the value ``behind`` (C,) followed.

    Means and squared deviations of the two parts are pooled (Chan, Golub and LeVeque, 1979).
    """
    batch, run, channels = x.shape
    groups = x.float().view(batch, run, NORM_GROUPS, channels // NORM_GROUPS)
    variance, mean = torch.var_mean(groups, dim=(1, 3), keepdim=True, correction=0)
    if length > run:
        share = (length - run) / length
        constant = behind.float().view(1, 1, NORM_GROUPS, -1)
        beyond, level = torch.var_mean(constant, dim=3, keepdim=True, correction=0)
        apart = level - mean
        mean = mean + share * apart
        variance = (1 - share) * variance + share * beyond + share * (1 - share) * apart**2
    return ((groups - mean) * torch.rsqrt(variance + EPSILON)).view_as(x).to(x.dtype)


class Surroundings(NamedTuple):
    """N cells and the M segments, at most, of their videos: ``(N, M)`` but for ``distances``.

    ``candidates``: segments whose class a cell learns. ``inside``: segments that a valid cell lies in.
    ``distances`` (N, M, 2): to the start and end of a segment, in strides. ``labels`` of the segments.
    The cells of each of the ``videos`` come one after the other.
    """

    candidates: torch.Tensor
    inside: torch.Tensor
    distances: torch.Tensor
    labels: torch.Tensor
    videos: int


def surroundings(
    where: Points,
    segments: torch.Tensor,
    labels: torch.Tensor,
    valid: torch.Tensor,
    radius: float | None,
    videos: int,
) -> Surroundings:
    """Where N cells lie in the segments ``(N, M, 2)``, of no length where a video has fewer than M.

    ``valid`` (N,) is false on padding.
    """
    matches = match(where, segments, radius)
    real = segments[..., 1] > segments[..., 0]
    inside = (matches.distances.amin(dim=-1) >= 0) & real & valid.unsqueeze(1)
    distances = matches.distances / where.stride.view(-1, 1, 1)
    return Surroundings(matches.candidates & inside, inside, distances, labels, videos)


class Assignment(NamedTuple):
    """What each of N cells learns, of M segments.

    ``distances`` (N, 2): to the start and end of the cheapest segment around it, in strides. ``weights``
    (N,): what it counts if it is positive. ``cost`` (N, M): infinite outside a segment. ``cheapest``
    (N,): index, 0 where there is none.
    """

    distances: torch.Tensor
    weights: torch.Tensor
    cost: torch.Tensor
    cheapest: torch.Tensor


@torch.no_grad()
def assign(
    around: Surroundings, logits: torch.Tensor, distances: torch.Tensor, config: TemporalMaxerConfig
) -> Assignment:
    """Label cells by ground truth and by what the network says of them now.

    ``logits`` (N, K) and ``distances`` (N, 2); distances where the result is to be used.
    """
    cost = config.class_cost * class_cost(logits, around.labels)
    cost = cost + config.distance_cost * distance_iou_loss(distances.unsqueeze(1), around.distances)
    cost = cost.masked_fill(~around.inside, math.inf)
    cheapest = cost.argmin(dim=1)
    taken = around.distances.gather(1, cheapest[:, None, None].expand(-1, 1, 2)).squeeze(1)
    weights = torch.ones_like(cost[:, 0])
    if config.keep_share < 1:
        inside, by_video = (part.unflatten(0, (around.videos, -1)) for part in (around.inside, cost))
        most = (inside.sum(dim=1, keepdim=True) * config.keep_share).long()
        rank = by_video.argsort(dim=1, stable=True).argsort(dim=1)
        full = (inside & (rank < most)).any(dim=2) | ~inside.any(dim=2)
        weights = torch.where(full.flatten(), weights, config.confuse_weight)
    return Assignment(taken, weights, cost, cheapest)


def class_cost(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Focal loss of ``(N, K)`` logits against each class ``index`` (N, M) alone."""
    unlike = focal_loss(logits, torch.zeros_like(logits, dtype=torch.float32))
    like = focal_loss(logits, torch.ones_like(logits, dtype=torch.float32))
    return unlike.sum(dim=1, keepdim=True) + (like - unlike).gather(1, index)


def from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights from a state dict of the authors' program: ``pyramid.shared_from_reference``, and

        neck.fpn_norms.l.*    neck.*    one layer norm for all levels, listed once per level there
                              normaliser.value is not stored there and starts over

    The pooling has no weights.
    """
    renamed = shared_from_reference(state)
    for name in [name for name in renamed if name.startswith("neck.")]:
        renamed["neck." + name.rsplit(".", 1)[1]] = renamed.pop(name)
    return renamed


METHOD = Method(
    name="temporalmaxer",
    title="TemporalMaxer",
    summary="Anchor-free pyramid of plain max pooling: small, fast and close to the best.",
    reference="Tang, Kim and Sohn: TemporalMaxer, 2023. github.com/TuanTNG/TemporalMaxer",
    config=TemporalMaxerConfig,
    build=TemporalMaxer,
    sampler=sampler,
    suggest=suggest_pyramid,
    check=check_pyramid,
    from_reference=from_reference,
)
