"""BSN, the boundary-sensitive network (Lin et al., ECCV 2018): starts, ends, pairs of them.

    TEM   features -> action, start and end probability of every snippet
    PGM   peaks of start and end -> every pair of a start and a later end = proposals; the action curve in and
          around each = its features
    PEM   these features -> expected IoU with ground truth
    NMS   soft-NMS whose threshold grows with the width of a proposal

Numerically the public implementation (github.com/wzmsltw/BSN-boundary-sensitive-network.pytorch). Trained in
two stages of one run: TEM, and beside it our class head (`proposals.ProposalClassifier`), then PEM on the
proposals of the finished TEM. Videos are rescaled to ``length`` snippets, as published, or kept as they are.

Positions are those of the feature grid: snippet ``t`` reaches from ``t - 0.5`` to ``t + 0.5``. Relative time
of the paper is ``(position + 0.5) / T``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.bsn.proposals import (
    NUM_VALUES,
    Proposals,
    generate_proposals,
    proposal_features,
    soft_nms,
)
from tal_core.models.bsn.stages import StagedSampler
from tal_core.models.config import revised, setting
from tal_core.models.cpu_kernels.convolution import convolve
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Candidates, Method, Suggestion
from tal_core.models.shared.class_head import ProposalClassifier, ProposalConfig, detections
from tal_core.models.shared.clips import resample
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.types import TimeGrid

EPSILON = 1e-5  # inside the logarithms of the balanced loss
STEPS = 600  # of the first stage, where auto has to choose
POSITIVE = 0.5  # a snippet's target is positive above this


class BsnConfig(ProposalConfig):
    """Settings of BSN; the defaults are those published for ActivityNet."""

    epochs: int = revised("epochs", 40, "Passes over the training videos, the second stage included.")
    pem_share: float = setting(
        0.5,
        "Last part of the epochs that trains the proposal evaluation (PEM) alone, on proposals of the"
        " finished first stage; 0 leaves it out.",
        "Optimisation",
        ge=0,
        lt=1,
    )
    batch_size: int = revised("batch_size", 16, "Videos in one optimisation step.")
    learning_rate: float = revised("learning_rate", 1e-3)
    weight_decay: float = revised("weight_decay", 1e-4)
    pem_loss: Literal["mean", "balanced"] = setting(
        "mean",
        "Mean over all proposals, which is what the reference computes, or over a balanced choice of high,"
        " middle and low IoU, as in the paper.",
        "Optimisation",
    )

    length: int | None = setting(
        100,
        "Snippets that every video is rescaled to; empty keeps videos as they are.",
        "Windows",
        ge=2,
        le=100_000,
    )
    clip_length: int = setting(
        2048,
        "Longer training videos are cropped to so many snippets, if they aren't rescaled.",
        "Windows",
        ge=2,
        le=1_000_000,
    )
    boundary_ratio: float = setting(
        0.1, "Length of the start and the end of an action, as a part of its own.", "Windows", gt=0, le=1
    )
    boundary_snippets: float = setting(
        1.0, "Least length of the start and the end of an action in snippets.", "Windows", ge=0.1, le=100
    )
    training_proposals: int = setting(
        500, "Best proposals of a video that train the proposal evaluation.", "Windows", ge=1, le=100_000
    )

    tem_channels: int = setting(512, "Channels of the temporal evaluation (TEM).", "Network", ge=1, le=8192)
    tem_scale: float = setting(
        0.01, "Factor before the sigmoid of TEM; small ones train slowly.", "Network", gt=0, le=10
    )
    tem_dropout: float = setting(0.0, "Share of TEM's channels left out in training.", "Network", ge=0, lt=1)
    pem_channels: int = setting(256, "Hidden units of the proposal evaluation.", "Network", ge=1, le=8192)
    pem_scale: float = setting(
        0.1, "Factor before the activations of PEM; small ones train slowly.", "Network", gt=0, le=10
    )

    peak_threshold: float = setting(
        0.5,
        "Snippets above this part of the video's highest start (end) score are candidates beside the peaks.",
        "Detection",
        gt=0,
        le=1,
    )
    longest_proposal: int | None = setting(
        None, "Longest proposal in snippets; empty for no limit.", "Detection", ge=1, le=1_000_000
    )
    max_pairs: int = setting(1000, "Best pairs of a video that PEM evaluates.", "Detection", ge=1, le=100_000)
    proposal_weight: float = setting(
        1.0,
        "Power of a proposal's score in the product with that of the class head.",
        "Detection",
        ge=0,
        le=1,
    )
    proposal_nms: Literal["soft", "none"] = setting(
        "soft", "Thin out proposals before they get classes, by the paper's soft-NMS.", "Detection"
    )
    max_proposals: int = setting(
        100, "Proposals of a video that are kept after its soft-NMS.", "Detection", ge=1, le=100_000
    )
    proposal_sigma: float = setting(
        0.75, "Width of that soft-NMS; smaller lowers overlapping scores more.", "Detection", gt=0, le=10
    )
    proposal_overlap: float = setting(
        0.65, "tIoU from which it lowers scores around the shortest proposals.", "Detection", ge=0, le=1
    )
    proposal_overlap_widest: float = setting(
        0.9, "The same around a proposal as wide as the video; in between it grows.", "Detection", ge=0, le=1
    )

    @property
    def pem_epochs(self) -> int:
        """Epochs of the second stage; each stage has at least one, if there are two."""
        wanted = round(self.pem_share * self.epochs)
        return min(max(wanted, 1), self.epochs - 1) if self.pem_share > 0 else 0

    @property
    def stages(self) -> tuple[int, ...]:
        """The epoch in which the second stage begins."""
        return (self.epochs - self.pem_epochs,) if self.pem_epochs else ()


class TemporalEvaluation(nn.Module):
    """TEM: three convolutions, ``(B, D, T)`` features -> ``(B, 3, T)`` probability of action, start, end."""

    def __init__(self, num_features: int, channels: int, scale: float, dropout: float = 0.0):
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout1d(dropout)
        self.conv1 = nn.Conv1d(num_features, channels, 3, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv1d(channels, 3, 1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``mask`` (B, T) keeps padding, which is zero, out of its neighbours' scores."""
        hidden = self._convolved(self.conv1, features.transpose(1, 2)).relu()
        if mask is not None:
            hidden = hidden * mask.unsqueeze(2)
        hidden = self._convolved(self.conv2, hidden).relu()
        return torch.sigmoid(self.scale * self._convolved(self.conv3, hidden).float()).transpose(1, 2)

    def _convolved(self, conv: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        """``(B, T, C)`` -> ``(B, T, C')``, of some channels in training."""
        x = self.dropout(x.transpose(1, 2)).transpose(1, 2)
        return convolve(x, conv.weight, conv.bias)


class ProposalEvaluation(nn.Module):
    """PEM: two layers, ``(N, 32)`` proposal features -> ``(N,)`` expected IoU."""

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.scale = scale
        self.fc1 = nn.Linear(NUM_VALUES, channels)
        self.fc2 = nn.Linear(channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """As the class says."""
        # Scaling the weights is less work than scaling what they give.
        weights = (self.scale * weight for weight in (*self.fc1.parameters(), *self.fc2.parameters()))
        hidden = F.linear(features, next(weights), next(weights)).relu()
        return F.linear(hidden, *weights).float().sigmoid().squeeze(1)


class Outputs(NamedTuple):
    """``curves`` (B, 3, T): action, start and end probability of snippets; ``mask`` (B, T): the real ones."""

    curves: torch.Tensor
    mask: torch.Tensor


class BSN(Normalised):
    """TEM, PEM and, unless videos bring class scores, the class head."""

    def __init__(self, config: BsnConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config = config
        self.tem = TemporalEvaluation(num_features, config.tem_channels, config.tem_scale, config.tem_dropout)
        self.pem = ProposalEvaluation(config.pem_channels, config.pem_scale)
        self.head = (
            ProposalClassifier(config, num_features, num_classes) if config.classifier == "head" else None
        )

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``(B, T, D)`` features -> ``(B, 3, T)`` action, start and end probability."""
        normalised = self.normalise(features)
        if mask is not None:
            normalised = normalised * mask[..., None]
        return self.tem(normalised.transpose(1, 2), mask)

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Terms of the stage that the batch is for: clips train TEM and class head, proposals PEM."""
        if "proposals" in batch:
            return {"loss": self._proposal_loss(self.pem(batch["proposals"]), batch["iou"])}
        outputs = self.outputs(batch["features"], batch["mask"])
        targets = self.targets(outputs, batch["segments"], batch["labels"])
        curves, mask = outputs
        terms = {
            name: balanced_loss(curves[:, channel][mask], targets[:, channel][mask])
            for channel, name in enumerate(("action", "start", "end"))
        }
        terms["loss"] = 2 * terms["action"] + terms["start"] + terms["end"]
        if self.head is None:
            return terms
        head = self.head.loss(batch)
        return {**terms, **head, "loss": terms["loss"] + head["loss"]}

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Curves of videos ``(B, T, D)``, real where ``mask`` (B, T) is true."""
        return Outputs(self(features, mask), mask)

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """``(B, 3, T)``: how much of each snippet is action, start and end, of whatever class."""
        del labels
        config, padded = self.config, outputs.mask.shape[1]
        rows = [
            boundary_targets(of_video, int(length), config.boundary_ratio, config.boundary_snippets)
            for of_video, length in zip(segments, outputs.mask.sum(dim=1).tolist(), strict=True)
        ]
        return torch.stack([F.pad(row, (0, padded - row.shape[1])) for row in rows])

    def _proposal_loss(self, predicted: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
        if self.config.pem_loss == "mean":
            return F.smooth_l1_loss(predicted, iou)
        weights = balanced_weights(iou, torch.rand_like(iou), torch.rand_like(iou))
        return weighted_loss(predicted, iou, weights)

    @torch.no_grad()
    def proposals(self, features: torch.Tensor, number: int) -> tuple[Proposals, np.ndarray]:
        """The best ``number`` proposals of a video from its ``(T, D)`` features, and theirs (N, 32)."""
        action, start, end = self(features.unsqueeze(0))[0].cpu().double().numpy()
        found = generate_proposals(start, end, self.config.peak_threshold, self.config.longest_proposal)
        found = Proposals(*(part[:number] for part in found))
        return found, proposal_features(action, found.segments)

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor | None]:
        """Detections of one video from its ``(T, D)`` features, with ``(T, K)`` snippet scores.

        Without a class head, proposals of class -1.
        """
        config, original = self.config, features
        if config.length is not None:
            features, grid = resample(features, grid, config.length)
        found, values = self.proposals(features, config.max_pairs)
        scores = found.scores
        if config.pem_epochs > 0:
            inputs = torch.from_numpy(values).to(features)
            scores = scores * self.pem(inputs).double().cpu().numpy()
        if config.proposal_nms == "soft":
            order, scores = soft_nms(
                found.segments,
                scores,
                len(features),
                sigma=config.proposal_sigma,
                overlap=(config.proposal_overlap, config.proposal_overlap_widest),
                keep=config.max_proposals,
            )
        else:
            order = np.argsort(-scores, kind="stable")
            scores = scores[order]
        positions = found.segments[order]
        seconds = to_seconds(positions, grid, len(features))
        if self.head is None:
            return Candidates(seconds, scores.astype(np.float32), np.full(len(scores), -1)), None
        encoded = self.head.encode(features.unsqueeze(0))[0]
        classes = self.head.scores(encoded, torch.from_numpy(positions).to(features))
        snippets = self.head.snippet_scores(encoded)
        if len(original) != len(features):
            snippets = resample(snippets, grid, len(original))[0]
        rated = torch.from_numpy(scores**config.proposal_weight).to(classes)
        per_proposal, most = config.classes_per_proposal, config.max_candidates
        return detections(seconds, rated, classes, per_proposal, most), snippets


def boundary_targets(segments: torch.Tensor, length: int, ratio: float, least: float) -> torch.Tensor:
    """Targets of TEM, ``(3, length)``: part of each snippet that an action, a start or an end covers.

    A start or end is a region around the boundary, ``ratio`` times as long as the action but at least
    ``least`` snippets; the best over actions counts (section 3.3). ``segments`` (N, 2) grid positions.
    """
    if len(segments) == 0:
        return segments.new_zeros(3, length)
    start, end = segments.clamp(-0.5, length - 0.5).unbind(dim=1)
    half = (ratio * (end - start)).clamp(min=least) / 2
    low = torch.stack([start, start - half, end - half])
    high = torch.stack([end, start + half, end + half])
    snippet = torch.arange(length, device=segments.device, dtype=segments.dtype)[:, None, None]
    covered = torch.minimum(snippet + 0.5, high) - torch.maximum(snippet - 0.5, low)
    return covered.clamp(min=0).amax(dim=2).T


def balanced_loss(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log loss in which all positives weigh as much as all negatives (equation 3); both ``(N,)``."""
    positive = targets > POSITIVE
    count, total = positive.sum(), targets.numel()
    logs = torch.where(positive, probabilities, 1 - probabilities).add(EPSILON).log()
    share = torch.where(positive, count, total - count).clamp(min=1)
    return -(logs / (2 * share)).sum()


def balanced_weights(
    iou: torch.Tensor,
    uniform_middle: torch.Tensor,
    uniform_low: torch.Tensor,
    *,
    high: float = 0.6,
    low: float = 0.2,
    low_ratio: float = 2.0,
) -> torch.Tensor:
    """Weights ``(N,)`` that keep about as many proposals of middle IoU as of high, and twice as many of low.

    The numbers drawn uniformly from 0..1 decide which. Reference: ``low`` is 2.2 there, by mistake.
    """
    is_high, is_middle, is_low = iou > high, (iou <= high) & (iou > low), iou < low
    many = is_high.sum()

    def kept(group: torch.Tensor, uniform: torch.Tensor, ratio: float) -> torch.Tensor:
        share = (ratio * many / group.sum()).clamp(max=1)
        return (uniform * group > 1 - share).to(iou.dtype)

    return is_high.to(iou.dtype) + kept(is_middle, uniform_middle, 1.0) + kept(is_low, uniform_low, low_ratio)


def weighted_loss(predicted: torch.Tensor, iou: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Smooth L1 loss, the mean over proposals by weight; 0 if none weighs anything."""
    each = F.smooth_l1_loss(predicted, iou, reduction="none")
    return (weights * each).sum() / weights.sum().clamp(min=1)


def to_seconds(positions: np.ndarray, grid: TimeGrid, length: int) -> np.ndarray:
    """Grid positions ``(N, 2)`` as float32 seconds inside the video."""
    last = float(grid.seconds(length - 1)) + max(grid.offset, grid.stride / 2)
    return grid.seconds(positions).clip(0, last).astype(np.float32)


def suggest(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings for a dataset: short actions keep the videos' own snippets, few videos a small network."""
    few = summary.num_videos < 1000
    rescale = len(summary.segments) == 0 or _rescaled_lengths(summary, 100, 10) >= 4
    batch = 16 if rescale or summary.num_videos > 160 else 4
    epochs = int(np.clip(-(-STEPS * batch // max(summary.num_videos, 1)), 10, 300))
    chosen = {
        "batch_size": Suggestion(batch, "few videos in a step, so that few videos make enough steps"),
        "epochs": Suggestion(round(epochs / 0.875), f"about {STEPS} steps, then PEM"),
        "pem_share": Suggestion(0.125, "PEM is small and learns fast"),
        "optimizer": Suggestion("adamw", "decays filters only"),
        "weight_decay": Suggestion(0.01, "usual with AdamW"),
        "schedule": Suggestion("cosine", "ends each stage with small steps"),
        "warmup_epochs": Suggestion(1.0, "softens the first steps of a stage"),
        "gradient_clip": Suggestion(1.0, "guards against single odd batches"),
        "proposal_nms": Suggestion("none", "the class head rates every pair; NMS then runs within classes"),
        "proposal_weight": Suggestion(0.2, "the class head ranks better than starts and ends do"),
        "max_pairs": Suggestion(3000, "the class head can afford to see more pairs"),
        "nms_sigma": Suggestion(
            0.2 if summary.same_class_overlap < 0.05 else 0.5,
            f"{summary.same_class_overlap:.0%} of segments overlap another of their own class",
        ),
    }
    if few:
        reason = f"{summary.num_videos} videos are few: guards against memorising them"
        small = {"tem_channels": 128, "tem_dropout": 0.5, "classifier_dropout": 0.5}
        chosen |= {name: Suggestion(value, reason) for name, value in small.items()}
        reason = "smaller factors need the many steps of a large dataset"
        chosen |= {name: Suggestion(1.0, reason) for name in ("tem_scale", "pem_scale")}
    if rescale:
        chosen["length"] = Suggestion(100, "as published; actions stay long enough")
        return chosen
    short, longest = np.quantile(summary.segments, 0.1), summary.segments.max()
    reason = f"rescaled to 100 snippets, short actions ({short:.0f} snippets) would blur"
    chosen["length"] = Suggestion(None, reason)
    limit = max(2, int(np.ceil(1.2 * longest)))
    chosen["longest_proposal"] = Suggestion(limit, f"the longest action has {longest:.0f} snippets")
    chosen["boundary_snippets"] = Suggestion(2.0, "covers a snippet even if a boundary lies between two")
    return chosen


def _rescaled_lengths(summary: DataSummary, length: int, percent: float) -> float:
    """Percentile of the actions' lengths in a usual video rescaled to ``length`` snippets."""
    return float(np.percentile(summary.segments, percent)) * length / float(np.median(summary.lengths))


def check(config: BsnConfig, summary: DataSummary) -> list[str]:
    """What of the training data the settings leave out."""
    warnings, number = [], len(summary.segments)
    if number == 0:
        return ["no training video has an action: BSN will propose nothing of use"]
    if config.classifier == "video_scores" and config.proposal_nms == "none":
        warnings.append("with classifier video_scores, set proposal_nms to soft, as published")
    usual = config.length / float(np.median(summary.lengths)) if config.length else 1.0
    segments = summary.segments * usual
    if config.longest_proposal is not None and (segments > config.longest_proposal).any():
        warnings.append(
            f"longest_proposal {config.longest_proposal} is shorter than"
            f" {(segments > config.longest_proposal).sum()} of {number} training actions;"
            f" set it to {int(np.ceil(segments.max()))} or more"
        )
    if config.length is not None and (segments < 1).mean() > 0.02:
        warnings.append(
            f"rescaled to length {config.length}, {(segments < 1).sum()} of {number} training actions are"
            " shorter than a snippet; leave length empty"
        )
    return warnings


METHOD = Method(
    name="bsn",
    title="BSN",
    summary="Finds starts and ends, pairs them to proposals and rates these; a class head names them.",
    reference="Lin et al., Boundary Sensitive Network for Temporal Action Proposal Generation, ECCV 2018",
    config=BsnConfig,
    build=BSN,
    sampler=StagedSampler,
    prepare=take_statistics,
    suggest=suggest,
    check=check,
)
