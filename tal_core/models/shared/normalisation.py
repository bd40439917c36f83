"""Networks that take the mean and deviation of the training features out of what they see."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset

MOST_VIDEOS = 200  # that are read for the mean


class Normalised(nn.Module):
    """Holds ``mean`` and ``std`` (D,) of the training features; `take_statistics` sets them."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, num_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    def normalise(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``(..., D)`` with the training data's mean and deviation taken out."""
        return (features - self.mean) / self.std


def take_statistics(model: nn.Module, dataset: FeatureDataset, config: Any = None) -> None:
    """Give all `Normalised` parts of a network the features' mean and deviation in the training videos.

    Of a spread of the videos if there are many.
    """
    del config
    videos = dataset.videos(dataset.training_subset)
    videos = videos[:: -(-len(videos) // MOST_VIDEOS)]
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for video in videos:
        features = np.asarray(dataset.features(video), dtype=np.float64)
        count += len(features)
        total = total + features.sum(axis=0)
        squares = squares + (features**2).sum(axis=0)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    # A column that never changes says nothing: leave it at zero rather than blow up rounding noise.
    std = np.where(variance > 1e-10 * (1 + mean**2), np.sqrt(variance), 1.0)
    for part in model.modules():
        if isinstance(part, Normalised):
            part.mean.copy_(torch.from_numpy(mean))
            part.std.copy_(torch.from_numpy(std))
