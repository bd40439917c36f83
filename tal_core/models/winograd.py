"""Convolutions of three taps with half the multiplications, for inference on a CPU.

Winograd's minimal filtering F(4, 3): four outputs of a three-tap filter depend on six inputs, and six
products give them instead of twelve (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR
2016):

    y = OUTPUT [(FILTER w) * (INPUT x)]

In float32 results agree with the direct sum to about three times its own rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
    table = torch.tensor(FILTER, dtype=torch.float64)
    return torch.einsum("it,oct->ioc", table, weight.double()).to(weight.dtype)


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
    found = x.new_empty(6, batch, tiles, channels)

    even, odd = torch.add(six[4], six[2], alpha=-4), torch.add(six[3], six[1], alpha=-4)
    torch.sub(even, six[2], out=found[0]).add_(six[0], alpha=4)
    torch.add(even, odd, out=found[1])
    torch.sub(even, odd, out=found[2])
    torch.sub(six[4], six[2], out=even)
    torch.sub(six[3], six[1], out=odd)
    torch.add(even, odd, alpha=2, out=found[3])
    torch.add(even, odd, alpha=-2, out=found[4])
    torch.sub(six[5], six[3], out=found[5]).add_(odd, alpha=-4)
    return found.flatten(1, 2)


def transform_output(
    products: Sequence[torch.Tensor], bias: torch.Tensor | None, batch: int, length: int
) -> torch.Tensor:
    """Six ``(B * ceil(T / 4), C')`` products -> ``(B, T, C')``.

    OUTPUT is (1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0) and (0, 1, -1, 8, -8, 1).
    """
    rows, channels = products[0].shape
    found = products[0].new_empty(rows, TILE, channels)
    small, large = products[1] + products[2], products[3] + products[4]
    torch.add(products[0], small, out=found[:, 0]).add_(large)
    torch.add(small, large, alpha=4, out=found[:, 2])
    torch.sub(products[1], products[2], out=small)
    torch.sub(products[3], products[4], out=large)
    torch.add(small, large, alpha=2, out=found[:, 1])
    torch.add(small, large, alpha=8, out=found[:, 3]).add_(products[5])
    if bias is not None:
        found += bias
    return found.view(batch, -1, channels)[:, :length]
