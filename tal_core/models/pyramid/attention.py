"""Attention within the videos of a batch that lie behind one another (``slots``).

Queries, keys and values are ``(N, H, C)``: the cells of all videos, attention heads, channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from tal_core.models.pyramid.slots import Level

QUERY_BLOCK = 64  # queries whose neighbourhoods are attended to at once, at least


def global_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, level: Level
) -> torch.Tensor:
    """Attention ``(N, H, C)`` of each video's valid cells to one another; 0 on the others."""
    parts = []
    for q, k, v, slot in zip(
        level.split(query), level.split(key), level.split(value), level.slots, strict=True
    ):
        attended = F.scaled_dot_product_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
        parts.append(F.pad(attended.transpose(0, 1), (0, 0, 0, 0, 0, slot - len(q))))
    return torch.cat(parts)


def local_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, level: Level, reach: int
) -> torch.Tensor:
    """Attention ``(N, H, C)`` of each cell to the valid cells of its video within ``reach``.

    Blocks of queries attend to their keys and ``reach`` more to each side; a mask leaves out the rest.
    """
    count = len(query)
    block = min(max(QUERY_BLOCK, reach), count)
    extra = -count % block
    query = F.pad(query, (0, 0, 0, 0, 0, extra)).unflatten(0, (-1, block)).transpose(1, 2)
    key, value = (_Neighbourhoods.apply(part, block, reach) for part in (key, value))
    near = _near(level, block, reach)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=near)
    return attended.transpose(1, 2).flatten(0, 1)[:count]


def _near(level: Level, block: int, reach: int) -> torch.Tensor:
    """``(blocks, 1, block, block + 2 * reach)``: which keys each query sees.

    Padding sees padding, whose output nobody reads, so that no query is without a key.
    """
    owner = level.video.masked_fill(level.invalid, -1)
    owner = F.pad(owner, (0, -len(owner) % block), value=-1)
    query = owner.view(-1, 1, block, 1)
    key = F.pad(owner, (reach, reach), value=-2).unfold(0, block + 2 * reach, block)[:, None, None]
    place = torch.arange(block + 2 * reach, device=owner.device)
    distance = place - place[:block, None]
    return (query == key) & (distance >= 0) & (distance <= 2 * reach)


class _Neighbourhoods(torch.autograd.Function):
    """``(N, H, C)`` -> ``(N / block, H, block + 2 * reach, C)``: overlapping views, 0 beyond the ends.

    A gradient of ``unfold`` that adds the few cells that blocks share, instead of every cell by itself.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, block: int, reach: int) -> torch.Tensor:
        ctx.sizes = len(x), block, reach
        padded = F.pad(x, (0, 0, 0, 0, reach, reach - len(x) % -block))
        return padded.unfold(0, block + 2 * reach, block).transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        count, block, reach = ctx.sizes
        gradient = gradient.transpose(1, 2)
        whole = gradient[:, reach : reach + block].contiguous()
        if len(whole) > 1:
            whole[:-1, block - reach :] += gradient[1:, :reach]
            whole[1:, :reach] += gradient[:-1, reach + block :]
        return whole.flatten(0, 1)[:count], None, None
