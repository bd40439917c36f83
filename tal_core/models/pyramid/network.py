"""What the pyramid methods do alike around their own pyramids: targets, loss, candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from tal_core.models.method import Candidates
from tal_core.models.pyramid.blocks import Cells, Heads, Tower, drop_channels
from tal_core.models.pyramid.config import PyramidConfig, resized
from tal_core.models.pyramid.points import (
    Decoded,
    LossNormaliser,
    assign,
    best_cells,
    join_windows,
    pad_segments,
    points,
    snippet_scores,
    to_candidates,
    to_segments,
    weighted_total,
    windows,
)
from tal_core.models.shared.clips import resample
from tal_core.types import TimeGrid

Config = TypeVar("Config", bound=PyramidConfig)


class Outputs(NamedTuple):
    """``logits`` (N, K) of all ``cells``; their distances are read off where they are needed."""

    logits: torch.Tensor
    cells: Cells


class Targets(NamedTuple):
    """``classes`` (N, K) of 0 and 1, and ``distances`` (N, 2) in strides, which count where a class is 1."""

    classes: torch.Tensor
    distances: torch.Tensor


class LossSums(NamedTuple):
    """Both losses summed over the batch, and the number of positive cells by which they are divided."""

    classification: torch.Tensor
    regression: torch.Tensor
    positives: torch.Tensor


class PyramidNetwork(nn.Module, Generic[Config]):
    """A network with ``embedding``, ``heads`` and ``normaliser``, and its own pyramid between them.

    A method's class makes its layers, from the embedding on, and gives `forward` and `loss_sums`.
    """

    heads: Heads
    normaliser: LossNormaliser

    def __init__(self, config: Config, num_features: int, num_classes: int, embed_kernel: int):
        super().__init__()
        self.config, self.num_classes = config, config.num_outputs(num_classes)
        self.embedding = Tower(config, num_features, config.embed_dim, config.embed_layers, embed_kernel)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """`outputs`, and what a compiler compiles."""
        raise NotImplementedError

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits and cells of videos ``(B, T, D)``, real where ``mask`` (B, T) is true."""
        return self(features, mask)

    def distances(self, cells: Cells, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Distances ``(M, 2)`` in strides of the cells ``index`` (M,), for the classes ``label`` (M,)."""
        del label
        return self.heads.distances(cells, index)

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> Any:
        """`Targets` of all cells from the videos' ground truth (ActionFormer, section 3.3)."""
        cells = outputs.cells
        padded, classes = pad_segments(segments, labels)
        return Targets(
            *assign(
                points(cells, self.config.ranges),
                padded[cells.video],
                classes[cells.video],
                self.config.center_radius,
                self.num_classes,
            )
        )

    def loss_sums(self, outputs: Outputs, targets: Any) -> LossSums:
        """What `loss` weighs and adds up."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Classification and regression loss of a batch of ``clips.ClipSampler``."""
        features = drop_channels(batch["features"], self.config.input_dropout, self.training)
        outputs = self.outputs(features, batch["mask"])
        sums = self.loss_sums(outputs, self.targets(outputs, batch["segments"], batch["labels"]))
        normaliser = self.normaliser.update(sums.positives)
        return weighted_total(
            sums.classification / normaliser, sums.regression / normaliser, self.config.regression_weight
        )

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor | None]:
        """Candidates of one video from its ``(T, D)`` features, and its ``(T, K)`` snippet scores.

        Proposals without classes have no snippet scores.
        """
        length, end = len(features), grid.seconds(len(features) - 1) + max(grid.offset, grid.stride / 2)
        features, grid = resized(features, grid, self.config)
        parts = windows(len(features), self.config)
        decoded, logits = zip(*(self.decode(features[part.begin : part.end]) for part in parts), strict=True)
        levels, level_logits = join_windows(parts, decoded, logits)
        candidates = to_candidates(levels, grid, end, self.config)
        if self.config.classes == "agnostic":
            return candidates, None
        scores = snippet_scores(level_logits, len(features))
        return candidates, scores if len(scores) == length else resample(scores, grid, length)[0]

    @torch.no_grad()
    def decode(self, features: torch.Tensor) -> tuple[list[Decoded], Sequence[torch.Tensor]]:
        """Candidates of one ``(T, D)`` video by level, and the ``(T_l, K)`` logits of its valid cells."""
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        outputs = self.outputs(features.unsqueeze(0), mask)
        valid = outputs.cells.valid.nonzero().squeeze(1)
        sizes = [-(-len(features) // 2**level) for level in range(self.config.levels)]
        levels = outputs.logits[valid].split(sizes)
        best = [best_cells(level, self.config) for level in levels]
        index = torch.cat([cells[part.cells] for cells, part in zip(valid.split(sizes), best, strict=True)])
        distances = self.distances(outputs.cells, index, torch.cat([part.labels for part in best]))
        apart = distances.split([len(part.cells) for part in best])
        return [
            to_segments(part, distance, level, self.config)
            for level, (part, distance) in enumerate(zip(best, apart, strict=True))
        ], levels
