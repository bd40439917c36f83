"""ActionFormer (Zhang, Wu and Li, ActionFormer: Localizing Moments of Actions with Transformers, ECCV 2022).

    features -> embedding -> blocks at full resolution -> blocks that halve it, one for each level
             -> norm of each level -> heads that all levels share -> logits, distances

A block is a pre-norm transformer layer whose queries, keys and values come from depthwise convolutions, with
attention among near cells only (section 3.2).

The videos of a batch lie behind one another in one sequence, on every level, so that short videos cost no
padding (``lay_out``): ``(1, N, C)`` here, time first. The reference pads all to the same length; what is
computed for the real cells is the same.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from tal_core.models.config import setting
from tal_core.models.cpu_kernels.convolution import Linear, convolve
from tal_core.models.method import Method
from tal_core.models.pyramid.attention import global_attention, local_attention
from tal_core.models.pyramid.auto import check_pyramid, suggest_actionformer
from tal_core.models.pyramid.blocks import Heads, padded_length, position_encoding, shared_from_reference
from tal_core.models.pyramid.config import DROP_PATH, PROGRAM, Program, PyramidConfig, sampler
from tal_core.models.pyramid.network import LossSums, Outputs, PyramidNetwork, Targets
from tal_core.models.pyramid.points import LossNormaliser, distance_iou_loss, focal_loss, smooth
from tal_core.models.pyramid.slots import Layout, Level, lay_out

# Hidden layers above 32 MB would be given back to the system after every use and mapped anew, page by page.
HIDDEN_NUMBERS = 5_000_000
RESIDUAL_SCALE = 1e-4  # of residual branches at first (Touvron et al., CaiT, ICCV 2021, section 2)


class ActionFormerConfig(PyramidConfig):
    """Settings of ActionFormer; defaults for THUMOS14."""

    program: Program = PROGRAM
    drop_path: float = DROP_PATH
    stem_blocks: int = setting(2, "Transformer blocks at full resolution.", "Network", ge=0, le=16)
    attention_heads: int = setting(
        4, "Attention heads; embed_dim is split among them.", "Network", ge=1, le=64
    )
    attention_windows: list[Annotated[int, Field(ge=-1, le=4097)]] = setting(
        [19],
        "Cells that a cell attends to, itself in the middle: one odd number for all levels or one for each;"
        " -1 for all cells of the video.",
        "Network",
        min_length=1,
        max_length=12,
    )
    position_encoding: bool = setting(
        False, "Tell the network where in the video a snippet lies, by added sine waves.", "Network"
    )
    dropout: float = setting(
        0.0, "Share of activations of the blocks left out in training.", "Network", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.embed_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads ({self.attention_heads}) has to divide embed_dim ({self.embed_dim})"
            )
        windows = self.attention_windows
        if len(windows) not in (1, self.levels):
            raise ValueError(
                f"attention_windows has {len(windows)} values, it needs one for all levels or one for"
                f" each of levels={self.levels}"
            )
        wrong = next((window for window in windows if window != -1 and (window < 3 or window % 2 == 0)), None)
        if wrong is not None:
            raise ValueError(f"attention_windows can't hold {wrong}: use odd numbers from 3, or -1")
        return self

    @property
    def windows(self) -> list[int]:
        """Attention window of each level; -1 for all cells."""
        windows = self.attention_windows
        return windows * self.levels if len(windows) == 1 else windows

    @property
    def padding_multiple(self) -> int:
        """Longer videos than ``sequence_length`` count as padded to a multiple of this."""
        coarsest = 2 ** (self.levels - 1)
        needs = (2**level * max(1, window // 2 * 2) for level, window in enumerate(self.windows))
        return -(-max(needs) // coarsest) * coarsest


class Projection(nn.Module):
    """Depthwise convolution (kernel 3), LayerNorm and linear layer: queries, keys or values."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, stride, groups=channels, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.linear = Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(1, N, C)`` -> ``(N / stride, C)``."""
        conv = self.conv
        return self.linear(self.norm(convolve(x, conv.weight, None, conv.groups, conv.stride[0])))[0]


class Attention(nn.Module):
    """Multi-head attention of every cell to the ``window`` cells around it, or to its whole video.

    Padding is never attended to. With ``stride`` 2 queries, keys and values are those of the next level.
    """

    def __init__(self, config: ActionFormerConfig, window: int, stride: int):
        super().__init__()
        channels = config.embed_dim
        self.heads, self.reach = config.attention_heads, window // 2 if window > 0 else None
        self.query, self.key, self.value = (Projection(channels, stride) for _ in range(3))
        self.output = Linear(channels, channels)

    def forward(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """``(1, N * stride, C)`` -> ``(1, N, C)`` cells of ``level``; arbitrary numbers on padding."""
        query, key, value = (
            projection(x).unflatten(1, (self.heads, -1)) for projection in (self.query, self.key, self.value)
        )
        if self.reach is None:
            attended = global_attention(query, key, value, level)
        else:
            attended = local_attention(query, key, value, level, self.reach)
        return self.output(attended.flatten(1)).unsqueeze(0)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm and beside a skip path."""

    def __init__(self, config: ActionFormerConfig, window: int, stride: int = 1):
        super().__init__()
        channels = config.embed_dim
        self.stride, self.drop_path, self.dropout = stride, config.drop_path, config.dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(config, window, stride)
        self.expand, self.contract = Linear(channels, 4 * channels), Linear(4 * channels, channels)
        scaled = config.drop_path > 0
        self.attention_scale = nn.Parameter(torch.full((channels,), RESIDUAL_SCALE)) if scaled else None
        self.mlp_scale = nn.Parameter(torch.full((channels,), RESIDUAL_SCALE)) if scaled else None

    def forward(self, x: torch.Tensor, before: Level, level: Level) -> torch.Tensor:
        """``(1, N, C)`` cells of the level ``before`` -> those of ``level``, 0 on padding and gaps."""
        skip = x if self.stride == 1 else _pool(x, before)
        attended = self.attention(self.attention_norm(x).masked_fill_(before.gap.view(1, -1, 1), 0), level)
        x = self._add(skip, attended, self.attention_scale, level)
        x = self._add(x, self._perceptron(self.mlp_norm(x)), self.mlp_scale, level)
        return x.masked_fill_(level.invalid.view(1, -1, 1), 0)

    def _perceptron(self, x: torch.Tensor) -> torch.Tensor:
        """``(1, N, C)`` -> ``(1, N, C)``, some cells at a time on a CPU."""
        rows = HIDDEN_NUMBERS // (4 * x.shape[2]) if x.is_cpu else x.shape[1]
        hidden = [F.gelu(self.expand(part)) for part in x.split(max(1, rows), dim=1)]
        parts = [self.contract(F.dropout(part, self.dropout, self.training)) for part in hidden]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _add(
        self, x: torch.Tensor, branch: torch.Tensor, scale: torch.Tensor | None, level: Level
    ) -> torch.Tensor:
        """The sum of both paths; in training, the branch is left out of some videos."""
        branch = F.dropout(branch, self.dropout, self.training)
        if scale is None:
            return x + branch
        if self.training:
            kept = torch.rand(len(level.slots), device=x.device) >= self.drop_path
            branch = branch * (kept / (1 - self.drop_path))[level.video].unsqueeze(1)
        return torch.addcmul(x, branch, scale)


def _pool(x: torch.Tensor, level: Level) -> torch.Tensor:
    """Maximum over each even cell and its neighbours: the skip path to the next level.

    The neighbour of a video's first cell is the last of the gap before, which doesn't count.
    """
    outside = level.gap & (level.position % 2 == 1)
    image = x.masked_fill(outside.view(1, -1, 1), -math.inf).unsqueeze(1).permute(0, 3, 1, 2)
    return F.max_pool2d(image, (1, 3), (1, 2), (0, 1)).squeeze(2).transpose(1, 2)


class ActionFormer(PyramidNetwork[ActionFormerConfig]):
    """Embedding, transformer blocks, norms, heads."""

    def __init__(self, config: ActionFormerConfig, num_features: int, num_classes: int):
        super().__init__(config, num_features, num_classes, config.kernel_size)
        windows = config.windows
        self.stem = nn.ModuleList(Block(config, windows[0]) for _ in range(config.stem_blocks))
        self.branch = nn.ModuleList(Block(config, window, stride=2) for window in windows[1:])
        self.neck = nn.ModuleList(
            nn.LayerNorm(config.embed_dim, config.epsilon) for _ in range(config.levels)
        )
        self.heads = Heads(config, self.num_classes)
        self.normaliser = LossNormaliser(config.initial_normaliser)

    def lay_out(self, mask: torch.Tensor) -> Layout:
        """Slots of the videos whose real snippets ``mask`` (B, T) marks."""
        config, lengths = self.config, mask.sum(dim=1).tolist()
        padded = [padded_length(n, config.sequence_length, config.padding_multiple) for n in lengths]
        return lay_out(lengths, padded, config.levels, max(1, config.kernel_size // 2), mask.device)

    def pyramid(self, features: torch.Tensor, layout: Layout) -> list[torch.Tensor]:
        """Videos ``(B, T, D)`` -> ``(1, N, C)`` cells of each level."""
        level = layout.levels[0]
        parts = [
            F.pad(video[:length], (0, 0, 0, slot - length))
            for video, length, slot in zip(features, level.lengths, level.slots, strict=True)
        ]
        invalid = level.invalid.view(1, -1, 1)
        x = self.embedding(torch.cat(parts).unsqueeze(0), invalid, level.gap.view(1, -1, 1))
        if self.config.position_encoding:
            x = x + self._positions(level).masked_fill(invalid, 0)
        for block in self.stem:
            x = block(x, level, level)
        levels = [x]
        for block, before, after in zip(self.branch, layout.levels, layout.levels[1:], strict=False):
            levels.append(block(levels[-1], before, after))
        return levels

    def _positions(self, level: Level) -> torch.Tensor:
        """Position encodings ``(1, N, C)`` of the finest level."""
        config, parts = self.config, []
        for length, slot in zip(level.lengths, level.slots, strict=True):
            padded = padded_length(length, config.sequence_length, config.padding_multiple)
            table = position_encoding(padded, config.sequence_length, config.embed_dim, level.video.device)
            parts.append(F.pad(table[:length], (0, 0, 0, slot - length)))
        return torch.cat(parts).unsqueeze(0)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits and cells; videos without padding to one length."""
        layout = self.lay_out(mask)
        levels = self.pyramid(features, layout)
        cells = layout.cells([norm(x) for norm, x in zip(self.neck, levels, strict=True)])
        return Outputs(self.heads.logits(cells), cells)

    def loss_sums(self, outputs: Outputs, targets: Targets) -> LossSums:
        """Focal loss of all valid cells and distance-IoU loss of the positive ones (section 3.3)."""
        logits, cells = outputs
        positive = cells.valid & (targets.classes.amax(dim=1) > 0)
        index = positive.nonzero().squeeze(1)
        focal = focal_loss(logits, smooth(targets.classes, self.config.label_smoothing))
        apart = distance_iou_loss(self.heads.distances(cells, index), targets.distances[index])
        return LossSums((focal * cells.valid.unsqueeze(1)).sum(), apart.sum(), positive.sum())


def from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the reference implementation under the names and in the shapes of this one.

    Beside the names in ``shared_from_reference``, for stem and branch alike:

        backbone.stem.i.ln1 / ln2               stem.i.attention_norm / mlp_norm
        ....attn.query_conv.conv / query_norm / query   ....attention.query.conv / norm / linear (key, value)
        ....attn.proj                           ....attention.output
        ....mlp.0 / mlp.3                       ....expand / contract
        ....drop_path_attn.scale / mlp          ....attention_scale / mlp_scale

    Convolutions of one tap (out, in, 1) are linear layers (out, in) here. The loss normaliser is not part of
    the reference's state; keep the model's own.
    """
    renamed = {}
    for name, value in shared_from_reference(state).items():
        for old, new in _NAMES:
            name = name.replace(old, new)
        linear = value.ndim == 3 and name.endswith(_LINEAR)
        renamed[name] = value.squeeze(2) if linear else value
    return renamed


_NAMES = (
    ("backbone.stem.", "stem."),
    ("backbone.branch.", "branch."),
    (".ln1.", ".attention_norm."),
    (".ln2.", ".mlp_norm."),
    *(
        (f".attn.{part}{old}.", f".attention.{part}.{new}.")
        for part in ("query", "key", "value")
        for old, new in (("_conv.conv", "conv"), ("_norm", "norm"), ("", "linear"))
    ),
    (".attn.proj.", ".attention.output."),
    (".mlp.0.", ".expand."),
    (".mlp.3.", ".contract."),
    (".drop_path_attn.scale", ".attention_scale"),
    (".drop_path_mlp.scale", ".mlp_scale"),
)
_LINEAR = (".linear.weight", ".attention.output.weight", ".expand.weight", ".contract.weight")


METHOD = Method(
    name="actionformer",
    title="ActionFormer",
    summary="Transformer pyramid with local attention that classifies and regresses every moment.",
    reference="Zhang, Wu and Li, ActionFormer: Localizing Moments of Actions with Transformers, ECCV 2022.",
    config=ActionFormerConfig,
    build=ActionFormer,
    sampler=sampler,
    suggest=suggest_actionformer,
    check=check_pyramid,
    from_reference=from_reference,
)
