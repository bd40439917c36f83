"""Convolutions of three taps with half the multiplications, and their gradients, on a CPU.

Winograd's minimal filtering F(4, 3): four outputs of a three-tap filter depend on six inputs, and six
products give them instead of twelve (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR
2016):

    y = OUTPUT [(FILTER w) * (INPUT x)]

The gradients are the transposed steps in reverse order, so that they take half the multiplications as well:

    of y  -> OUTPUT' -> of the products -> times (INPUT x) -> FILTER'   of w
                                        -> times (FILTER w) -> INPUT'   of x

In float32 results agree with the direct sum to about three times its own rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

TAPS, TILE = 3, 4
FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def transform_filters(weight: torch.Tensor) -> torch.Tensor:
    """``(C', C, 3)`` -> ``(6, C', C)``."""
    table = torch.tensor(FILTER, dtype=weight.dtype)
    return (table @ weight.permute(2, 0, 1).flatten(1)).view(-1, *weight.shape[:2])


def transposed_filters(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Six gradients ``(C', C)`` of transformed filters -> ``(C', C, 3)`` of the filters."""
    out = parts[0].new_empty(TAPS, *parts[0].shape)
    small, large = parts[1] + parts[2], parts[3] + parts[4]
    torch.add(parts[5], large.sub_(small), alpha=1 / 6, out=out[2])
    torch.mul(parts[0], 1 / 4, out=out[0]).add_(large, alpha=1 / 24).sub_(small, alpha=1 / 8)
    torch.sub(parts[2], parts[1], out=small)
    torch.sub(parts[3], parts[4], out=large)
    torch.add(small, large, alpha=1 / 2, out=out[1]).div_(6)
    return out.permute(1, 2, 0)


def transform_input(x: torch.Tensor) -> torch.Tensor:
    """``(B, T, C)``, 0 beyond both ends, -> ``(6, B * ceil(T / 4), C)``.

    INPUT is, row by row, (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0) and (0, 4, 0, -5, 0, 1); rows share sums.
    """
    batch, length, channels = x.shape
    tiles = -(-length // TILE)
    padded = x.new_empty(batch, TILE * tiles + 2, channels)
    padded[:, 0], padded[:, length + 1 :] = 0, 0
    padded[:, 1 : length + 1] = x
    six = [padded[:, first : first + TILE * tiles - 3 : TILE] for first in range(6)]
    out = x.new_empty(6, batch, tiles, channels)

    even, odd = torch.add(six[4], six[2], alpha=-4), torch.add(six[3], six[1], alpha=-4)
    torch.sub(even, six[2], out=out[0]).add_(six[0], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(six[4], six[2], out=even)
    torch.sub(six[3], six[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.add(even, odd, alpha=-2, out=out[4])
    torch.sub(six[5], six[3], out=out[5]).add_(odd, alpha=-4)
    return out.flatten(1, 2)


def transform_output(
    products: Sequence[torch.Tensor], bias: torch.Tensor | None, batch: int, length: int
) -> torch.Tensor:
    """Six ``(B * ceil(T / 4), C')`` products -> ``(B, T, C')``.

    OUTPUT is (1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0) and (0, 1, -1, 8, -8, 1).
    """
    rows, channels = products[0].shape
    out = products[0].new_empty(rows, TILE, channels)
    small, large = products[1] + products[2], products[3] + products[4]
    torch.add(products[0], small, out=out[:, 0]).add_(large)
    torch.add(small, large, alpha=4, out=out[:, 2])
    torch.sub(products[1], products[2], out=small)
    torch.sub(products[3], products[4], out=large)
    torch.add(small, large, alpha=2, out=out[:, 1])
    torch.add(small, large, alpha=8, out=out[:, 3]).add_(products[5])
    if bias is not None:
        out += bias
    return out.view(batch, -1, channels)[:, :length]


def transposed_output(gradient: torch.Tensor) -> torch.Tensor:
    """Gradient ``(B, T, C')`` of outputs -> ``(6, B * ceil(T / 4), C')`` of products."""
    missing = -gradient.shape[1] % TILE
    gradient = F.pad(gradient, (0, 0, 0, missing)) if missing else gradient
    four = gradient.reshape(-1, TILE, gradient.shape[2]).unbind(1)
    out = gradient.new_empty(6, *four[0].shape)
    out[0], out[5] = four[0], four[3]
    even, odd = four[0] + four[2], four[1] + four[3]
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.add(four[0], four[2], alpha=4, out=even)
    torch.add(four[1], four[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    return out


def transposed_input(parts: Sequence[torch.Tensor], batch: int, length: int) -> torch.Tensor:
    """Six gradients ``(B * ceil(T / 4), C)`` of transformed inputs -> ``(B, T, C)`` of the inputs.

    A tile shares its last two inputs with the first two of the next.
    """
    parts = [part.unflatten(0, (batch, -1)) for part in parts]
    tiles, channels = parts[0].shape[1:]
    out = parts[0].new_empty(batch, tiles + 1, TILE, channels)
    out[:, tiles] = 0
    own, shared = out[:, :tiles], out[:, 1:]
    small, large = parts[1] - parts[2], parts[3] - parts[4]
    torch.mul(parts[0], 4, out=own[:, :, 0])
    torch.sub(parts[5], small, out=own[:, :, 1]).mul_(4).sub_(large, alpha=2)
    torch.add(small, large, alpha=2, out=own[:, :, 3]).sub_(parts[5], alpha=5)
    torch.add(parts[1], parts[2], out=small)
    torch.add(parts[3], parts[4], out=large)
    torch.mul(parts[0], -5, out=own[:, :, 2]).sub_(small, alpha=4).sub_(large)
    shared[:, :, 0] += small.add_(large).add_(parts[0])
    shared[:, :, 1] += parts[5]
    return out.flatten(1, 2)[:, 1 : length + 1]
