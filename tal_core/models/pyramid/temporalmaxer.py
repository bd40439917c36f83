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
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import nn

from tal_core.models.config import setting
from tal_core.models.method import Candidates, Method
from tal_core.models.pyramid.auto import check_pyramid, suggest_pyramid
from tal_core.models.pyramid.blocks import (
    Cells,
    Heads,
    Tower,
    drop_channels,
    join_levels,
    one_sequence,
    padded_length,
    shared_from_reference,
    valid_levels,
)
from tal_core.models.pyramid.config import PyramidConfig, sampler
from tal_core.models.pyramid.points import (
    Decoded,
    LossNormaliser,
    Points,
    class_targets,
    decode,
    detect,
    distance_iou_loss,
    focal_loss,
    match,
    pad_segments,
    points,
    smooth,
    weighted_total,
)
from tal_core.types import TimeGrid

NORM_GROUPS = 4
EPSILON = 1e-5


class TemporalMaxerConfig(PyramidConfig):
    """Settings of TemporalMaxer; defaults for THUMOS14."""

    epochs: int = setting(
        65, "Passes over the training videos, warm-up included.", "Optimisation", ge=1, le=10_000
    )
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
    def _divisible(self):
        if self.neck_norm == "groupnorm" and self.embed_dim % NORM_GROUPS:
            raise ValueError(
                f"embed_dim can't be {self.embed_dim}: neck_norm=groupnorm needs a multiple of {NORM_GROUPS}"
            )
        return self


class TemporalMaxer(nn.Module):
    """Embedding, max pooling, norm, heads."""

    def __init__(self, config: TemporalMaxerConfig, num_features: int, num_classes: int):
        super().__init__()
        self.config, self.num_classes = config, config.num_outputs(num_classes)
        self.embedding = Tower(
            config, num_features, config.embed_dim, config.embed_layers, config.kernel_size
        )
        self.neck = (
            nn.LayerNorm(config.embed_dim, config.epsilon) if config.neck_norm == "layernorm" else None
        )
        self.heads = Heads(config, self.num_classes)
        self.normaliser = LossNormaliser(config.initial_normaliser)
        self.gap = config.kernel_size // 2

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Cells, list[int]]:
        """Class logits ``(B * N, K)``, cells, and how many each level has, gaps apart.

        Of ``(B, T, D)`` features, real where ``mask`` (B, T) is true.
        """
        padded = padded_length(features.shape[1], self.config.sequence_length, 2 ** (self.config.levels - 1))
        length = self._run_length(features.shape[1], padded)
        rest = length - features.shape[1]
        features, mask = F.pad(features, (0, 0, 0, rest)), F.pad(mask, (0, rest))
        levels, masks = self.pyramid(features, mask)
        cells = one_sequence(join_levels(self.normalised(levels, padded), masks, self.gap))
        return self.heads.logits(cells), cells, [level.shape[1] for level in levels]

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
        behind = F.relu(self.embedding.norms[-1].bias)
        return [
            padded_group_norm(level, padded // 2**number, behind if number == 0 else torch.zeros_like(behind))
            for number, level in enumerate(levels)
        ]

    def loss(self, batch: dict) -> dict[str, torch.Tensor]:
        """Focal and distance-IoU loss of a ``clips.collate`` batch."""
        features = drop_channels(batch["features"], self.config.input_dropout, self.training)
        logits, cells, lengths = self(features, batch["mask"])
        segments, labels = pad_segments(batch["segments"], batch["labels"])
        logits, valid = (part.view(len(segments), -1, part.shape[-1]) for part in (logits, ~cells.invalid[0]))
        where = points([length + self.gap for length in lengths], self.config.ranges, logits.device)
        around = surroundings(where, segments, valid.squeeze(2), self.config.center_radius)

        # The cells whose distances matter; where all inside a segment count, only those that learn one.
        asked = around.candidates if self.config.keep_share == 1 else around.inside
        index = asked.any(dim=2).flatten().nonzero().squeeze(1)
        distances = logits.new_zeros(asked.shape[0] * asked.shape[1], 2)
        distances = distances.index_copy(0, index, self.heads.distances(cells, index).to(distances.dtype))
        distances = distances.view(*asked.shape[:2], 2)
        found = assign(around, labels, logits.detach(), distances.detach(), self.config)

        targets = class_targets(around.candidates, labels.unsqueeze(1), self.num_classes)
        positive = around.candidates.any(dim=2)
        weights = torch.where(positive, found.weights, valid.squeeze(2).to(found.weights.dtype))
        normaliser = self.normaliser.update((found.weights * positive).sum())
        wrong = focal_loss(logits, smooth(targets, self.config.label_smoothing)).sum(dim=2)
        # Distances to a cell's own position where there is nothing to learn keep the loss finite.
        far = torch.where(positive.unsqueeze(2), found.distances, 1.0)
        off = distance_iou_loss(distances, far) * positive
        return weighted_total(
            (wrong * weights).sum() / normaliser,
            (off * weights).sum() / normaliser,
            self.config.regression_weight,
        )

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor | None]:
        """Candidates of one video from its ``(T, D)`` features, and its ``(T, K)`` snippet scores."""
        return detect(self.decode, features, grid, self.config)

    @torch.no_grad()
    def decode(self, features: torch.Tensor) -> tuple[list[Decoded], list[torch.Tensor]]:
        """Candidates of one ``(T, D)`` video by level, and the ``(T_l, K)`` logits of its valid cells."""
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        logits, cells, lengths = self(features.unsqueeze(0), mask)
        split = partial(valid_levels, lengths=lengths, gap=self.gap, length=len(features))
        return decode(logits, split, lambda index, _: self.heads.distances(cells, index), self.config)


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
    """Cells and segments, for B videos, P cells and M segments: ``(B, P, M)`` but for the last.

    ``candidates``: segments whose class a cell learns. ``inside``: segments that a valid cell lies in.
    ``distances`` (B, P, M, 2): to the start and end of a segment, in strides.
    """

    candidates: torch.Tensor
    inside: torch.Tensor
    distances: torch.Tensor


def surroundings(
    where: Points, segments: torch.Tensor, valid: torch.Tensor, radius: float | None
) -> Surroundings:
    """Where P cells lie in the segments ``(B, M, 2)``, of no length where a video has fewer than M.

    ``valid`` (B, P) is false on padding.
    """
    found = match(where, segments.unsqueeze(1), radius)
    real = (segments[..., 1] > segments[..., 0]).unsqueeze(1)
    inside = (found.distances.amin(dim=-1) >= 0) & real & valid.unsqueeze(2)
    return Surroundings(found.candidates & inside, inside, found.distances / where.stride.view(-1, 1, 1))


class Assignment(NamedTuple):
    """What each of the cells learns, for B videos, P cells and M segments.

    ``distances`` (B, P, 2): to the start and end of the cheapest segment around it, in strides. ``weights``
    (B, P): what it counts if it is positive. ``cost`` (B, P, M): infinite outside a segment. ``cheapest``
    (B, P): index, 0 where there is none.
    """

    distances: torch.Tensor
    weights: torch.Tensor
    cost: torch.Tensor
    cheapest: torch.Tensor


@torch.no_grad()
def assign(
    around: Surroundings,
    labels: torch.Tensor,
    logits: torch.Tensor,
    distances: torch.Tensor,
    config: TemporalMaxerConfig,
) -> Assignment:
    """Label cells by ground truth and by what the network says of them now.

    Args:
        labels: ``(B, M)`` of the segments.
        logits, distances: ``(B, P, K)`` and ``(B, P, 2)``; distances where the result is to be used.
    """
    index = labels.unsqueeze(1).expand(around.inside.shape)
    cost = config.class_cost * class_cost(logits, index)
    cost = cost + config.distance_cost * distance_iou_loss(distances.unsqueeze(2), around.distances)
    cost = cost.masked_fill(~around.inside, math.inf)
    cheapest = cost.argmin(dim=2)
    taken = around.distances.gather(2, cheapest[..., None, None].expand(*cheapest.shape, 1, 2)).squeeze(2)
    weights = torch.ones_like(cost[..., 0])
    if config.keep_share < 1:
        kept = (around.inside.sum(dim=1, keepdim=True) * config.keep_share).long()
        rank = cost.argsort(dim=1, stable=True).argsort(dim=1)
        full = (around.inside & (rank < kept)).any(dim=2) | ~around.inside.any(dim=2)
        weights = torch.where(full, weights, config.confuse_weight)
    return Assignment(taken, weights, cost, cheapest)


def class_cost(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Focal loss of ``(B, P, K)`` logits against each class ``index`` (B, P, M) alone."""
    unlike = focal_loss(logits, torch.zeros_like(logits, dtype=torch.float32))
    like = focal_loss(logits, torch.ones_like(logits, dtype=torch.float32))
    return unlike.sum(dim=2, keepdim=True) + (like - unlike).gather(2, index)


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
