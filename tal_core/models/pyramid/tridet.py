"""TriDet: scalable-granularity perception and relative boundaries (Shi et al., CVPR 2023).

    features -> embedding -> SGP blocks, halving time level by level -> neck norms -> heads on every level

The blocks (section 3.2) are in ``sgp``. The trident head (section 3.3) doesn't regress a distance but expects
it: the ``bins`` cells to the left of a point, weighted by how much each looks like the start of the action
(start head) and how likely it is from here (centre head), give the distance to the start, and those to the
right the distance to the end. It is needed for positive cells and for candidates alone, and run only there.
Tensors are time first, ``(B, T, C)``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Self, cast

import torch
import torch.nn.functional as F
from pydantic import ValidationInfo, field_validator, model_validator
from torch import nn

from tal_core.models.config import revised, setting
from tal_core.models.method import Method
from tal_core.models.pyramid.auto import check_pyramid, suggest_tridet
from tal_core.models.pyramid.blocks import (
    Cells,
    Heads,
    Tower,
    join_levels,
    padded_length,
    position_encoding,
    read,
    shared_from_reference,
)
from tal_core.models.pyramid.config import DROP_PATH, PROGRAM, Program, PyramidConfig, sampler
from tal_core.models.pyramid.network import LossSums, Outputs, PyramidNetwork, Targets
from tal_core.models.pyramid.points import LossNormaliser, distance_iou, distance_iou_loss, focal_loss, smooth
from tal_core.models.pyramid.sgp import NORM_GROUPS, SGPBlock, Stretch


class TriDetConfig(PyramidConfig):
    """Settings of TriDet; defaults for THUMOS14."""

    program: Program = PROGRAM
    drop_path: float = DROP_PATH
    epochs: int = revised("epochs", 40, "Passes over the training videos, warm-up included.")
    warmup_epochs: float = revised("warmup_epochs", 20.0)
    weight_decay: float = revised("weight_decay", 0.025)
    iou_power: float = setting(
        0.2,
        "The classification loss of a positive cell is weighted by the tIoU of its segment to this power.",
        "Optimisation",
        ge=0,
        le=10,
    )
    input_noise: float = setting(
        0.0005, "Deviation of the noise added to the features in training.", "Optimisation", ge=0, le=100
    )

    stem_blocks: int = setting(2, "SGP blocks before the pyramid.", "Network", ge=0, le=12)
    window: int = setting(
        1, "Taps of the windowed branch in the pyramid's blocks; odd. 1 in the stem.", "Network", ge=1, le=63
    )
    window_factor: float = setting(
        5.0, "Its wide convolution has (window + 1) times this many taps.", "Network", ge=1, le=32
    )
    sgp_init: float = setting(
        0.0,
        "Deviation of the first weights of the SGP branches. At 0, the published value for THUMOS14, they"
        " have no gradient and the blocks stay without temporal context.",
        "Network",
        ge=0,
        le=10,
    )
    mlp_dim: int = setting(768, "Hidden channels of the blocks' MLP.", "Network", ge=1, le=32_768)
    position_encoding: bool = setting(False, "Add sines of the position to the features.", "Network")
    embed_kernel_size: int = setting(
        3, "Taps of the convolutions before the pyramid; odd.", "Network", ge=1, le=31
    )
    kernel_size: int = setting(3, "Taps of the classification and centre heads; odd.", "Network", ge=1, le=31)
    boundary_kernel_size: int = setting(3, "Taps of the start and end heads; odd.", "Network", ge=1, le=31)
    bins: int = setting(
        16, "Farthest start or end that a cell detects, in strides of its level.", "Network", ge=1, le=256
    )

    max_detections: int = revised("max_detections", 2000)

    @field_validator("window", "embed_kernel_size", "boundary_kernel_size")
    @classmethod
    def _odd_taps(cls, taps: int, info: ValidationInfo) -> int:
        if taps % 2 == 0:
            raise ValueError(f"{info.field_name} can't be {taps}, it has to be odd")
        return taps

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.embed_dim % NORM_GROUPS:
            raise ValueError(f"embed_dim can't be {self.embed_dim}, it has to be a multiple of {NORM_GROUPS}")
        return self

    @property
    def multiple(self) -> int:
        """What the padded length of a video longer than ``sequence_length`` is a multiple of."""
        return self.window * 2 ** (self.levels - 1)


class TriDet(PyramidNetwork[TriDetConfig]):
    """Embedding, SGP blocks, neck norms, trident head."""

    def __init__(self, config: TriDetConfig, num_features: int, num_classes: int):
        super().__init__(config, num_features, num_classes, config.embed_kernel_size)
        block = partial(
            SGPBlock,
            config.embed_dim,
            config.mlp_dim,
            window_factor=config.window_factor,
            deviation=config.sgp_init,
        )
        self.stem = nn.ModuleList(block(window=1, scaled=False) for _ in range(config.stem_blocks))
        self.branch = nn.ModuleList(
            block(window=config.window, drop=config.drop_path) for _ in range(config.levels - 1)
        )
        self.neck = nn.ModuleList(
            nn.LayerNorm(config.embed_dim, config.epsilon) for _ in range(config.levels)
        )
        self.heads = Heads(config, self.num_classes, 2 * (config.bins + 1))
        layers, taps = config.head_layers - 1, config.boundary_kernel_size
        self.start, self.end = (
            Tower(config, config.embed_dim, config.head_dim, layers, taps, self.num_classes) for _ in range(2)
        )
        for head in (self.start, self.end):
            head.start_at(config.class_prior)
        self.normaliser = LossNormaliser(config.initial_normaliser)
        self.gap = max(config.kernel_size, config.boundary_kernel_size) // 2

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits and cells, some of the padding among them."""
        levels, masks = self.pyramid(features, mask)
        levels = [norm(x) for norm, x in zip(self.neck, levels, strict=True)]
        cells = join_levels(levels, masks, self.gap)
        return Outputs(self.heads.logits(cells), cells)

    def distances(self, cells: Cells, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Expected distances to start and end, ``(M, 2)`` in strides, by the trident head (section 3.3).

        For the classes ``label`` (M,) at the cells ``index`` (M,). What lies outside a level counts as a
        boundary logit of 0, as padding does, though not in OpenTAD. Each head is run only where it is asked.
        """
        near = torch.arange(self.config.bins + 1, device=index.device)
        steps = torch.stack([near.flip(0).neg(), near])
        around = index[:, None, None] + steps
        owner = cells.video * self.config.levels + cells.level
        place = around.clamp(0, len(owner) - 1)
        outside = (around != place) | (owner[place] != owner[index, None, None])
        bins = self.heads.distances(cells, index).float().unflatten(1, (2, -1))
        # The boundary heads learn from the pyramid without teaching it.
        taught = cells._replace(features=cells.features.detach())
        boundaries = []
        for side, head in enumerate((self.start, self.end)):
            at = torch.where(outside[:, side], index.unsqueeze(1), place[:, side])
            logits = read(head, taught, at, label.unsqueeze(1))
            boundaries.append(logits.float().masked_fill(outside[:, side], 0))
        chances = (torch.stack(boundaries, dim=1) + bins).softmax(dim=2)
        return (chances * steps.abs()).sum(dim=2)

    def pyramid(
        self, features: torch.Tensor, mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """``(B, T, D)`` -> levels ``(B, T_l, C)`` and their masks ``(B, T_l)``.

        Levels end as many cells behind the longest video as the heads can see.
        """
        config, length = self.config, features.shape[1]
        padded = padded_length(length, config.sequence_length, config.multiple)
        needed = [1 + self.gap + 2 * self._reach(level) for level in range(config.levels)]
        kept = min(padded, length + max(needed[0], config.embed_kernel_size // 2))
        features, mask = F.pad(features, (0, 0, 0, kept - length)), F.pad(mask, (0, kept - length))
        if self.training and config.input_noise:
            features = features + config.input_noise * torch.randn_like(features)
        x = self.embedding(features, ~mask.unsqueeze(2))
        if config.position_encoding:
            waves = position_encoding(padded, config.sequence_length, config.embed_dim, x.device)
            x = x + waves[:kept] * mask.unsqueeze(2)
        sequence = Stretch(x, length, 0, padded - kept)
        levels, masks = [], []
        for level in range(config.levels):
            blocks = self.stem if level == 0 else self.branch[level - 1 : level]
            if level > 0:
                sequence, mask = sequence.halved(needed[level]), mask[:, ::2]
            mask = F.pad(mask, (0, sequence.x.shape[1] - mask.shape[1]))
            for block in blocks:
                sequence = block(sequence, mask.unsqueeze(2))
            seen = math.ceil(length / 2**level)
            levels.append(sequence.x[:, : seen + self.gap])
            masks.append(mask[:, : seen + self.gap])
            if config.opentad:  # its boundaries look into the padding, whatever it holds
                more = max(0, min(seen + config.bins, padded // 2**level) - levels[-1].shape[1])
                levels[-1], masks[-1] = F.pad(levels[-1], (0, 0, 0, more)), F.pad(masks[-1], (0, more))
        return levels, masks

    def _reach(self, level: int) -> int:
        blocks = self.stem if level == 0 else self.branch[level - 1 : level]
        return sum(cast(SGPBlock, block).reach for block in blocks)

    def loss_sums(self, outputs: Outputs, targets: Targets) -> LossSums:
        """Focal loss of all valid cells, weighted by tIoU where positive, and distance-IoU loss."""
        logits, cells = outputs
        valid = cells.valid.unsqueeze(1)
        positive = (targets.classes > 0) & valid
        index, label = positive.nonzero(as_tuple=True)
        expected, target = self.distances(cells, index, label), targets.distances[index]
        # Below 1e-8 the root's slope grows without bounds.
        weight = distance_iou(expected, target).clamp(min=1e-8) ** self.config.iou_power
        wrong = focal_loss(logits, smooth(targets.classes, self.config.label_smoothing)) * valid
        return LossSums(
            wrong.sum() + (wrong[index, label] * (weight - 1)).sum(),
            distance_iou_loss(expected, target).sum(),
            positive.any(dim=1).sum(),
        )


def from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights from a state dict of the authors' program: ``pyramid.shared_from_reference``, and

    backbone.stem.i.*  .branch.i.*       stem.i.*  branch.i.*, in which
        ln  gn                               norm  group_norm
        psi  fc  global_fc                   the same
        convw  convkw                        conv_w  conv_kw
        mlp.0  mlp.2                         mlp_in  mlp_out
        drop_path_out.scale  _mlp.scale      scale_branch  scale_mlp, 1 where there is none (drop path 0)
    start_head.head.i.conv  .norm.i      start.convs.i  .norms.i
    start_head.cls_head.conv             start.output
    end_head...                          end...
                                         normaliser.value is not stored there and starts over
    """
    renamed = {}
    for name, value in shared_from_reference(state).items():
        for old, new in _NAMES:
            name = name.replace(old, new)
        renamed[name] = value
    for name in [name for name in renamed if name.startswith("branch.") and name.endswith(".norm.weight")]:
        for scale in ("scale_branch", "scale_mlp"):
            renamed.setdefault(name.replace("norm.weight", scale), torch.ones_like(renamed[name]))
    return renamed


_NAMES = (
    ("backbone.stem.", "stem."),
    ("backbone.branch.", "branch."),
    (".ln.", ".norm."),
    (".gn.", ".group_norm."),
    (".convw.", ".conv_w."),
    (".convkw.", ".conv_kw."),
    (".mlp.0.", ".mlp_in."),
    (".mlp.2.", ".mlp_out."),
    (".drop_path_out.scale", ".scale_branch"),
    (".drop_path_mlp.scale", ".scale_mlp"),
    ("start_head.cls_head.conv.", "start.output."),
    ("end_head.cls_head.conv.", "end.output."),
    ("start_head.head.", "start.convs."),
    ("end_head.head.", "end.convs."),
    ("start_head.norm.", "start.norms."),
    ("end_head.norm.", "end.norms."),
    (".conv.", "."),
)


METHOD = Method(
    name="tridet",
    title="TriDet",
    summary="Anchor-free pyramid of convolutions that finds boundaries relative to their neighbourhood.",
    reference="Shi et al.: TriDet, CVPR 2023. github.com/dingfengshi/TriDet",
    config=TriDetConfig,
    build=TriDet,
    sampler=sampler,
    suggest=suggest_tridet,
    check=check_pyramid,
    from_reference=from_reference,
)
