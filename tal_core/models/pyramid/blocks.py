"""What the networks of the anchor-free pyramid methods share: ActionFormer, TriDet and TemporalMaxer.

Their settings are in ``config``; targets, losses and decoding in ``points``; ``network`` joins the parts.

Every cell of a feature pyramid classifies the moment it stands for and regresses the distances to the
start and the end of the action around it (Zhang et al., ActionFormer, ECCV 2022, section 3):

    features -> embedding -> the method's own pyramid -> heads on every level -> logits, distances
    training    cells labelled by ground truth -> focal loss, distance-IoU loss
    inference   cells above a score -> scored segments = candidates

Tensors are time first, ``(B, T, C)``. Cell ``i`` of level ``l`` stands for position ``i * 2**l`` of the
feature grid. Two kinds of cells are not real. Behind the end of a video lies ``padding``: a masked
convolution writes 0 there, which the norm and the activation that follow turn into a constant that the next
convolution reads. Sequences that are joined into one are held apart by ``gap`` cells, which always read 0
as what lies outside a tensor does. Because the padding is constant, ``kernel // 2`` cells of it
do as well as any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.cpu_kernels.convolution import Convolution, norm_relu
from tal_core.models.pyramid.config import PyramidConfig

MOST_CHOSEN = 0.8  # of all cells; putting more together costs more than it saves


def padded_length(length: int, sequence_length: int, multiple: int) -> int:
    """Snippets to which the references pad a video: the training length, or the next ``multiple``."""
    return sequence_length if length <= sequence_length else -(-length // multiple) * multiple


# Network


class Tower(nn.Module):
    """``layers`` x [masked convolution, LayerNorm, ReLU], and a masked output convolution if asked for.

    OpenTAD's masks again behind the activation, and not behind the output.
    """

    def __init__(
        self,
        config: PyramidConfig,
        channels: int,
        hidden: int,
        layers: int,
        kernel_size: int,
        outputs: int | None = None,
    ):
        super().__init__()
        self.opentad = config.opentad
        sizes = [channels, *[hidden] * layers]
        self.convs = nn.ModuleList(
            Convolution(before, after, kernel_size, bias=False) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, config.epsilon) for _ in range(layers))
        self.output = None if outputs is None else Convolution(sizes[-1], outputs, kernel_size)

    def start_at(self, chance: float) -> None:
        """Let an untrained tower give every class this score."""
        assert self.output is not None and self.output.bias is not None
        nn.init.constant_(self.output.bias, math.log(chance / (1 - chance)))

    def forward(
        self, x: torch.Tensor, invalid: torch.Tensor, gap: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``(B, T, channels)`` -> ``(B, T, outputs)``, 0 where ``invalid``; or ``(B, T, hidden)``, 0 in gaps.

        Args:
            x: 0 in the gaps.
            invalid: ``(B, T, 1)``, true on padding and gaps.
            gap: ``(B, T, 1)``, true on gaps.
        """
        zero = invalid if self.opentad else gap
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm_relu(conv(x), cast(nn.LayerNorm, norm), invalid, zero)
        if self.output is None:
            return x
        return self.output(x).masked_fill(gap if self.opentad and gap is not None else invalid, 0)


class Heads(nn.Module):
    """Classification and regression of every cell, the same on all levels but for one scale each."""

    def __init__(self, config: PyramidConfig, num_classes: int, distances: int = 2):
        super().__init__()
        size = (config, config.embed_dim, config.head_dim, config.head_layers - 1, config.kernel_size)
        self.classification = Tower(*size, num_classes)
        self.regression = Tower(*size, distances)
        self.scale = nn.Parameter(torch.ones(config.levels))
        self.classification.start_at(config.class_prior)

    def logits(self, cells: Cells) -> torch.Tensor:
        """Class logits ``(N, K)`` of all cells, 0 where invalid."""
        return self.classification(cells.features, cells.invalid, cells.gap)[0]

    def distances(self, cells: Cells, index: torch.Tensor | None = None) -> torch.Tensor:
        """Distances >= 0, ``(N, 2)`` in strides: of all cells, or the cells ``index`` (M,) alone."""
        level = cells.level if index is None else cells.level[index]
        return F.relu(read(self.regression, cells, index) * self.scale[level].unsqueeze(-1))


class Cells(NamedTuple):
    """What the heads see: the levels of all videos behind one another, gap cells in between.

    ``features`` (1, N, C), 0 in gaps; ``invalid`` (1, N, 1), true on padding and gaps; ``gap`` (1, N, 1);
    ``level`` (N,); ``video`` (N,); ``position`` (N,) in snippets of the finest level.
    """

    features: torch.Tensor
    invalid: torch.Tensor
    gap: torch.Tensor
    level: torch.Tensor
    video: torch.Tensor
    position: torch.Tensor

    @property
    def valid(self) -> torch.Tensor:
        """``(N,)``: cells that stand for real snippets."""
        return ~self.invalid.flatten()


def read(
    tower: Tower, cells: Cells, index: torch.Tensor | None = None, output: torch.Tensor | None = None
) -> torch.Tensor:
    """A tower's outputs on all cells ``(N, outputs)``, or on the cells ``index`` (...) alone.

    These are ``(..., outputs)``, or ``(...)`` of the one ``output`` named for each. The tower runs over the
    cells asked for and what it sees around them, put together. At the seams it sees wrong neighbours, but
    their influence ends before the cells that are asked for.
    """
    around = [cells.features, cells.invalid, cells.gap]
    if index is None:
        return tower(*around)[0]
    reach = sum(conv.kernel_size[0] // 2 for conv in (*tower.convs, tower.output))
    asked = torch.zeros(len(cells.level), device=index.device)
    asked[:1] = 1  # never none
    asked[index] = 1
    seen = F.max_pool1d(asked[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0] > 0
    chosen, row = seen.nonzero().squeeze(1), index
    if len(chosen) < MOST_CHOSEN * len(seen):
        around, row = [part.index_select(1, chosen) for part in around], (seen.cumsum(0) - 1)[index]
    outputs = tower(*around)[0]
    return outputs[row] if output is None else outputs[row, output]


def join_levels(levels: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], gap: int) -> Cells:
    """``(B, T_l, C)`` levels and their ``(B, T_l)`` masks in one sequence, video by video, level by level.

    ``gap`` cells of 0 behind each level hold the levels and the videos apart.
    """
    videos, device = len(masks[0]), levels[0].device
    features = torch.cat([F.pad(level, (0, 0, 0, gap)) for level in levels], dim=1)
    invalid = ~torch.cat([F.pad(mask, (0, gap)) for mask in masks], dim=1)
    sizes = [level.shape[1] + gap for level in levels]
    places = [torch.arange(size, device=device) for size in sizes]
    level = torch.arange(len(levels), device=device).repeat_interleave(
        torch.tensor(sizes, device=device), output_size=sum(sizes)
    )
    between = torch.cat([place >= size - gap for place, size in zip(places, sizes, strict=True)])
    position = torch.cat([place * 2**number for number, place in enumerate(places)])
    return Cells(
        features.view(1, videos * sum(sizes), -1),
        invalid.view(1, -1, 1),
        between.repeat(videos).view(1, -1, 1),
        level.repeat(videos),
        torch.arange(videos, device=device).repeat_interleave(sum(sizes)),
        position.repeat(videos),
    )


def drop_channels(features: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Leave channels of ``(B, T, D)`` out for a whole clip, as ASFormer does (Yi et al., BMVC 2021)."""
    if probability == 0 or not training:
        return features
    kept = torch.rand(len(features), 1, features.shape[2], device=features.device) >= probability
    return features * (kept / (1 - probability)).to(features.dtype)


def drop_path(x: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Leave a residual branch ``(B, T, C)`` out, video by video, and scale the others up to make good."""
    if probability == 0 or not training:
        return x
    kept = torch.rand(len(x), 1, 1, device=x.device) >= probability
    return x * (kept / (1 - probability)).to(x.dtype)


def position_encoding(length: int, table_length: int, channels: int, device: torch.device) -> torch.Tensor:
    """``(length, channels)`` sines and cosines over 1/sqrt(channels) (Vaswani et al., 2017).

    Made for ``table_length`` positions; a longer sequence gets them stretched.
    """
    channel = torch.arange(channels, device=device)
    wave = 10000.0 ** (2 * torch.div(channel, 2, rounding_mode="floor") / channels)
    angle = torch.arange(table_length, device=device).unsqueeze(1) / wave
    table = torch.where(channel % 2 == 0, angle.sin(), angle.cos()) / math.sqrt(channels)
    if length > table_length:
        stretched = F.interpolate(table.T.unsqueeze(0), size=length, mode="linear", align_corners=False)
        return stretched[0].T
    return table[:length]


# Reference checkpoints


def shared_from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Embedding, neck and heads under the names of this package, from the references' state dict.

        backbone.embd.i.conv.*               embedding.convs.i.*
        backbone.embd_norm.i.*               embedding.norms.i.*
        neck.fpn_norms.l.*                   neck.l.*
        cls_head.head.i.conv.*  .norm.i.*    heads.classification.convs.i.*  .norms.i.*
        cls_head.cls_head.conv.*             heads.classification.output.*
        reg_head...  .offset_head.conv.*     heads.regression...  .output.*
        reg_head.scale.l.scale               heads.scale[l]

    Norms and scales are stored as (1, C, 1) there and as (C,) here. The prefix ``module.`` of official files
    is taken off. Other names are kept for the method to translate.
    """
    renamed, scales = {}, {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if name.startswith("reg_head.scale."):
            scales[int(name.split(".")[2])] = value
        else:
            vector = value.ndim == 3 and value.shape[0] == value.shape[2] == 1
            renamed[_shared_name(name)] = value.flatten() if vector else value
    if scales:
        renamed["heads.scale"] = torch.stack([scales[level] for level in sorted(scales)])
    return renamed


def _shared_name(name: str) -> str:
    for old, new in _SHARED_NAMES:
        if name.startswith(old):
            return new + name.removeprefix(old).replace(".conv.", ".")
    return name


_SHARED_NAMES = (
    ("backbone.embd_norm.", "embedding.norms."),
    ("backbone.embd.", "embedding.convs."),
    ("neck.fpn_norms.", "neck."),
    ("cls_head.cls_head.conv.", "heads.classification.output."),
    ("reg_head.offset_head.conv.", "heads.regression.output."),
    ("cls_head.head.", "heads.classification.convs."),
    ("reg_head.head.", "heads.regression.convs."),
    ("cls_head.norm.", "heads.classification.norms."),
    ("reg_head.norm.", "heads.regression.norms."),
)
