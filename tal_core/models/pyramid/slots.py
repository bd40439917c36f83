"""Videos of a batch behind one another in one sequence, on every level of a pyramid.

Each video has a slot: its valid cells, some padding, and a gap before the next video:

    level 0   | valid valid valid valid valid padding ... gap | valid valid ...
    level 1   | valid valid valid padding ... gap | valid ...

Short videos then cost no padding to the longest, and what the reference computes for padding is computed
once instead of hundreds of times. The last slot needs no gap, as nothing follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from tal_core.models.pyramid.blocks import Cells


class Level(NamedTuple):
    """The cells of one level, ``N`` in all.

    ``slots`` and ``lengths`` count the cells and the valid cells of each video. ``position`` (N,) of a cell
    in its slot, ``video`` (N,) it belongs to, ``invalid`` and ``gap`` (N,) bool.
    """

    slots: list[int]
    lengths: list[int]
    position: torch.Tensor
    video: torch.Tensor
    invalid: torch.Tensor
    gap: torch.Tensor

    def split(self, cells: torch.Tensor) -> list[torch.Tensor]:
        """The valid cells of each video, from ``(N, ...)``."""
        parts = cells.split(self.slots)
        return [part[:length] for part, length in zip(parts, self.lengths, strict=True)]


class Layout(NamedTuple):
    """All levels, and the table of their cells behind one another, ``P`` in all, ``reach`` gap cells between.

    ``number`` (P,) of a cell's level, ``video`` (P,), ``position`` (P,) in snippets, ``invalid`` and ``gap``
    (P,) bool.
    """

    levels: list[Level]
    reach: int
    number: torch.Tensor
    video: torch.Tensor
    position: torch.Tensor
    invalid: torch.Tensor
    gap: torch.Tensor

    def cells(self, levels: Sequence[torch.Tensor]) -> Cells:
        """``(1, N, C)`` cells of each level behind one another, 0 in gaps."""
        spaced = torch.cat([F.pad(level, (0, 0, 0, self.reach)) for level in levels], dim=1)
        invalid, gap = self.invalid.view(1, -1, 1), self.gap.view(1, -1, 1)
        return Cells(spaced.masked_fill(gap, 0), invalid, gap, self.number, self.video, self.position)


def lay_out(
    lengths: Sequence[int], padded: Sequence[int], levels: int, reach: int, device: torch.device
) -> Layout:
    """Slots for videos of ``lengths`` snippets on ``levels`` levels, fine to coarse.

    ``padded`` are the lengths to which the reference pads, multiples of the coarsest stride. Convolutions see
    ``reach`` >= 1 cells to each side, so as many cells of padding do.
    """
    coarsest = 2 ** (levels - 1)
    needed = [-(-length // coarsest) + reach for length in lengths]
    cells = [min(full // coarsest, need) for full, need in zip(padded, needed, strict=True)]
    slots = [(count + reach) * coarsest for count in cells[:-1]] + [cells[-1] * coarsest]
    # Where the gap begins on the finest and every other level: the reference's zeros beyond its padding.
    followed = [reach] * (len(slots) - 1) + [0]
    laid = []
    for stride in (2**level for level in range(levels)):
        size = [slot // stride for slot in slots]
        valid = [-(-length // stride) for length in lengths]
        real = [min(n - gap, full // stride) for n, gap, full in zip(size, followed, padded, strict=True)]
        laid.append(_level(size, valid, real, device))
    return _joined(laid, reach)


def _level(slots: list[int], lengths: list[int], real: list[int], device: torch.device) -> Level:
    """Tables of one level whose slots hold ``lengths`` valid and ``real`` valid or padding cells."""
    size, valid, end = torch.tensor([slots, lengths, real], device=device)
    video = torch.arange(len(slots), device=device).repeat_interleave(size, output_size=sum(slots))
    position = torch.arange(sum(slots), device=device) - (size.cumsum(0) - size)[video]
    return Level(slots, lengths, position, video, position >= valid[video], position >= end[video])


def _joined(levels: list[Level], reach: int) -> Layout:
    sizes = [len(level.video) + reach for level in levels]
    device = levels[0].video.device
    number = torch.arange(len(levels), device=device)
    return Layout(
        levels,
        reach,
        number.repeat_interleave(torch.tensor(sizes, device=device), output_size=sum(sizes)),
        torch.cat([F.pad(level.video, (0, reach)) for level in levels]),
        torch.cat([F.pad(level.position * 2**n, (0, reach)) for n, level in enumerate(levels)]),
        torch.cat([F.pad(level.invalid, (0, reach), value=True) for level in levels]),
        torch.cat([F.pad(level.gap, (0, reach), value=True) for level in levels]),
    )
