"""Linear layers and convolutions over time, time first, by the kernels that are fastest on a CPU.

PyTorch multiplies float32 matrices with MKL, which on AMD leaves half of the machine unused, and computes the
gradient of filters slowly where channels lie together. oneDNN, which comes with PyTorch on x86 and ARM, does
both well, and all products here are its own. On a GPU, in half precision and under torch.compile the usual
functions run. Sums are taken in another order, so results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from tal_core.models.cpu_kernels import winograd

# From this size on Winograd's transforms cost less than the multiplications they save: in detection, and, as
# there are more of them then, in training.
FEWEST_CELLS, FEWEST_CHANNELS, FEWEST_TRAINED = 64, 128, 256


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
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    groups: int = 1,
    stride: int = 1,
) -> torch.Tensor:
    """``(B, T, C)`` -> ``(B, T / stride, C')``, 0 beyond both ends; ``weight`` (C', C / groups, odd taps)."""
    if groups > 1 or stride > 1:
        return _correlate(x, weight, bias, groups, stride)
    if weight.shape[2] == 1:
        return linear(x, weight.squeeze(2), bias)
    if not has_fast_products(x):
        return _correlate(x, weight, bias)
    return (_Filtering if _is_wide(x, weight, FEWEST_TRAINED) else _Convolution).apply(x, weight, bias)


def _is_wide(x: torch.Tensor, weight: torch.Tensor, channels: int) -> bool:
    """Whether Winograd's filtering is faster than the direct sum, which it is from so many channels on."""
    return (
        weight.shape[2] == winograd.TAPS and x.shape[1] >= FEWEST_CELLS and min(weight.shape[:2]) >= channels
    )


class Linear(nn.Linear):
    """A linear layer of ``linear``; starts with bias 0."""

    def __init__(self, channels: int, outputs: int):
        super().__init__(channels, outputs)
        nn.init.zeros_(self.bias)
        self.packed = Packed()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., C)`` -> ``(..., C')``."""
        if torch.is_grad_enabled() or not has_fast_products(x):
            return linear(x, self.weight, self.bias)
        return self.packed.linear(x, self.weight, self.bias)


class Convolution(nn.Conv1d):
    """A convolution over time, ``(B, T, C)`` -> ``(B, T, C')``, 0 outside; ``weight`` (C', C, odd taps)."""

    def __init__(self, channels: int, outputs: int, kernel_size: int, bias: bool = True):
        super().__init__(channels, outputs, kernel_size, padding=kernel_size // 2, bias=bias)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.packed = Packed()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Unmasked output."""
        if torch.is_grad_enabled() or not has_fast_products(x):
            return convolve(x, self.weight, self.bias)
        return self.packed.convolve(x, self.weight, self.bias)


class Packed:
    """A weight in the layout that oneDNN multiplies by, which it would otherwise make at every call.

    For inference, where one weight serves many videos; made anew when the weight has changed.
    """

    def __init__(self) -> None:
        self._state: tuple[str, int, int] | None = None
        self._weights: list[torch.Tensor] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return Packed()

    def __reduce__(self) -> tuple[type[Packed], tuple[()]]:
        return Packed, ()

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """What `linear` gives."""
        if not self._holds(weight, "linear"):
            self._weights = [_reordered(weight.detach(), x.numel() // x.shape[-1])]
        return _product(x, self._weights[0], bias)

    def convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """What `convolve` gives."""
        taps = weight.shape[2]
        if taps == 1:
            return self.linear(x, weight.squeeze(2), bias)
        if _is_wide(x, weight, FEWEST_CHANNELS):
            return self._filter(x, weight, bias)
        image, step, pad = x.unsqueeze(1).permute(0, 3, 1, 2), (1, 1), (0, taps // 2)
        if not self._holds(weight, "convolution"):
            filters = weight.detach().unsqueeze(2).to_mkldnn()
            # Its stub has other parameters than it takes.
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self._weights = [reorder(filters, pad, step, step, 1, image.shape)]
        correlate = torch.ops.mkldnn._convolution_pointwise
        out = correlate(image, self._weights[0], bias, pad, step, step, 1, "none", [], "")
        return out.squeeze(2).transpose(1, 2)

    def _filter(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`convolve` with three taps, by Winograd's minimal filtering."""
        inputs = winograd.transform_input(x)
        if not self._holds(weight, "winograd"):
            filters = winograd.transform_filters(weight.detach())
            self._weights = [_reordered(part, inputs.shape[1]) for part in filters]
        products = [_product(part, held) for part, held in zip(inputs, self._weights, strict=True)]
        return winograd.transform_output(products, bias, x.shape[0], x.shape[1])

    def _holds(self, weight: torch.Tensor, layout: str) -> bool:
        """Whether what is kept is ``weight`` as it is now, in this layout; notes that it will be."""
        state = (layout, weight.data_ptr(), weight._version)
        held, self._state = state == self._state, state
        return held


def _reordered(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """``weight`` (C', C) for products with ``rows`` rows; it does for any number of them."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)


def norm_relu(
    x: torch.Tensor, norm: nn.LayerNorm, invalid: torch.Tensor, gap: torch.Tensor | None = None
) -> torch.Tensor:
    """LayerNorm and ReLU of ``(B, T, C)``, taken as 0 where ``invalid`` (B, T, 1) before the norm.

    The result is 0 in the ``gap`` (B, T, 1), which is invalid as well.
    """
    if has_fast_products(x):
        return _NormReLU.apply(x, norm.weight, norm.bias, norm.eps, invalid, gap)
    x = norm(x.masked_fill(invalid, 0))
    return F.relu(x if gap is None else x.masked_fill(gap, 0))


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias`` by oneDNN; takes transposed views."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _needed(ctx: Any, *gradients: Callable[[], torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    """The gradients of those inputs that need one."""
    return tuple(make() if need else None for make, need in zip(gradients, ctx.needs_input_grad, strict=True))


class _Linear(torch.autograd.Function):
    """``linear`` with all three products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        return _needed(
            ctx,
            lambda: _product(gradient, weight.T),
            lambda: _product(rows.T, x.flatten(0, -2).T),
            lambda: rows.sum(dim=0),
        )


class _Convolution(torch.autograd.Function):
    """``convolve`` whose weight gradient is one product for each tap."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _correlate(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _needed(
            ctx,
            lambda: _correlate(gradient, weight.transpose(0, 1).flip(2)),
            lambda: _weight_gradient(x, gradient, weight.shape[2]),
            lambda: gradient.sum(dim=(0, 1)),
        )


class _Filtering(torch.autograd.Function):
    """``convolve`` with three taps by Winograd's minimal filtering, its gradients too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        inputs, filters = winograd.transform_input(x), winograd.transform_filters(weight)
        ctx.save_for_backward(inputs, filters)
        ctx.batch, ctx.length = x.shape[:2]
        products = [_product(part, held) for part, held in zip(inputs, filters, strict=True)]
        return winograd.transform_output(products, bias, ctx.batch, ctx.length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, filters = ctx.saved_tensors
        of_products = winograd.transposed_output(gradient)

        def of_x() -> torch.Tensor:
            parts = [_product(part, held.T) for part, held in zip(of_products, filters, strict=True)]
            return winograd.transposed_input(parts, ctx.batch, ctx.length)

        def of_weight() -> torch.Tensor:
            parts = [_product(part.T, held.T) for part, held in zip(of_products, inputs, strict=True)]
            return winograd.transposed_filters(parts)

        return _needed(ctx, of_x, of_weight, lambda: gradient.sum(dim=(0, 1)))


def _correlate(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    groups: int = 1,
    stride: int = 1,
) -> torch.Tensor:
    """A 2-D convolution of images one row high: only those have a layout with channels last."""
    filters = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    out = F.conv2d(image, filters, bias, (1, stride), (0, weight.shape[2] // 2), groups=groups)
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


class _NormReLU(torch.autograd.Function):
    """``norm_relu`` without a pass over all cells for each mask: few cells are invalid.

    Where the input counts as 0, the norm gives its bias, whatever the cell holds.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        invalid: torch.Tensor,
        gap: torch.Tensor | None,
    ) -> torch.Tensor:
        shape = (x.shape[-1],)
        y, mean, deviation = torch.native_layer_norm(x, shape, weight, bias, eps)
        unread = _rows(invalid)
        padding = unread if gap is None else _rows(invalid & ~gap)
        cells = y.view(-1, *shape)
        if gap is not None:
            cells.index_fill_(0, unread, 0)
        cells[padding] = bias
        y.relu_()
        ctx.save_for_backward(x, weight, bias, mean, deviation, y, unread, padding)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias, mean, deviation, y, unread, padding = ctx.saved_tensors
        shape = (x.shape[-1],)
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        cells = gradient.view(-1, *shape)
        of_padding = cells[padding].sum(dim=0)
        cells.index_fill_(0, unread, 0)
        of_x, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            gradient, x, shape, mean, deviation, weight, bias, [True] * 3
        )
        return of_x, of_weight, of_bias + of_padding, None, None, None


def _rows(mask: torch.Tensor) -> torch.Tensor:
    return mask.flatten().nonzero().squeeze(1)
