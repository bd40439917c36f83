"""SSN: structured segment networks (Zhao et al., ICCV 2017) on snippet features.

    proposals            actionness grouping, BSN or BMN, trained in the first epochs of the run
    proposal + context   starting, course and ending stage -> structured temporal pyramid pooling
    heads                activity (which class, or background), completeness (all of it, and no more?),
                         regression of the boundaries, one linear layer each
    detections           softmax(activity) x exp(completeness), moved by the regression

Two forms share heads and losses. With ``encoder_layers`` 0 it is the paper's: nine snippets stand for a
training proposal, and testing applies the heads to every snippet before it pools. In the paper the image
network that makes the features learns with the heads; features from disk are what they are and know little of
their surroundings. With ``encoder_layers`` above 0 dilated convolutions run over them first, and pooling
takes exact means over finer parts, the same ones in training and testing.

Positions: *edges* count from the beginning of snippet 0, so snippet t reaches from t to t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from tal_core.models.config import NMS, MethodConfig, revised, setting
from tal_core.models.method import Candidates, Method, Model
from tal_core.models.shared.class_head import FLANK_PARTS, INSIDE_PARTS, DilatedBlock, segment_means
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.models.ssn.auto import check, suggest
from tal_core.models.ssn.stages import StagedSampler, Table, make_proposer, proposer_of, training_table
from tal_core.models.ssn.structured_segments import (
    KindRules,
    PyramidLayout,
    PyramidPooling,
    class_scores,
    detect,
    only_classes,
    pool_scores,
    stage_ticks,
    structured_losses,
    whole_snippets,
)
from tal_core.types import TimeGrid

Parts = list[Annotated[int, Field(ge=1, le=16)]]
# Edges (N, 2), the three outputs of the heads, class logits (T, K + 1) of the snippets.
Rated = tuple[torch.Tensor, Sequence[torch.Tensor], torch.Tensor]


class SSNConfig(MethodConfig):
    """Settings of SSN; the defaults are the paper's."""

    epochs: int = revised("epochs", 20, "Passes over the training videos, proposals first.", ge=2)
    batch_size: int = revised("batch_size", 16, "Videos in one optimisation step.", le=4096)
    learning_rate: float = revised("learning_rate", 1e-3)
    repeats: int = setting(10, "Times that each video comes in an epoch.", "Optimisation", ge=1, le=1000)
    activity_weight: float = setting(1.0, "Weight of the activity loss.", "Optimisation", ge=0, le=1000)
    completeness_weight: float = setting(
        0.1, "Weight of the completeness loss.", "Optimisation", ge=0, le=1000
    )
    regression_weight: float = setting(0.1, "Weight of the regression loss.", "Optimisation", ge=0, le=1000)
    hard_negative_ratio: float = setting(
        0.17, "Part of a video's incomplete proposals, the hardest, that teaches.", "Optimisation", gt=0, le=1
    )

    proposals: Literal["actionness", "bsn", "bmn"] = setting(
        "actionness", "What proposes segments: actionness grouping, BSN or BMN.", "Network"
    )
    proposal_share: float = setting(
        0.4, "First part of the epochs, which trains the proposals.", "Optimisation", gt=0, lt=1
    )
    proposer_settings: str = setting(
        "", "Settings of the proposals' own network, as in: channels=64 layers=3.", "Network", max_length=2000
    )
    encoder_layers: int = setting(
        0,
        "Dilated convolutions before the heads, each doubling how far they see; 0 is the paper's form.",
        "Network",
        ge=0,
        le=12,
    )
    encoder_channels: int = setting(128, "Channels of these convolutions.", "Network", ge=8, le=2048)
    dropout: float = setting(0.8, "Share of channels left out in training.", "Network", ge=0, lt=1)
    starting_parts: Parts = setting(
        [1], "Pyramid of the starting stage.", "Network", min_length=1, max_length=8
    )
    course_parts: Parts = setting([1], "Pyramid of the course.", "Network", min_length=1, max_length=8)
    ending_parts: Parts = setting([1], "Pyramid of the ending stage.", "Network", min_length=1, max_length=8)
    context_snippets: int = setting(
        2, "Snippets of a starting or ending stage in training.", "Windows", ge=1, le=64
    )
    course_snippets: int = setting(5, "Snippets of a course in training.", "Windows", ge=1, le=256)

    sequence_length: int = setting(
        2304, "Longest training clip in snippets, with an encoder.", "Windows", ge=2, le=100_000
    )
    proposals_per_video: int = setting(8, "Proposals of a video in one step.", "Windows", ge=1, le=10_000)
    foreground_share: int = setting(1, "Share of foreground proposals among them.", "Windows", ge=1, le=100)
    incomplete_share: int = setting(6, "Share of incomplete proposals.", "Windows", ge=0, le=100)
    background_share: int = setting(1, "Share of background proposals.", "Windows", ge=0, le=100)
    moved_truth: int = setting(
        0, "Segments moved at random from the ground truth, beside the proposals.", "Windows", ge=0, le=10_000
    )
    foreground_iou: float = setting(0.7, "Foreground is above this tIoU.", "Windows", gt=0, lt=1)
    incomplete_iou: float = setting(0.3, "Incomplete is below this tIoU.", "Windows", gt=0, lt=1)
    incomplete_overlap: float = setting(
        0.01, "And an action covers more than this part of it.", "Windows", ge=0, lt=1
    )
    background_iou: float = setting(0.01, "Background is below this tIoU.", "Windows", gt=0, lt=1)
    background_coverage: float = setting(
        0.02, "And longer than this part of the video.", "Windows", ge=0, lt=1
    )

    max_proposals: int = setting(
        1000, "Best proposals of a video that are looked at.", "Detection", ge=1, le=100_000
    )
    test_interval: int = setting(
        1, "Every so many snippets are scored, without an encoder.", "Detection", ge=1, le=1000
    )
    scoring: Literal["actions", "all"] = setting(
        "actions", "Softmax over the action classes, or over them and background.", "Detection"
    )
    video_classes: int = setting(
        0,
        "Only the classes that the video as a whole shows most, so many; 0 for all.",
        "Detection",
        ge=0,
        le=1000,
    )
    first_nms: float | None = setting(
        0.2,
        "Hard NMS within a class before boundaries move, as published: tIoU above which; empty for none, so"
        " that nms acts on the moved segments alone.",
        "Detection",
        gt=0,
        le=1,
    )
    nms: NMS = revised("nms", "none", "Suppression of the moved segments; the paper's comes before.")

    @property
    def proposal_epochs(self) -> int:
        """Epochs of the first stage; each stage has at least one."""
        return min(max(round(self.proposal_share * self.epochs), 1), self.epochs - 1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs < 2:
            raise ValueError("epochs can't be 1: proposals and heads are trained one after the other")
        for name, most in (
            ("starting_parts", self.context_snippets),
            ("course_parts", self.course_snippets),
            ("ending_parts", self.context_snippets),
        ):
            if max(getattr(self, name)) > most:
                raise ValueError(f"{name} can't have more parts than snippets of the stage ({most})")
        if self.incomplete_iou > self.foreground_iou:
            raise ValueError(
                f"incomplete_iou can't be {self.incomplete_iou:g}, it is at most foreground_iou"
                f" ({self.foreground_iou:g})"
            )
        proposer_of(self)
        return self

    @property
    def layout(self) -> PyramidLayout:
        return PyramidLayout(tuple(self.starting_parts), tuple(self.course_parts), tuple(self.ending_parts))

    @property
    def rules(self) -> KindRules:
        return KindRules(
            self.foreground_iou,
            self.incomplete_iou,
            self.incomplete_overlap,
            self.background_iou,
            self.background_coverage,
        )

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Foreground, incomplete and background proposals of a video in one step."""
        total = self.foreground_share + self.incomplete_share + self.background_share
        foreground = max(1, self.proposals_per_video * self.foreground_share // total)
        background = self.proposals_per_video * self.background_share // total
        return foreground, max(0, self.proposals_per_video - foreground - background), background

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.context_snippets, self.course_snippets, self.context_snippets


class StructuredHeads(nn.Module):
    """Activity from the course, completeness and regression from the pyramid; linear."""

    def __init__(self, course_size: int, pyramid_size: int, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.activity = nn.Linear(course_size, num_classes + 1)
        self.completeness = nn.Linear(pyramid_size, num_classes)
        self.regression = nn.Linear(pyramid_size, 2 * num_classes)
        for layer in (self.activity, self.completeness, self.regression):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)

    def forward(
        self, course: torch.Tensor, pyramid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Activity (N, K + 1), column 0 background, completeness (N, K), regression (N, K, 2)."""
        regression = self.regression(pyramid).unflatten(1, (self.num_classes, 2))
        return self.activity(course), self.completeness(pyramid), regression

    def merged(self, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One linear layer for every snippet, weights and bias; ``structured_segments.pool_scores`` reads it.

        Rows: activity, completeness slot by slot, regression slot by slot. A bias is shared by the slots.
        """
        weights: list[torch.Tensor] = [self.activity.weight]
        biases: list[torch.Tensor] = [self.activity.bias]
        for layer in (self.completeness, self.regression):
            weights.append(layer.weight.unflatten(1, (slots, -1)).transpose(0, 1).flatten(0, 1))
            biases.append(layer.bias.repeat(slots) / slots)
        return torch.cat(weights), torch.cat(biases)


class ContextEncoder(nn.Module):
    """What the heads see when ``encoder_layers`` is above 0; also says the class of every snippet."""

    def __init__(self, config: SSNConfig, num_features: int, num_classes: int):
        super().__init__()
        channels = config.encoder_channels
        self.embed = nn.Conv1d(num_features, channels, 1)
        self.blocks = nn.ModuleList(
            DilatedBlock(channels, 2**layer, config.dropout) for layer in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.snippet_classes = nn.Linear(channels, num_classes + 1)
        self.segment = nn.Linear((INSIDE_PARTS + 2 * FLANK_PARTS) * channels + 1, 2 * channels)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)`` normalised features and mask (B, T) -> (B, T, C), zero on padding."""
        real = mask[:, None].to(features.dtype)
        hidden = self.embed(features.clamp(-10, 10).transpose(1, 2)) * real
        for block in self.blocks:
            hidden = block(hidden, real)
        return self.norm(hidden.transpose(1, 2)) * mask[:, :, None]

    def pooled(self, encoded: torch.Tensor, edges: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        """Structured pyramid of segments (N, 2) in ``video`` (N,): a starting, a course and an ending stage.

        Exact means over the parts of each stage; what lies outside the video counts as zero, which is the
        paper's scaling of an incomplete context.
        """
        parts = segment_means(encoded, edges - 0.5, video).flatten(1)
        length = (edges[:, 1] - edges[:, 0]).clamp(min=1e-2).log().unsqueeze(1)
        return torch.relu(self.segment(torch.cat([parts, length], dim=1)))


class Outputs(NamedTuple):
    """What is said of N proposals: their ``edges`` (N, 2) and the ``video`` (N,) each is in.

    ``activity`` (N, K + 1), column 0 background, ``completeness`` (N, K), ``regression`` (N, K, 2), and
    ``snippets`` (B, T, K + 1), class logits of all snippets, of which ``mask`` (B, T) are real.
    """

    edges: torch.Tensor
    video: torch.Tensor
    activity: torch.Tensor
    completeness: torch.Tensor
    regression: torch.Tensor
    snippets: torch.Tensor
    mask: torch.Tensor


class SSN(Normalised):
    """Proposals' network and structured segment network.

    ``regression_mean`` and ``regression_std`` (2,) of the regression targets are set when the proposals are
    there.
    """

    regression_mean: torch.Tensor
    regression_std: torch.Tensor

    def __init__(self, config: SSNConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config, self.num_classes = config, num_classes
        self.register_buffer("regression_mean", torch.zeros(2))
        self.register_buffer("regression_std", torch.ones(2))
        self.proposer = make_proposer(config, num_features, num_classes)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder: ContextEncoder | None = None
        if config.encoder_layers:
            self.encoder = ContextEncoder(config, num_features, num_classes)
            size = 2 * config.encoder_channels
            self.heads = StructuredHeads(size, size, num_classes)
        else:
            self.pyramid = PyramidPooling(config.layout, config.counts)
            self.heads = StructuredHeads(num_features, num_features * config.layout.slots, num_classes)

    def forward(self, batch: dict[str, Any]) -> tuple[torch.Tensor | None, ...]:
        """Activity, completeness and regression of a batch's proposals, and class logits of its snippets.

        (N, K + 1), (N, K), (N, K, 2), and (B, T, K + 1) or None without an encoder.
        """
        if self.encoder is None:
            snippets = self.dropout(self.normalise(batch["snippets"]))
            return *self.heads(*self.pyramid(snippets, batch["scaling"])), None
        encoded = self.encoder(self.normalise(batch["features"]), batch["mask"])
        hidden = self.dropout(self.encoder.pooled(encoded, batch["edges"], batch["video"]))
        return *self.heads(hidden, hidden), self.encoder.snippet_classes(encoded)

    def loss(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Terms of a batch of ``ssn_stages.StagedSampler``, of the proposals' or of the second stage."""
        if "proposer" in batch:
            return cast(Model, self.proposer).loss(batch["proposer"])
        *outputs, snippets = self(batch)
        terms: dict[str, torch.Tensor] = {}
        if snippets is not None:
            mask = batch["mask"]
            terms["snippet"] = F.cross_entropy(snippets[mask].float(), batch["snippet_labels"][mask])
        targets = (batch["targets"] - self.regression_mean) / self.regression_std
        terms |= structured_losses(
            outputs,
            batch["labels"],
            batch["kinds"],
            targets,
            batch["blocks"],
            self.config.hard_negative_ratio,
        )
        weights = {
            "activity": self.config.activity_weight,
            "completeness": self.config.completeness_weight,
            "regression": self.config.regression_weight,
        }
        total = sum((weights.get(name, 1.0) * term for name, term in terms.items()), torch.zeros(()))
        return terms | {"loss": total}

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """What is said of the proposals of videos ``(B, T, D)``, real where ``mask`` (B, T) is true."""
        lengths = mask.sum(dim=1).tolist()
        rated = [self.rated(video[:n], TimeGrid(1.0)) for video, n in zip(features, lengths, strict=True)]
        edges, outputs, snippets = zip(*rated, strict=True)
        sizes = torch.tensor([len(of_video) for of_video in edges])
        padded = torch.nn.utils.rnn.pad_sequence(list(snippets), batch_first=True)
        activity, completeness, regression = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return Outputs(
            torch.cat(edges),
            torch.arange(len(edges)).repeat_interleave(sizes),
            activity,
            completeness,
            regression,
            F.pad(padded, (0, 0, 0, mask.shape[1] - padded.shape[1])),
            mask,
        )

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> Table:
        """Label, kind and regression targets of the proposals, as in training."""
        tables = [
            training_table(
                outputs.edges[outputs.video == row],
                segments[row].cpu().double() + 0.5,
                labels[row].cpu(),
                int(length),
                self.config.rules,
            )
            for row, length in enumerate(outputs.mask.sum(dim=1))
        ]
        return Table(*(torch.cat(parts) for parts in zip(*tables, strict=True)))

    def rated(self, features: torch.Tensor, grid: TimeGrid) -> Rated:
        """The proposals of one ``(T, D)`` video and what is said of them."""
        rate = self.rate_snippets if self.encoder is None else self.rate_encoded
        return rate(self.normalise(features), self.proposals(features, grid))

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor]:
        """Candidates of one video from its ``(T, D)`` features, and its ``(T, K)`` snippet scores."""
        config, length = self.config, len(features)
        edges, (activity, completeness, regression), snippets = self.rated(features, grid)
        chances = snippets.float().softmax(dim=1)[:, 1:]
        scores = class_scores(activity, completeness, config.scoring == "all")
        if config.video_classes:
            scores = only_classes(scores, chances.mean(dim=0).cpu(), config.video_classes)
        regression = regression * self.regression_std.cpu() + self.regression_mean.cpu()
        segments, values, labels = detect(
            edges / length, scores, regression, config.max_candidates, config.first_nms
        )
        limit = grid.seconds(length - 1) + max(grid.offset, grid.stride / 2)
        seconds = np.asarray(grid.seconds(segments.numpy() * length - 0.5)).clip(0, limit)
        return Candidates(seconds.astype(np.float32), values.float().numpy(), labels.numpy()), chances

    def rate_snippets(self, features: torch.Tensor, edges: torch.Tensor) -> Rated:
        """The paper's test: the heads on normalised ``(T, D)`` snippets, pooled over whole-snippet proposals.

        Returns the proposals ``(N, 2)``, their three outputs, all on the CPU, and (T, K + 1) class logits.
        """
        length = len(features)
        edges = whole_snippets(edges, length)
        # As published the last frame isn't scored; a video of one snippet has no other.
        scored = self.snippet_outputs(features[: max(length - 1, 1) : self.config.test_interval]).cpu()
        ticks, scaling = stage_ticks(edges / length, len(scored))
        outputs = pool_scores(scored, ticks, scaling, self.config.layout, self.num_classes)
        return edges, outputs, self.heads.activity(features)

    def rate_encoded(self, features: torch.Tensor, edges: torch.Tensor) -> Rated:
        """The same with an encoder, whose pooling is that of training."""
        assert self.encoder is not None
        mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
        encoded = self.encoder(features[None], mask)
        placed = edges.to(encoded)
        hidden = self.encoder.pooled(encoded, placed, torch.zeros_like(placed[:, 0], dtype=torch.long))
        outputs = [output.float().cpu() for output in self.heads(hidden, hidden)]
        return edges, outputs, self.encoder.snippet_classes(encoded[0])

    def snippet_outputs(self, features: torch.Tensor) -> torch.Tensor:
        """The merged layer on normalised ``(T, D)`` features: ``(T, K + 1 + slots * 3 K)``."""
        return F.linear(features, *self.heads.merged(self.config.layout.slots)).float()

    def proposals(self, features: torch.Tensor, grid: TimeGrid) -> torch.Tensor:
        """The best proposals of a video as edges ``(N, 2)``, float64 on the CPU; the whole video if none."""
        found = cast(Model, self.proposer).candidates(features, grid)[0].segments[: self.config.max_proposals]
        edges = torch.from_numpy(grid.index(found.astype(np.float64)) + 0.5).clamp(0, len(features))
        edges = edges[edges[:, 1] - edges[:, 0] > 1e-3]
        return edges if len(edges) else torch.tensor([[0.0, len(features)]], dtype=torch.float64)


def from_reference(state: Mapping[str, torch.Tensor], statistics: torch.Tensor) -> dict[str, torch.Tensor]:
    """Heads of the authors' checkpoint (yjxiong/action-detection) as this network's.

    ``activity_fc`` -> ``heads.activity``, ``completeness_fc`` -> ``heads.completeness``, ``regressor_fc`` ->
    ``heads.regression``; ``statistics`` (2, 2) is the checkpoint's ``reg_stats``: mean, then deviation. A
    leading ``module.`` is dropped. Column 0 of the activity is background and pyramid slots run starting,
    course, ending on both sides, so that numbers stay as they are. The image network has no place here.
    """
    names = {"activity_fc": "activity", "completeness_fc": "completeness", "regressor_fc": "regression"}
    found = {}
    for name, value in state.items():
        layer, _, kind = name.removeprefix("module.").partition(".")
        if layer in names:
            found[f"heads.{names[layer]}.{kind}"] = value
    return found | {"regression_mean": statistics[0].float(), "regression_std": statistics[1].float()}


METHOD = Method(
    name="ssn",
    title="SSN",
    summary="Names and refines proposals by what happens in, before and after them.",
    reference="Zhao et al., Temporal Action Detection with Structured Segment Networks, ICCV 2017.",
    config=SSNConfig,
    build=SSN,
    sampler=StagedSampler,
    prepare=take_statistics,
    suggest=suggest,
    check=check,
)
