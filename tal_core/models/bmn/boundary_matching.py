"""The boundary-matching map of BMN: which cells there are, what they sample, and convolutions over them.

A cell (start i, last j) stands for the proposal that covers snippets i to j. Laid out as a T x T map, half
of the cells end before they start. Here a map is a list of cells instead, ``(B, cells, C)``, that holds the
proposals and the few cells beside them that 3x3 convolutions read, and nothing else. What a cell reads is a
table of indices, made once. The numbers are those of the dense map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Cells(NamedTuple):
    """Cells of a map: ``start`` and ``last`` (n,) int64; the first ``proposals`` of them are proposals."""

    start: np.ndarray
    last: np.ndarray
    proposals: int

    def band(self, reach: int) -> int:
        """How many cells come first that are proposals or at most ``reach`` steps before them."""
        return int(np.count_nonzero(self.last - self.start >= -reach))


def map_cells(length: int, longest: int, reach: int) -> Cells:
    """Proposals of at most ``longest`` of ``length`` snippets, then ``reach`` diagonals that end too early.

    Proposals are ordered by start, then last. The diagonals follow, the nearest first, so that every
    smaller ``reach`` is a prefix.
    """
    start, duration = np.nonzero(np.arange(length)[:, None] + np.arange(longest) < length)
    starts, lasts = [start], [start + duration]
    for step in range(1, min(reach, length - 1) + 1):
        starts.append(np.arange(step, length))
        lasts.append(np.arange(length - step))
    return Cells(np.concatenate(starts), np.concatenate(lasts), len(start))


class RowSums(NamedTuple):
    """A sparse matrix by rows: row ``r`` holds ``weights[edges[r]:edges[r + 1]]`` in ``columns``."""

    columns: np.ndarray
    edges: np.ndarray
    weights: np.ndarray


def sampling(
    cells: Cells, length: int, samples: int, points: int, extension: float
) -> tuple[RowSums, RowSums]:
    """What each cell reads from a sequence: the matrix (cells, length * samples) and its transpose.

    Around a proposal from ``left`` to ``right`` snippet edges, extended by ``extension`` of (its length + 1)
    to each side, lie ``samples * points`` equally spaced points; each run of ``points`` is averaged into a
    sample (BMN, section 3.3). A point reads by linear interpolation; beyond the last snippet there is
    nothing. As in the published code, a point between -1 and 0 reads snippet 0 in full and points before
    that nothing. Column ``t * samples + n`` is snippet t as sample n sees it. Only proposals sample: rows of
    other cells are empty.
    """
    place = _places(cells, samples * points, extension)
    whole, beyond = np.trunc(place), np.ceil(place)
    fraction = place - whole
    row = np.broadcast_to(np.arange(cells.proposals)[:, None], place.shape)
    sample = np.broadcast_to(np.arange(samples * points) // points, place.shape)
    entries = []
    for snippet, weight in ((whole, 1 - fraction), (beyond, fraction)):
        inside = (snippet >= 0) & (snippet < length) & (place > -1)
        column = snippet[inside].astype(np.int64) * samples + sample[inside]
        entries.append((row[inside] * (length * samples) + column, weight[inside] / points))
    key, group = np.unique(np.concatenate([key for key, _ in entries]), return_inverse=True)
    weights = np.bincount(group, np.concatenate([weight for _, weight in entries]))
    rows, columns = np.divmod(key, length * samples)
    forward = _by_rows(rows, columns, weights, len(cells.start))
    return forward, _by_rows(columns, rows, weights, length * samples)


def _places(cells: Cells, count: int, extension: float) -> np.ndarray:
    """Positions of the points of each proposal, ``(proposals, count)``."""
    left = cells.start[: cells.proposals].astype(np.float64)
    right = cells.last[: cells.proposals] + 1.0
    reach = (right - left + 1) * extension
    step = (right - left + 2 * reach) / (count - 1)
    return (left - reach)[:, None] + step[:, None] * np.arange(count)


def _by_rows(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, count: int) -> RowSums:
    used = weights != 0
    order = np.flatnonzero(used)[np.argsort(rows[used], kind="stable")]
    edges = np.concatenate([[0], np.bincount(rows[order], minlength=count).cumsum()])
    return RowSums(columns[order].astype(np.int32), edges.astype(np.int32), weights[order].astype(np.float32))


def neighbours(cells: Cells, readers: int, read: int, sign: int = 1) -> np.ndarray:
    """Rows that a 3x3 convolution reads for each of the first ``readers`` cells; ``(readers * 9,)``.

    Tap (a, b) of the 3x3 reads cell (start + sign * a, last + sign * b). Cells that are not among the first
    ``read`` give row ``read``, which stands for zero.
    """
    start, last = cells.start, cells.last
    side = int(max(start.max(), last.max())) + 3
    place = np.full((side, side), read)
    place[start[:read] + 1, last[:read] + 1] = np.arange(read)
    offset = sign * np.arange(-1, 2)
    found = place[
        start[:readers, None, None] + 1 + offset[:, None], last[:readers, None, None] + 1 + offset[None, :]
    ]
    return found.reshape(-1)


class BoundaryMatching(nn.Module):
    """Samples a sequence around every proposal and convolves over the map of them.

    ``(B, length, C)`` -> ``(B, proposals, out)`` in the order of `map_cells`. Equal to the boundary-matching
    layer, the (samples, 1, 1) 3-D convolution to ``wide`` channels, and the 1x1, 3x3, 3x3 and 1x1 2-D
    convolutions of BMN (section 3.3), with ReLU between. Sampling and the 3-D convolution are both linear:
    here the weights of each sample act on the ``length`` snippets first, and every cell then sums the few
    rows that it reads, which is some thirty times less work than the other way round.
    """

    start: torch.Tensor
    last: torch.Tensor
    reads_near: torch.Tensor
    read_by_near: torch.Tensor
    reads: torch.Tensor
    read_by: torch.Tensor

    def __init__(
        self,
        length: int,
        longest: int,
        *,
        channels: int,
        wide: int,
        hidden: int,
        out: int,
        samples: int = 32,
        points: int = 3,
        extension: float = 0.5,
    ):
        super().__init__()
        # Outputs at proposals see 3x3 inputs two diagonals beside them, and those see four.
        cells = map_cells(length, longest, reach=4)
        near, far = cells.band(2), cells.band(4)
        self.samples = samples
        self.register_buffer("start", torch.from_numpy(cells.start[: cells.proposals]), persistent=False)
        self.register_buffer("last", torch.from_numpy(cells.last[: cells.proposals]), persistent=False)
        for name, sums in zip(
            ("gather", "spread"), sampling(cells, length, samples, points, extension), strict=True
        ):
            for part, values in sums._asdict().items():
                self.register_buffer(f"{name}_{part}", torch.from_numpy(values), persistent=False)
        tables = {
            "reads_near": neighbours(cells, near, far),
            "read_by_near": neighbours(cells, far, near, sign=-1),
            "reads": neighbours(cells, cells.proposals, near),
            "read_by": neighbours(cells, near, cells.proposals, sign=-1),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self.sample = nn.Linear(channels, samples * wide, bias=False)
        bound = (channels * samples) ** -0.5
        nn.init.uniform_(self.sample.weight, -bound, bound)
        self.sample_bias = nn.Parameter(torch.empty(wide).uniform_(-bound, bound))
        self.reduce = nn.Linear(wide, hidden)
        self.convolution_near = nn.Conv2d(hidden, hidden, 3)
        self.convolution = nn.Conv2d(hidden, hidden, 3)
        self.output = nn.Linear(hidden, out)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """``(B, length, C)`` -> ``(B, proposals, out)``."""
        sampled = F.relu(self.sampled(sequence), inplace=True)
        cells = F.relu(self.reduce(sampled), inplace=True)
        cells = _convolve(cells, self.convolution_near, self.reads_near, self.read_by_near)
        cells = _convolve(cells, self.convolution, self.reads, self.read_by)
        return self.output(cells)

    def sampled(self, sequence: torch.Tensor) -> torch.Tensor:
        """``(B, length, C)`` -> ``(B, cells, wide)``: the 3-D convolution of what every cell samples."""
        rows = self.sample(sequence).view(len(sequence), -1, len(self.sample_bias))
        gather = (self.gather_columns, self.gather_edges, self.gather_weights)
        spread = (self.spread_columns, self.spread_edges, self.spread_weights)
        return _SparseProduct.apply(rows, gather, spread) + self.sample_bias.to(rows.dtype)


Matrix = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # columns, edges and weights of a `RowSums`


class _SparseProduct(torch.autograd.Function):
    """``(B, columns, C)`` -> ``(B, rows, C)``: a fixed sparse matrix times each table.

    Linear, so nothing is kept for the backward pass, which is the transposed matrix times the gradient.
    """

    @staticmethod
    def forward(ctx: Any, tables: torch.Tensor, matrix: Matrix, transposed: Matrix) -> torch.Tensor:
        ctx.transposed = transposed
        return _row_sums(tables, *matrix)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _row_sums(gradient, *ctx.transposed), None, None


def _row_sums(
    tables: torch.Tensor, columns: torch.Tensor, edges: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    weights = weights.to(tables.dtype)
    return torch.stack(
        [
            F.embedding_bag(
                columns, table, edges, mode="sum", per_sample_weights=weights, include_last_offset=True
            )
            for table in tables.contiguous()
        ]
    )


def _convolve(
    cells: torch.Tensor, layer: nn.Conv2d, reads: torch.Tensor, read_by: torch.Tensor
) -> torch.Tensor:
    """3x3 convolution and ReLU of a list of cells."""
    assert layer.bias is not None
    weight, bias = layer.weight.to(cells.dtype), layer.bias.to(cells.dtype)
    return F.relu(_MapConvolution.apply(cells, weight, bias, reads, read_by), inplace=True)


class _MapConvolution(torch.autograd.Function):
    """3x3 convolution of ``(B, cells, C)`` whose neighbours stand in a table.

    One video at a time: its 9 neighbours side by side are one matrix product, and that copy, the largest
    array of the network, is made again in the backward pass rather than kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cells: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        reads: torch.Tensor,
        read_by: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(cells, weight, reads, read_by)
        matrix = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
        return torch.stack([torch.addmm(bias, beside, matrix) for beside in _side_by_side(cells, reads)])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cells, weight, reads, read_by = ctx.saved_tensors
        backwards = weight.permute(2, 3, 0, 1).reshape(-1, weight.shape[1])
        of_cells = torch.stack([beside @ backwards for beside in _side_by_side(gradient, read_by)])
        of_matrix = sum(
            beside.T @ video for beside, video in zip(_side_by_side(cells, reads), gradient, strict=True)
        )
        of_weight = of_matrix.view(3, 3, weight.shape[1], weight.shape[0]).permute(3, 2, 0, 1)
        return of_cells, of_weight, gradient.sum(dim=(0, 1)), None, None


def _side_by_side(cells: torch.Tensor, table: torch.Tensor) -> Iterator[torch.Tensor]:
    """Each video's cells with their 9 neighbours in a row: yields ``(readers, 9 * C)``."""
    padded = F.pad(cells, (0, 0, 0, 1))
    for video in padded:
        yield video.index_select(0, table).view(len(table) // 9, -1)
