"""A method of the smallest kind: whole videos as samples, two loss terms, no snippet scores."""

import numpy as np
import torch
from torch import nn

from tal_core.models.config import MethodConfig, setting
from tal_core.models.method import Candidates, Method


class ToyConfig(MethodConfig):
    width: int = setting(2, "Channels.", "Network", ge=1, le=8)
    optimizer: str = setting("adamw", "Fixed.", "Optimisation")


class Toy(nn.Module):
    def __init__(self, config, num_features, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, config.width), nn.Linear(config.width, num_classes)
        )

    def loss(self, batch):
        features, masks = batch
        size = self.layers(features * masks).square().mean()
        return {"size": size, "loss": 2 * size}

    def candidates(self, features, grid):
        best = self.layers(features).max(dim=0).values.sigmoid()
        segments = np.tile([0.0, float(grid.seconds(len(features)))], (len(best), 1))
        return Candidates(segments, best.numpy(), np.arange(len(best))), None


class WholeVideos:
    def __init__(self, model, dataset, config):
        self.videos = [dataset.features(video) for video in dataset.videos(dataset.training_subset)]

    def epoch(self, epoch, generator):
        order = torch.randperm(len(self.videos), generator=generator)
        return [self.batch(self.videos[i]) for i in order]

    @staticmethod
    def batch(features):
        return torch.from_numpy(np.array(features))[None], torch.ones(1, len(features), 1)


METHOD = Method("toy", "Toy", "For tests.", "None.", ToyConfig, Toy, WholeVideos)
