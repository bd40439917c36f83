"""The two stages of training BSN: clips for TEM and class head, then proposals for PEM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.bsn.proposals import match
from tal_core.models.shared.batches import Batches
from tal_core.models.shared.clips import ClipSampler, resample
from tal_core.types import TimeGrid


class StagedSampler:
    """Clips for the first epochs of a ``bsn.BSN``, then proposals of its trained TEM."""

    def __init__(self, model: Any, dataset: FeatureDataset, config: Any):
        self.model, self.config = model, config
        self.clips = ClipSampler(
            dataset,
            config.batch_size,
            config.clip_length,
            resize=config.length,
            keep=config.keep_features,
            device=config.device,
        )
        self.found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def epoch(self, epoch: int, generator: torch.Generator) -> Sequence[dict[str, Any]]:
        """Batches of clips (`ClipSampler`), or of ``proposals`` (N, 32) and their ``iou`` (N,)."""
        if epoch < self.config.epochs - self.config.pem_epochs:
            return self.clips.epoch(epoch, generator)
        order = torch.randperm(len(self.clips.videos), generator=generator).tolist()
        return ProposalBatches(self, order)

    def proposals(self, video: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and IoU of a video's proposals, made once: TEM changes no more."""
        if video not in self.found:
            features = self.clips.reader.read(video).float()
            segments, length = self.clips.truth[video][0], self.config.length
            if length is not None:
                segments = (segments + 0.5) * (length / len(features)) - 0.5
                features = resample(features, TimeGrid(1.0), length)[0]
            found, values = self.model.proposals(
                features.to(self.model.mean.device), self.config.training_proposals
            )
            iou = match(found.segments, segments)[0]
            self.found[video] = torch.from_numpy(values).float(), torch.from_numpy(iou).float()
        return self.found[video]


class ProposalBatches(Batches):
    """Proposals of ``batch_size`` videos at a time."""

    needs_network = True

    def __init__(self, sampler: StagedSampler, order: list[int]):
        super().__init__(order, sampler.config.batch_size)
        self.sampler = sampler

    def read(self, step: int, entries: Sequence[int]) -> dict[str, torch.Tensor]:
        """Features (N, 32) and tIoU (N,) of all proposals of the videos numbered ``entries``."""
        videos = [self.sampler.proposals(self.sampler.clips.videos[number]) for number in entries]
        features, iou = zip(*videos, strict=True)
        return {"proposals": torch.cat(features), "iou": torch.cat(iou)}
