"""Linear layers and convolutions over time, time first, by the kernels that are fastest on a CPU.

PyTorch multiplies float32 matrices with MKL, which on AMD leaves half of the machine unused, and computes the
gradient of filters slowly where channels lie together. oneDNN, which comes with PyTorch on x86 and ARM, does
both well, and all products here are its own. On a GPU, in half precision and under torch.compile the usual
functions run. Sums are taken in another order, so results agree to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


def has_fast_products(x: torch.Tensor) -> bool:
    """Whether oneDNN multiplies ``x``: float32 on a CPU, no mixed precision."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()
    )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``(..., C)`` times ``weight`` (C', C), and ``bias`` (C',)."""
    if not has_fast_products(x):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, groups: int = 1
) -> torch.Tensor:
    """``(B, T, C)`` -> ``(B, T, C')`` with ``weight`` (C', C / groups, odd taps), 0 beyond both ends."""
    if groups > 1:
        return _correlate(x, weight, bias, groups)
    if weight.shape[2] == 1:
        return linear(x, weight.squeeze(2), bias)
    return (_Convolution.apply if has_fast_products(x) else _correlate)(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer of ``linear``; starts with bias 0."""

    def __init__(self, channels: int, outputs: int):
        super().__init__(channels, outputs)
        nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pylint: disable=arguments-renamed
        """``(..., C)`` -> ``(..., C')``."""
        return linear(x, self.weight, self.bias)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias`` by oneDNN; takes transposed views."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # pylint: disable=protected-access


class _Linear(torch.autograd.Function):  # pylint: disable=abstract-method
    """``linear`` with all three products by oneDNN."""

    @staticmethod
    def forward(ctx, x, weight, bias):  # pylint: disable=arguments-differ
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # pylint: disable=arguments-differ
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        rows = gradient.flatten(0, -2)
        if ctx.needs_input_grad[0]:
            of_x = _product(gradient, weight.T)
        if ctx.needs_input_grad[1]:
            of_weight = _product(rows.T, x.flatten(0, -2).T)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)
        return of_x, of_weight, of_bias


class _Convolution(torch.autograd.Function):  # pylint: disable=abstract-method
    """``convolve`` whose weight gradient is one product for each tap."""

    @staticmethod
    def forward(ctx, x, weight, bias):  # pylint: disable=arguments-differ
        ctx.save_for_backward(x, weight)
        return _correlate(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # pylint: disable=arguments-differ
        x, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _correlate(gradient, weight.transpose(0, 1).flip(2))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient, weight.shape[2])
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 1))
        return of_x, of_weight, of_bias


def _correlate(x, weight, bias=None, groups: int = 1) -> torch.Tensor:
    """A 2-D convolution of images one row high: only those have a layout with channels last."""
    filters = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    out = F.conv2d(image, filters, bias, padding=(0, weight.shape[2] // 2), groups=groups)
    return out.squeeze(2).transpose(1, 2)


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor, taps: int) -> torch.Tensor:
    """``(C', C, taps)``: for each tap, the product of the gradient and the input shifted by it."""
    reach = taps // 2
    if len(x) > 1:  # zeros between videos keep their products apart
        x, gradient = (F.pad(part, (0, 0, 0, reach)) for part in (x, gradient))
    x, gradient = x.flatten(0, 1), gradient.flatten(0, 1)
    found = x.new_zeros(taps, gradient.shape[1], x.shape[1])
    for part, shift in zip(found, range(-reach, reach + 1), strict=True):
        first, last = max(0, -shift), len(x) - max(0, shift)
        if first < last:
            part.copy_(_product(gradient[first:last].T, x[first + shift : last + shift].T))
    return found.permute(1, 2, 0)
