"""Scalable-granularity perception, the blocks of TriDet (Shi et al., CVPR 2023, section 3.2).

An SGP block is a transformer block whose attention is replaced by two convolutional branches: an instant one,
gated by the mean over the whole video, and a windowed one, gated by itself.

The gate's mean and the statistics of the group norm run over the padding too, so it can't be cut off. But it
is constant except at its ends, and a ``Stretch`` keeps the constant once and counts it as often as it occurs:
the same numbers at the cost of the real snippets. Tensors are time first, ``(B, T, C)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.cpu_kernels.convolution import Convolution, convolve
from tal_core.models.pyramid.blocks import drop_path

NORM_GROUPS = 16
EPSILON = 1e-5


def wide_kernel(window: int, factor: float) -> int:
    """Taps of a block's wide convolution, odd."""
    taps = round((window + 1) * factor)
    return taps + 1 if taps % 2 == 0 else taps


class Stretch(NamedTuple):
    """A padded sequence, kept without most of the constant part of its padding.

    Behind the first ``head`` kept cells of ``x`` (B, n, C) and before the last ``tail`` ones all cells are
    alike. So are the ``hidden`` further cells between them that are counted, but not kept.
    """

    x: torch.Tensor
    head: int
    tail: int
    hidden: int

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Mean over the time of all cells, hidden ones too, of a function ``x`` (B, n, C) of the cells."""
        total = x.sum(1, keepdim=True)
        if self.hidden:
            total = total + self.hidden * x[:, self.head : self.head + 1]
        return total / (x.shape[1] + self.hidden)

    def filtered(self, x: torch.Tensor, reach: int) -> Stretch:
        """With cells ``x`` that depend on their neighbours up to ``reach`` away."""
        return Stretch(x, self.head + reach, self.tail + reach, self.hidden)

    def halved(self, reach: int) -> Stretch:
        """Maximum of each even cell and its neighbours; keeps enough of the constant for ``reach``."""
        head, tail = self.head // 2 + 1, (self.tail + 1) // 2
        length = self.x.shape[1] + self.hidden
        hidden = max(0, min(self.hidden, length - 2 * (head + tail + reach)))
        hidden -= hidden % 2
        x, again = self.x, self.hidden - hidden
        if again:
            constant = x[:, self.head : self.head + 1].expand(-1, again, -1)
            x = torch.cat([x[:, : self.head], constant, x[:, self.head :]], dim=1)
        even, odd = x[:, ::2], x[:, 1::2]
        x = torch.maximum(even, odd)
        x = torch.cat([x[:, :1], torch.maximum(x[:, 1:], odd[:, :-1])], dim=1)
        return Stretch(x, head, tail, hidden // 2)


class SGPBlock(nn.Module):
    """Scalable-granularity perception (section 3.2, eq. 1 to 4), then an MLP, both residual.

    ``scale_branch`` and ``scale_mlp`` (C,) are LayerScale (Touvron et al., ICCV 2021), None without.
    """

    def __init__(
        self,
        channels: int,
        mlp_channels: int,
        *,
        window: int,
        window_factor: float,
        deviation: float = 0.0,
        scaled: bool = True,
        drop: float = 0.0,
    ):
        super().__init__()
        wide = wide_kernel(window, window_factor)
        self.reach, self.drop = max(window, wide) // 2, drop
        self.norm = nn.LayerNorm(channels)
        self.psi = Depthwise(channels, window, deviation)
        self.conv_w = Depthwise(channels, window, deviation)
        self.conv_kw = Depthwise(channels, wide, deviation)
        self.fc = Depthwise(channels, 1, deviation)
        self.global_fc = Depthwise(channels, 1, deviation)
        self.group_norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.mlp_in = Convolution(channels, mlp_channels, 1)
        self.mlp_out = Convolution(mlp_channels, channels, 1)
        self.scale_branch = nn.Parameter(torch.full((channels,), 1e-4)) if scaled else None
        self.scale_mlp = nn.Parameter(torch.full((channels,), 1e-4)) if scaled else None

    def forward(self, sequence: Stretch, valid: torch.Tensor) -> Stretch:
        """``valid`` (B, n, 1) is true on real cells; only there the input itself is carried on."""
        branch = self.branches(sequence)
        x = sequence.x * valid + drop_path(branch, self.drop, self.training)
        sequence = sequence.filtered(x, self.reach)
        mixed = self.mlp(self.normalised(sequence))
        return sequence._replace(x=x + drop_path(mixed, self.drop, self.training))

    def branches(self, sequence: Stretch) -> torch.Tensor:
        """``fc(y) relu(global_fc(mean y)) + psi(y) (conv_w(y) + conv_kw(y)) + y``, y being the normed input.

        The convolutions that are added are one with added weights; all but one factor are applied to the
        ``(B, 1, C)`` and ``(C,)`` operands before they meet the sequence.
        """
        y = self.norm(sequence.x)
        gate = F.relu(sequence.mean(y) * self.global_fc.weight.view(-1) + self.global_fc.bias)
        factor, shift = 1 + gate * self.fc.weight.view(-1), gate * self.fc.bias
        spread = (self.conv_kw.kernel_size[0] - self.conv_w.kernel_size[0]) // 2
        weight = self.conv_kw.weight + F.pad(self.conv_w.weight, (spread, spread))
        bias = self.conv_kw.bias + self.conv_w.bias
        if self.scale_branch is not None:
            scale = self.scale_branch
            factor, shift, bias = factor * scale, shift * scale, bias * scale
            weight = weight * scale.view(-1, 1, 1)
        wide = convolve_depthwise(y, weight, bias)
        return y * factor + shift + wide * convolve_depthwise(y, self.psi.weight, self.psi.bias)

    def normalised(self, sequence: Stretch) -> torch.Tensor:
        """Group norm of the ``(B, n, C)`` cells with the statistics of all cells."""
        x = sequence.x.float()
        groups = (len(x), 1, NORM_GROUPS, -1)
        mean = sequence.mean(x).view(groups).mean(3)
        x = x - mean.repeat_interleave(x.shape[2] // NORM_GROUPS, dim=2)
        variance = sequence.mean(x * x).view(groups).mean(3, keepdim=True)
        scale = self.group_norm.weight.view(1, 1, NORM_GROUPS, -1) * torch.rsqrt(variance + EPSILON)
        return x * scale.view(len(x), 1, -1) + self.group_norm.bias

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, n, C)`` -> ``(B, n, C)``."""
        hidden = F.gelu(self.mlp_in(x))
        if self.scale_mlp is None:
            return self.mlp_out(hidden)
        weight, bias = self.mlp_out.weight * self.scale_mlp.view(-1, 1, 1), self.mlp_out.bias
        return convolve(hidden, weight, None if bias is None else bias * self.scale_mlp)


class Depthwise(nn.Conv1d):
    """Weights of a convolution of each channel by itself."""

    bias: nn.Parameter  # type: ignore[assignment]  # always there

    def __init__(self, channels: int, taps: int, deviation: float):
        super().__init__(channels, channels, taps, groups=channels)
        nn.init.normal_(self.weight, 0, deviation)
        nn.init.zeros_(self.bias)


def convolve_depthwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolution of each channel of ``(B, T, C)`` with its ``weight`` (C, 1, taps), 0 outside."""
    channels, _, taps = weight.shape
    if taps == 1:
        return x * weight.view(-1) + bias
    return convolve(x, weight, bias, groups=channels)
