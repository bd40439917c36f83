"""BMN: the boundary-matching network (Lin et al., ICCV 2019), and a detector made of it.

    features -> base module -> start and end probability of every snippet          (temporal evaluation)
                            -> boundary-matching map: two IoU estimates for every
                               (start, last) pair of snippets                      (proposal evaluation)
    proposals   score = start x end x both IoU estimates
    detections  proposals x classes, from a head trained in the same loss or from the video's class scores

Numerically the public implementation github.com/JJBOY/BMN-Boundary-Matching-Network. Its input is a video
rescaled to ``length`` snippets. Where actions are short beside their video, overlapping windows of the
video's own snippets take the place of that, with proposals of at most ``max_duration`` snippets.

Places in time: grid positions count from the centre of snippet 0; *edges* count from its beginning, so that
snippet i reaches from edge i to edge i + 1 (edge = position + 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.bmn.auto import check_bmn, suggest_bmn
from tal_core.models.bmn.boundary_matching import BoundaryMatching
from tal_core.models.bsn.bsn import soft_nms, to_seconds
from tal_core.models.config import Schedule, revised, setting
from tal_core.models.method import Candidates, Method
from tal_core.models.shared.class_head import (
    ProposalClassifier,
    ProposalConfig,
    detections,
    pad_truth,
    pairwise_iou,
)
from tal_core.models.shared.clips import ClipSampler, resample
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.types import TimeGrid

LOG_EPSILON = 1e-6
WINDOWS_AT_ONCE = 8


class BMNConfig(ProposalConfig):
    """Settings of BMN."""

    epochs: int = revised("epochs", 9, "Passes over the training videos.")
    batch_size: int = revised("batch_size", 16, "Videos or windows in one optimisation step.", le=4096)
    learning_rate: float = revised("learning_rate", 1e-3)
    weight_decay: float = revised("weight_decay", 1e-4)
    schedule: Schedule = revised("schedule", "cosine")

    input: Literal["rescale", "windows"] = setting(
        "rescale",
        "Rescale every video to length snippets, or slide windows of length snippets over it.",
        "Windows",
    )
    length: int = setting(100, "Snippets that the network sees at once.", "Windows", ge=2, le=2048)
    max_duration: int | None = setting(
        None, "Longest proposal in snippets; empty for the whole length.", "Windows", ge=1, le=2048
    )
    windows_per_video: int = setting(
        1, "Windows drawn from each video in one epoch, when input is windows.", "Windows", ge=1, le=1000
    )
    min_overlap: float = setting(
        0.8, "Share of an action that has to lie in a window for it to count there.", "Windows", gt=0, le=1
    )

    base_channels: int = setting(256, "Channels along time.", "Network", ge=4, le=4096)
    map_channels: int = setting(128, "Channels of the map's 3x3 convolutions.", "Network", ge=1, le=4096)
    sample_channels: int = setting(
        512, "Channels to which a proposal's samples are reduced.", "Network", ge=1, le=8192
    )
    groups: int = setting(4, "Groups of the base module's convolutions.", "Network", ge=1, le=64)
    samples: int = setting(32, "Samples taken in and around a proposal.", "Network", ge=2, le=256)
    points: int = setting(3, "Points averaged into one sample.", "Network", ge=1, le=16)
    extension: float = setting(
        0.5, "How far samples reach beyond a proposal, as a share of its length.", "Network", ge=0, le=4
    )

    regression_weight: float = setting(
        10.0, "Weight of the map's regression loss.", "Optimisation", ge=0, le=1e4
    )
    propose_to_end: bool = setting(
        True,
        "Propose segments that end with the video, which the published code leaves out.",
        "Detection",
    )
    proposal_nms: bool = setting(
        False,
        "Thin proposals out with BMN's own soft-NMS and keep 100 of a video before classes are given, as"
        " published; set nms to none then.",
        "Detection",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_duration is not None and self.max_duration > self.length:
            raise ValueError(
                f"max_duration can't be {self.max_duration}, it is at most length ({self.length})"
            )
        if self.base_channels % self.groups:
            raise ValueError(
                f"base_channels can't be {self.base_channels}, it has to be a multiple of groups"
                f" ({self.groups})"
            )
        return self

    @property
    def longest(self) -> int:
        return self.max_duration or self.length


class Outputs(NamedTuple):
    """Logits: ``start`` and ``end`` (B, T); ``confidence`` (B, cells, 2), regressed tIoU, then classified.

    ``mask`` (B, T): real snippets.
    """

    start: torch.Tensor
    end: torch.Tensor
    confidence: torch.Tensor
    mask: torch.Tensor


class BMN(Normalised):
    """The network and its class head."""

    def __init__(self, config: BMNConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config = config
        width, groups = config.base_channels, config.groups
        # Groups of channels need features that divide by them; others get one group in the first layer.
        first = groups if num_features % groups == 0 else 1
        self.base = nn.Sequential(
            nn.Conv1d(num_features, width, 3, padding=1, groups=first),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(),
        )
        self.start = _boundary_head(width, groups)
        self.end = _boundary_head(width, groups)
        self.proposal = nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.ReLU())
        self.matching = BoundaryMatching(
            config.length,
            config.longest,
            channels=width,
            wide=config.sample_channels,
            hidden=config.map_channels,
            out=2,
            samples=config.samples,
            points=config.points,
            extension=config.extension,
        )
        self.classifier = (
            ProposalClassifier(config, num_features, num_classes) if config.classifier == "head" else None
        )

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> Outputs:
        """``(B, length, D)`` features and (B, length) mask -> logits of boundaries and proposals."""
        normalised = self.normalise(features)
        if mask is None:
            mask = torch.ones_like(features[..., 0], dtype=torch.bool)
        else:
            normalised = normalised * mask.unsqueeze(2)
        base = self.base(normalised.transpose(1, 2))
        confidence = self.matching(self.proposal(base).transpose(1, 2))
        return Outputs(self.start(base).squeeze(1), self.end(base).squeeze(1), confidence, mask)

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits of videos ``(B, T, D)`` of up to ``length`` snippets, real where ``mask`` (B, T) is true."""
        missing = self.config.length - features.shape[1]
        return self(F.pad(features, (0, 0, 0, missing)), F.pad(mask, (0, missing)))

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> Targets:
        """What to learn of boundaries and proposals, of whatever class."""
        truth, classes = pad_truth(segments, labels, background=-1)
        first, last = self.matching.start, self.matching.last
        return make_targets(truth + 0.5, classes >= 0, outputs.mask, first, last)

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Loss terms of a batch of ``clips.ClipSampler``."""
        outputs = self.outputs(batch["features"], batch["mask"])
        targets = self.targets(outputs, batch["segments"], batch["labels"])
        terms = bmn_losses(outputs, targets, self.config.regression_weight)
        if self.classifier is not None:
            classes = self.classifier.loss(batch)
            terms |= {"class": classes["loss"], "loss": terms["loss"] + classes["loss"]}
        return terms

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor | None]:
        """Candidates of one video from its ``(T, D)`` features, and ``(T, K)`` snippet scores.

        Without a class head, proposals of class -1.
        """
        snippets = len(features)
        if self.config.input == "rescale":
            features, grid = resample(features, grid, self.config.length)
        start, stop, confidence = self.video_maps(features)
        edges, scores = propose(start, stop, confidence, self.config.propose_to_end)
        best = scores.argsort(descending=True, stable=True)[: self.config.max_candidates]
        edges, scores = edges[best], scores[best]
        if self.config.proposal_nms:
            edges, scores = thin_out(edges, scores, len(features))
        segments = to_seconds((edges - 0.5).double().cpu().numpy(), grid, len(features))
        if self.classifier is None:
            return Candidates(segments, scores.cpu().numpy(), np.full(len(scores), -1, np.int64)), None
        encoded = self.classifier.encode(features.unsqueeze(0))[0]
        found = detections(
            segments,
            scores,
            self.classifier.scores(encoded, edges - 0.5),
            self.config.classes_per_proposal,
            self.config.max_candidates,
        )
        by_snippet = self.classifier.snippet_scores(encoded)
        return found, resample(by_snippet, grid, snippets)[0]

    def video_maps(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Probabilities of a whole video: start and end (T,), both IoU estimates (T, longest, 2).

        ``confidence[i, d]`` belongs to the proposal of snippets i to i + d. Windows overlap so far that every
        proposal lies in one; where several see it, it gets their mean.
        """
        length, longest, snippets = self.config.length, self.config.longest, len(features)
        room = max(length, snippets)
        step = max(1, min(length - longest + 1, length // 2))
        begins = torch.arange(0, room - length + step, step, device=features.device)
        begins = begins.clamp(max=room - length)
        padded = F.pad(features, (0, 0, 0, room - snippets))
        real = torch.arange(room, device=features.device) < snippets
        boundaries = features.new_zeros(room, 3)
        confidence = features.new_zeros(room, longest, 3)
        first, duration = self.matching.start, self.matching.last - self.matching.start
        for chunk in begins.split(WINDOWS_AT_ONCE):
            rows = chunk[:, None] + torch.arange(length, device=features.device)
            outputs = self(padded[rows], real[rows])
            both = torch.stack([outputs.start, outputs.end], dim=2).float().sigmoid()
            boundaries.index_put_((rows,), F.pad(both, (0, 1), value=1), accumulate=True)
            ious = F.pad(outputs.confidence.float().sigmoid(), (0, 1), value=1)
            place = (chunk[:, None] + first, duration.expand(len(chunk), -1))
            confidence.index_put_(place, ious, accumulate=True)
        boundaries, confidence = boundaries[:snippets], confidence[:snippets]
        mean = confidence[..., :2] / confidence[..., 2:].clamp(min=1)
        start, end = (boundaries[:, :2] / boundaries[:, 2:]).unbind(dim=1)
        return start, end, mean


def _boundary_head(width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(width, width, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv1d(width, 1, 1)
    )


class Targets(NamedTuple):
    """What to learn: ``start`` and ``end`` (B, T), ``iou`` (B, cells), and which of them are real (masks)."""

    start: torch.Tensor
    end: torch.Tensor
    iou: torch.Tensor
    snippets: torch.Tensor
    cells: torch.Tensor


def make_targets(
    truth: torch.Tensor,
    real: torch.Tensor,
    mask: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
) -> Targets:
    """Targets of a batch (BMN, section 4.1).

    Args:
        truth: ``(B, M, 2)`` segments in edges; ``real`` (B, M) tells them from padding.
        mask: ``(B, T)`` real snippets.
        first, last: ``(cells,)`` snippets of the proposals.
    """
    lengths = mask.sum(dim=1)
    truth = torch.minimum(truth.clamp(min=0), lengths[:, None, None].to(truth.dtype))
    cells = torch.stack([first, last + 1], dim=1).to(truth.dtype)
    iou = pairwise_iou(cells, truth).masked_fill(~real[:, None], 0).amax(dim=2)
    # A snippet's boundary anchor reaches half a snippet around its first edge, a boundary's region one and
    # a half around it: they share 2 less their distance, at most 1.
    edge = torch.arange(mask.shape[1], device=truth.device, dtype=truth.dtype)
    covered = (2 - (edge[:, None, None] - truth[:, None]).abs()).clamp(0, 1)
    start, end = covered.masked_fill(~real[:, None, :, None], 0).amax(dim=2).unbind(dim=2)
    inside = last < lengths[:, None]
    return Targets(start, end, iou * inside, mask, inside)


def bmn_losses(
    outputs: Outputs, targets: Targets, regression_weight: float = 10.0, uniform: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The losses of BMN (section 4.2), in float32; ``uniform`` as in `regression_loss`."""
    regressed, classified = outputs.confidence.float().sigmoid().unbind(dim=2)
    terms = {
        "start": balanced_loss(outputs.start.float().sigmoid(), targets.start > 0.5, targets.snippets),
        "end": balanced_loss(outputs.end.float().sigmoid(), targets.end > 0.5, targets.snippets),
        "iou_regression": regression_loss(regressed, targets.iou, uniform),
        "iou_classification": balanced_loss(classified, targets.iou > 0.9, targets.cells),
    }
    total = terms["start"] + terms["end"] + terms["iou_classification"]
    return terms | {"loss": total + regression_weight * terms["iou_regression"]}


def balanced_loss(probability: torch.Tensor, positive: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log loss in which all positives together weigh as much as all negatives (BSN, equation 3).

    Mean over the entries where ``mask`` is true; of n entries, p positive, a positive weighs n / 2p and a
    negative n / 2(n - p). Without positives there are only negatives, where the reference divides by zero.
    """
    positive, negative = positive & mask, ~positive & mask
    of_positive = _masked_mean((probability + LOG_EPSILON).log(), positive)
    of_negative = _masked_mean((1 - probability + LOG_EPSILON).log(), negative)
    return -0.5 * (of_positive + of_negative)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def regression_loss(
    predicted: torch.Tensor, iou: torch.Tensor, uniform: torch.Tensor | None = None
) -> torch.Tensor:
    """Half the mean squared error over cells chosen by `regression_cells`."""
    chosen = regression_cells(
        iou, torch.rand(2, *iou.shape, device=iou.device) if uniform is None else uniform
    )
    return 0.5 * _masked_mean((predicted - iou) ** 2, chosen)


def regression_cells(iou: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Cells for the regression loss: all of high IoU, about as many of middle and of low IoU.

    ``uniform`` (2, B, cells) are the random numbers in 0..1 that thin the middle and the low ones.
    """
    high, middle, low = iou > 0.7, (iou > 0.3) & (iou <= 0.7), (iou > 0) & (iou <= 0.3)
    count = high.sum()
    kept = high
    for group, number in ((middle, uniform[0]), (low, uniform[1])):
        share = count / group.sum().clamp(min=1)
        kept = kept | (group & (number > 1 - share))
    return kept


def propose(
    start: torch.Tensor, end: torch.Tensor, confidence: torch.Tensor, to_end: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """All proposals of a video, by start then length: edges ``(N, 2)`` float32 and scores ``(N,)``.

    ``start`` and ``end`` (T,), ``confidence`` (T, longest, 2) are probabilities. The end score is read at the
    snippet after the proposal; one that ends with the video has none, so it takes the last snippet's, or with
    ``to_end`` False is no proposal at all, as published.
    """
    snippets, longest = confidence.shape[:2]
    first = torch.arange(snippets, device=start.device)[:, None].expand(-1, longest)
    edge = first + 1 + torch.arange(longest, device=start.device)
    valid = edge <= snippets if to_end else edge < snippets
    first, edge = first[valid], edge[valid]
    scores = start[first] * end[edge.clamp(max=snippets - 1)] * confidence[valid].prod(dim=1)
    return torch.stack([first, edge], dim=1).float(), scores


def thin_out(
    edges: torch.Tensor, scores: torch.Tensor, snippets: int, keep: int = 100
) -> tuple[torch.Tensor, torch.Tensor]:
    """BMN's soft-NMS over the proposals of a video of ``snippets`` snippets: the best ``keep``, lowered."""
    rows, lowered = soft_nms(
        edges.double().cpu().numpy(),
        scores.double().cpu().numpy(),
        snippets,
        sigma=0.4,
        overlap=(0.5, 0.9),
        keep=keep,
    )
    return edges[torch.from_numpy(rows).to(edges.device)], torch.from_numpy(lowered).to(scores)


def from_reference(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the public implementation under our names; ``sample_mask``, which isn't learned, is dropped.

    x_1d_b.{0,2}          base.{0,2}              x_1d_p.0   proposal.0
    x_1d_s.{0,2}          start.{0,2}             x_1d_e.{0,2}   end.{0,2}
    x_3d_p.0 (O, C, N, 1, 1)   matching.sample.weight (N * O, C) and matching.sample_bias
    x_2d_p.{0,2,4,6}      matching.reduce, .convolution_near, .convolution, .output (1x1 ones as matrices)
    """
    names = {
        "x_1d_b": "base",
        "x_1d_s": "start",
        "x_1d_e": "end",
        "x_1d_p": "proposal",
        "x_2d_p.0": "matching.reduce",
        "x_2d_p.2": "matching.convolution_near",
        "x_2d_p.4": "matching.convolution",
        "x_2d_p.6": "matching.output",
    }
    ours = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if name == "x_3d_p.0.weight":
            ours["matching.sample.weight"] = value[..., 0, 0].permute(2, 0, 1).flatten(0, 1)
        elif name == "x_3d_p.0.bias":
            ours["matching.sample_bias"] = value
        elif name != "sample_mask":
            old = next(old for old in names if name.startswith(old))
            is_matrix = old in ("x_2d_p.0", "x_2d_p.6") and value.ndim == 4
            ours[names[old] + name.removeprefix(old)] = value[..., 0, 0] if is_matrix else value
    return ours


def make_sampler(model: nn.Module, dataset: FeatureDataset, config: BMNConfig) -> ClipSampler:
    """Whole videos, rescaled; or random windows, ``windows_per_video`` of each in an epoch."""
    del model
    kept: dict[str, Any] = {"keep": config.keep_features, "device": config.device}
    if config.input == "rescale":
        return ClipSampler(dataset, config.batch_size, config.length, resize=config.length, **kept)
    sampler = ClipSampler(dataset, config.batch_size, config.length, min_overlap=config.min_overlap, **kept)
    sampler.videos = [video for video in sampler.videos for _ in range(config.windows_per_video)]
    return sampler


METHOD = Method(
    name="bmn",
    title="BMN",
    summary="Rates every pair of a start and an end in one map; classes from a head trained beside it.",
    reference="Lin et al., BMN: Boundary-Matching Network for Action Proposal Generation, ICCV 2019.",
    config=BMNConfig,
    build=BMN,
    sampler=make_sampler,
    prepare=take_statistics,
    suggest=suggest_bmn,
    check=check_bmn,
    from_reference=from_reference,
)
