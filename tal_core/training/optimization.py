"""Optimizer, learning-rate schedule and averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from tal_core.models.config import MethodConfig

FUSED_DEVICES = ("cpu", "cuda", "mps")


def make_optimizer(model: nn.Module, config: MethodConfig) -> torch.optim.Optimizer:
    """Adam over all weights, or AdamW that decays matrices and filters but no biases, norms and scales."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    # One kernel for the whole step, on devices that have it.
    fused = all(weight.device.type in FUSED_DEVICES and weight.is_floating_point() for weight in trained)
    if config.optimizer == "adam":
        return torch.optim.Adam(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)


def learning_rate(config: MethodConfig, epoch: int, step: int, steps: int) -> float:
    """Learning rate of ``step`` (of ``steps``) in ``epoch``, both counted from 0.

    Rises linearly over the warm-up, then stays or follows half a cosine down to 0 (Loshchilov and Hutter,
    SGDR, 2017) over the epochs that are left. Each of the config's ``stages`` begins anew.
    """
    begin = max([0, *(stage for stage in config.stages if stage <= epoch)])
    end = min([config.epochs, *(stage for stage in config.stages if stage > epoch)])
    position, epochs = epoch - begin + step / steps, end - begin
    if position < config.warmup_epochs:
        return config.learning_rate * min(1.0, (position + 1 / steps) / config.warmup_epochs)
    if config.schedule == "constant" or epochs <= config.warmup_epochs:
        return config.learning_rate
    done = (position - config.warmup_epochs) / (epochs - config.warmup_epochs)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class AveragedWeights:
    """Exponential moving average of a model's weights; buffers are copied."""

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the present weights."""
        averages: list[torch.Tensor] = [*self.model.parameters()]
        weights: list[torch.Tensor] = [*model.parameters()]
        torch._foreach_lerp_(averages, weights, 1 - self.decay)
        for kept, current in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
