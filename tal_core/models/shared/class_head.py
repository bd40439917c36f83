"""What proposal methods share: settings, geometry, and the class head that turns proposals into detections.

BSN and BMN say when something happens, not what. Where a dataset has video class scores, inference
multiplies the two. Everywhere else, and above all where a video shows many classes, `ProposalClassifier` is
trained beside the proposal network:

    features -> dilated convolutions -> means over parts of a segment and of its flanks -> class and IoU

It draws its own training segments around the ground truth, so it needs no proposals to train. Positions are
those of the feature grid: snippet ``t`` reaches from ``t - 0.5`` to ``t + 0.5``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tal_core.models.config import ProposerConfig, setting
from tal_core.models.method import Candidates
from tal_core.models.shared.normalisation import Normalised

INSIDE_PARTS, FLANK_PARTS = 8, 4
# A segment is background up to the first IoU with ground truth, an action from the second, and so much of
# both in between.
BACKGROUND_IOU, ACTION_IOU = 0.3, 0.7


class ProposalConfig(ProposerConfig):
    """Settings of every method that classifies class-agnostic proposals."""

    classifier: Literal["head", "video_scores"] = setting(
        "head",
        "What names the class of a proposal: a head trained along with it, or the dataset's class scores of"
        " whole videos.",
        "Detection",
    )
    classifier_channels: int = setting(128, "Channels of the class head.", "Network", ge=8, le=2048)
    classifier_layers: int = setting(
        6, "Dilated convolutions of the class head; each doubles how far it sees.", "Network", ge=0, le=12
    )
    classifier_dropout: float = setting(
        0.3, "Share of the class head's channels left out in training.", "Network", ge=0, lt=1
    )
    classifier_segments: int = setting(
        64, "Segments of each video in a step of the class head.", "Windows", ge=4, le=4096
    )

    @property
    def needs_class_scores(self) -> bool:
        """Whether the classes come from video class scores."""
        return self.classifier == "video_scores"


class DilatedBlock(nn.Module):
    """Dilated convolution, ReLU, pointwise convolution, dropout, added to the input.

    The layer of MS-TCN (Abu Farha and Gall, CVPR 2019).
    """

    def __init__(self, channels: int, dilation: int, dropout: float):
        super().__init__()
        self.wide = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``(B, C, T)`` and its mask (B, 1, T), 1 on real snippets; padding stays zero."""
        change = self.point(torch.relu(self.wide(hidden)))
        return (hidden + self.dropout(change)) * mask


class ProposalClassifier(Normalised):
    """Class and completeness of segments, from the features in and around them."""

    def __init__(self, config: ProposalConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        channels, dropout = config.classifier_channels, config.classifier_dropout
        self.segments_per_video, self.num_classes = config.classifier_segments, num_classes
        self.channel_dropout = nn.Dropout1d(
            dropout
        )  # whole channels, as ASFormer (Yi et al., BMVC 2021) does
        self.embed = nn.Conv1d(num_features, channels, 1)
        self.blocks = nn.ModuleList(
            DilatedBlock(channels, 2**layer, dropout) for layer in range(config.classifier_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.snippet_classes = nn.Linear(channels, num_classes + 1)
        parts = INSIDE_PARTS + 2 * FLANK_PARTS
        self.segment_hidden = nn.Linear(parts * channels + 1, 2 * channels)
        self.dropout = nn.Dropout(dropout)
        self.segment_outputs = nn.Linear(2 * channels, num_classes + 2)

    def encode(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``(B, T, D)`` features and (B, T) mask -> ``(B, T, C)``, zero on padding."""
        real = torch.ones_like(features[:, :1, :1]) if mask is None else mask[:, None].to(features.dtype)
        normalised = self.normalise(features).clamp(-10, 10)
        hidden = self.embed(self.channel_dropout(normalised.transpose(1, 2))) * real
        for block in self.blocks:
            hidden = block(hidden, real)
        return self.norm(hidden.transpose(1, 2)) * real.transpose(1, 2)

    def classify(
        self, encoded: torch.Tensor, segments: torch.Tensor, video: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Class logits ``(N, K + 1)``, background last, and IoU logits ``(N,)`` of segments ``(N, 2)``.

        ``encoded`` (T, C) of one video, or (B, T, C) with the ``video`` (N,) that each segment is in.
        """
        parts = segment_means(encoded, segments, video)
        length = (segments[:, 1] - segments[:, 0]).clamp(min=1e-2).log().unsqueeze(1)
        hidden = torch.relu(self.segment_hidden(torch.cat([parts.flatten(1), length], dim=1)))
        outputs = self.segment_outputs(self.dropout(hidden))
        return outputs[:, :-1], outputs[:, -1]

    def forward(self, features: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """`scores` (N, K) of segments (N, 2) of one video, straight from its ``(T, D)`` features."""
        return self.scores(self.encode(features.unsqueeze(0))[0], segments)

    def scores(self, encoded: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """``(N, K)``: probability of each class times the expected IoU; ``encoded`` (T, C)."""
        logits, iou = self.classify(encoded, segments)
        return logits.softmax(dim=1)[:, :-1] * iou.sigmoid().unsqueeze(1)

    def snippet_scores(self, encoded: torch.Tensor) -> torch.Tensor:
        """``(T, K)`` class probabilities of the snippets, from ``encoded`` (T, C)."""
        return self.snippet_classes(encoded).softmax(dim=1)[:, :-1]

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Terms ``class``, ``iou`` and ``snippet`` of a batch of `ClipSampler`, and their sum ``loss``.

        Segments are drawn anew at every call, from torch's generator.
        """
        mask = batch["mask"]
        truth, labels = pad_truth(batch["segments"], batch["labels"], background=self.num_classes)
        encoded = self.encode(batch["features"], mask)
        lengths = mask.sum(dim=1)
        drawn = draw_segments(truth, labels < self.num_classes, lengths, self.segments_per_video)
        iou, best = pairwise_iou(drawn, truth).max(dim=2)
        video = torch.arange(len(drawn), device=drawn.device).repeat_interleave(drawn.shape[1])
        logits, quality = self.classify(encoded, drawn.flatten(0, 1), video)
        share = ((iou - BACKGROUND_IOU) / (ACTION_IOU - BACKGROUND_IOU)).clamp(0, 1).flatten()
        logs = logits.float().log_softmax(dim=1)
        action = logs.gather(1, labels.gather(1, best).reshape(-1, 1)).squeeze(1)
        snippets = snippet_labels(truth, labels, mask.shape[1], self.num_classes)
        terms = {
            "class": -(share * action + (1 - share) * logs[:, -1]).mean(),
            "iou": F.binary_cross_entropy_with_logits(quality.float(), iou.flatten()),
            "snippet": F.cross_entropy(self.snippet_classes(encoded)[mask].float(), snippets[mask]),
        }
        return terms | {"loss": terms["class"] + terms["iou"] + terms["snippet"]}


def segment_means(
    encoded: torch.Tensor, segments: torch.Tensor, video: torch.Tensor | None = None
) -> torch.Tensor:
    """Means over equal parts of each segment and of its flanks, ``(N, parts, C)``, in order of time.

    A flank is half as long as the segment, but at least two snippets; outside the video everything is zero.
    Integrals of the snippets, interpolated linearly, make the means exact for any length.
    """
    encoded = encoded if encoded.ndim == 3 else encoded.unsqueeze(0)
    batch, length, channels = encoded.shape
    sums = F.pad(encoded.float().cumsum(dim=1), (0, 0, 1, 0)).reshape(batch * (length + 1), channels)
    start, end = segments.unbind(dim=1)
    size = (end - start).clamp(min=1e-2)
    flank = (size / 2).clamp(min=2)
    inside = torch.linspace(0, 1, INSIDE_PARTS + 1, device=segments.device)
    outside = torch.linspace(0, 1, FLANK_PARTS + 1, device=segments.device)[1:]
    edges = torch.cat(
        [
            start[:, None] - flank[:, None] * outside.flip(0),
            start[:, None] + size[:, None] * inside,
            (start + size)[:, None] + flank[:, None] * outside,
        ],
        dim=1,
    )
    place = (edges + 0.5).clamp(0, length)
    whole = place.long().clamp(max=length - 1)
    row = whole if video is None else whole + video[:, None] * (length + 1)
    integral = torch.lerp(sums[row], sums[row + 1], (place - whole).unsqueeze(2))
    return integral.diff(dim=1) / edges.diff(dim=1).unsqueeze(2)


def pad_truth(
    segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor], background: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists of ``(N, 2)`` and ``(N,)`` as ``(B, M, 2)`` and ``(B, M)``; M > 0, filled up far outside."""
    most = max(1, *(len(one) for one in segments))
    places = [F.pad(one, (0, 0, 0, most - len(one)), value=-1e6) for one in segments]
    classes = [F.pad(one, (0, most - len(one)), value=background) for one in labels]
    return torch.stack(places), torch.stack(classes)


def pairwise_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """tIoU of segments ``(..., N, 2)`` and ``(..., M, 2)``: ``(..., N, M)``."""
    start, end = first[..., :, None, 0], first[..., :, None, 1]
    other_start, other_end = second[..., None, :, 0], second[..., None, :, 1]
    shared = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0)
    return shared / ((end - start) + (other_end - other_start) - shared).clamp(min=1e-6)


def draw_segments(
    truth: torch.Tensor,
    real: torch.Tensor,
    lengths: torch.Tensor,
    number: int,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Segments to learn from, ``(B, number, 2)``, much as a proposal network finds them.

    Half are ground truth with both ends moved, by up to about half its length; a quarter run from the start
    or end of one action to one of another nearby, as proposals that join or split actions do; the rest lie
    anywhere and are as long as actions are. ``truth`` (B, M, 2), ``real`` (B, M) tells it from padding,
    ``lengths`` (B,) snippets. ``generator``: by default torch's own.
    """
    chance: dict[str, Any] = {"generator": generator, "dtype": truth.dtype, "device": truth.device}
    moved, joined = number // 2, number // 4
    # A video without ground truth is all background; in it an "action" is a tenth of the video.
    empty = ~real.any(dim=1, keepdim=True)
    source = torch.where(empty[..., None], lengths[:, None, None] * truth.new_tensor([0.45, 0.55]), truth)
    picks = torch.multinomial((real | empty).float(), number, replacement=True, generator=generator)
    picked = source.gather(1, picks[..., None].expand(-1, -1, 2))
    size = (picked[..., 1] - picked[..., 0]).clamp(min=0.1)

    around, spread = picked[:, :moved], 0.4 * torch.rand(size[:, :moved].shape, **chance) * size[:, :moved]
    around = around + spread[..., None] * torch.randn(around.shape, **chance)

    ends = source.flatten(1)
    first = picked[:, moved : moved + joined]
    first = first.gather(
        2, torch.randint(2, (len(truth), joined, 1), device=truth.device, generator=generator)
    )
    reach = 2 * size[:, moved : moved + joined, None] * torch.randn(first.shape, **chance)
    second = ends.gather(1, (first + reach - ends[:, None]).abs().argmin(dim=2))
    first = torch.cat([first, second[..., None]], dim=2)

    length = size[:, moved + joined :]
    length = length * torch.exp(0.3 * torch.randn(length.shape, **chance))
    outside = (torch.rand(length.shape, **chance) * lengths[:, None])[..., None]
    outside = outside + length[..., None] * length.new_tensor([-0.5, 0.5])

    drawn = torch.cat([around, first, outside], dim=1).sort(dim=2).values
    drawn = torch.minimum(drawn.clamp(min=-0.5), lengths[:, None, None] - 0.5)
    return torch.stack([drawn[..., 0], torch.maximum(drawn[..., 1], drawn[..., 0] + 0.1)], dim=2)


def snippet_labels(truth: torch.Tensor, labels: torch.Tensor, snippets: int, background: int) -> torch.Tensor:
    """``(B, T)`` class of the segment over each snippet's centre, the shortest of several, or background."""
    time = torch.arange(snippets, device=truth.device, dtype=truth.dtype)[None, :, None]
    size = (truth[..., 1] - truth[..., 0])[:, None]
    covers = (truth[:, None, :, 0] <= time) & (time < truth[:, None, :, 1])
    shortest, which = torch.where(covers, size, torch.inf).min(dim=2)
    return labels.gather(1, which).masked_fill(shortest == torch.inf, background)


def detections(
    segments: np.ndarray, scores: torch.Tensor, classes: torch.Tensor, per_proposal: int, most: int
) -> Candidates:
    """The best classes of each proposal as `Candidates`, best first.

    ``segments`` (N, 2) seconds, ``scores`` (N,) of the proposals, ``classes`` (N, K) of their classes.
    """
    top = classes.topk(min(per_proposal, classes.shape[1]), dim=1)
    product = (scores[:, None] * top.values).flatten()
    best = product.argsort(descending=True, stable=True)[:most].cpu()
    row = best // top.values.shape[1]
    return Candidates(
        segments=np.ascontiguousarray(segments[row.numpy()], dtype=np.float32),
        scores=product.cpu()[best].float().numpy(),
        labels=top.indices.flatten().cpu()[best].numpy(),
    )
