"""MiniROAD (An et al., MiniROAD: Minimal RNN Framework for Online Action Detection, ICCV 2023).

    features -> linear, LayerNorm, ReLU, dropout -> GRU -> ReLU -> linear -> background and K classes

The GRU looks back only, so that the network serves a stream snippet by snippet (``step``), and a whole video
at once gives the same numbers (``sequence``).

    training    a window of snippets; only its end counts in the loss (non-uniform, section 3.3: one
                snippet), and the labels of a snippet share its cross-entropy
    inference   class scores per snippet -> stretches above several thresholds = candidates

Labels of snippets come from the segments by `snippet_labels`. Class 0 of the network is background, as in the
reference; a snippet without a class has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.data.exploring.snippets import snippet_labels
from tal_core.models.baseline import WindowBatches
from tal_core.models.config import Optimizer, revised, setting
from tal_core.models.cpu_kernels.convolution import linear
from tal_core.models.cpu_kernels.gru import gru_hidden
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Candidates, Method, Suggestion
from tal_core.models.shared.clips import training_segments
from tal_core.models.shared.feature_reader import FeatureReader
from tal_core.models.shared.grouping import GroupingConfig, grouped
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.types import TimeGrid


class MiniRoadConfig(GroupingConfig):
    """Settings of MiniROAD; defaults for THUMOS14."""

    epochs: int = revised("epochs", 10, "Passes over the training windows.")
    batch_size: int = revised("batch_size", 16, "Windows in one optimisation step.")
    optimizer: Optimizer = revised("optimizer", "adamw")
    weight_decay: float = revised("weight_decay", 0.05)

    embed_dim: int = setting(2048, "Width of the embedding.", "Network", ge=1, le=8192)
    hidden_dim: int = setting(1024, "Numbers that the GRU remembers.", "Network", ge=1, le=8192)
    layers: int = setting(1, "GRU layers on top of each other.", "Network", ge=1, le=8)
    dropout: float = setting(0.2, "Share of the embedding left out in training.", "Network", ge=0, lt=1)
    normalise: bool = setting(True, "Take mean and deviation of the training features out first.", "Network")

    window: int = setting(
        128,
        "Snippets that the GRU sees in training before the one that counts, itself included.",
        "Windows",
        ge=1,
        le=10_000,
    )
    window_stride: int = setting(
        4, "Snippets from one training window to the next.", "Windows", ge=1, le=10_000
    )
    counted: int = setting(
        1,
        "Last snippets of a window that count in the loss; 1 as published. With more, and a window_stride of"
        " as many, an epoch costs so much less.",
        "Windows",
        ge=1,
        le=10_000,
    )

    @model_validator(mode="after")
    def _counted_within(self) -> Self:
        if self.counted > self.window:
            raise ValueError(f"counted ({self.counted}) can't be more than window ({self.window})")
        return self


class Outputs(NamedTuple):
    """``logits`` (B, T, K + 1) of all snippets, of which ``mask`` (B, T) are real."""

    logits: torch.Tensor
    mask: torch.Tensor


class MiniRoad(Normalised):
    """The network, its loss and its candidates. Class 0 of its ``K + 1`` outputs is background."""

    def __init__(self, config: MiniRoadConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config = config
        self.embedding = nn.Linear(num_features, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.gru = nn.GRU(config.embed_dim, config.hidden_dim, config.layers, batch_first=True)
        self.classifier = nn.Linear(config.hidden_dim, num_classes + 1)

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)`` normalised features -> ``(B, T, E)``."""
        layer = self.embedding
        # An export keeps PyTorch's own operators only.
        embedded = linear(features, layer.weight, layer.bias) if self.training else layer(features)
        return F.dropout(self.norm(embedded).relu(), self.config.dropout, self.training)

    def zero_state(self, streams: int = 1) -> torch.Tensor:
        """What the GRU remembers at the beginning: ``(layers, streams, H)``."""
        config = self.config
        return self.mean.new_zeros(config.layers, streams, config.hidden_dim)

    def forward(
        self, features: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``(B, T, D)``, state ``(layers, B, H)`` -> logits ``(B, T, K + 1)``, state after."""
        hidden, state = self.gru(self.embed(self.normalise(features)), state)
        return self.classifier(hidden.relu()), state

    @torch.no_grad()
    def advance(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next snippets of B streams: ``(B, T, D)`` -> class scores ``(B, T, K)`` in 0..1, state."""
        logits, state = self(features, state)
        return logits.softmax(dim=2)[..., 1:], state

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits of all snippets of videos ``(B, T, D)``, real where ``mask`` (B, T) is true."""
        return Outputs(self(features)[0], mask)

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """``(B, T, K + 1)`` of 0 and 1: the classes of every snippet, none on padding."""
        logits, mask = outputs
        targets = torch.zeros(logits.shape)
        for row, length in enumerate(mask.sum(dim=1).tolist()):
            starts_ends, classes = segments[row].cpu().numpy(), labels[row].cpu().numpy()
            of_video = snippet_targets(starts_ends, classes, length, logits.shape[-1] - 1)
            targets[row, :length] = torch.from_numpy(of_video)
        return targets.to(logits.device)

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Cross-entropy of the last snippets of each of the ``windows`` (B, W, D).

        ``padding`` (B,): snippets before the video begins, zeros after normalisation. ``targets``
        (B, C, K + 1): of the last C snippets, 0 before the video begins.
        """
        features = self.normalise(batch["windows"])
        before = torch.arange(features.shape[1], device=features.device) < batch["padding"].unsqueeze(1)
        hidden = gru_hidden(self.gru, self.embed(features.masked_fill(before.unsqueeze(2), 0)))
        targets = batch["targets"]
        return {"loss": label_loss(self.classifier(hidden[:, -targets.shape[1] :].relu()), targets)}

    @torch.no_grad()
    def snippet_scores(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` features of a video -> ``(T, K)`` class scores."""
        return self.advance(features.unsqueeze(0), self.zero_state())[0][0]

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor]:
        """Candidates of one video from its ``(T, D)`` features, and its ``(T, K)`` snippet scores."""
        scores = self.snippet_scores(features)
        return grouped(scores, grid, self.config), scores


def label_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits ``(..., K + 1)`` against rows of 0 and 1, mean over those with a label.

    A row is divided by its Euclidean length, so that one label weighs 1 and two weigh 0.71 each.
    """
    labelled = targets.amax(dim=-1).sum()
    return -(F.normalize(targets, dim=-1) * logits.log_softmax(dim=-1)).sum() / labelled


def snippet_targets(segments: np.ndarray, classes: np.ndarray, length: int, num_classes: int) -> np.ndarray:
    """`snippet_labels` as 0 and 1 behind a column for background: ``(length, K + 1)`` float32."""
    labels = snippet_labels(segments, classes, length, num_classes)
    return np.concatenate([~labels.any(axis=1, keepdims=True), labels], axis=1).astype(np.float32)


class WindowSampler:
    """Windows of the training videos that end at every ``window_stride``-th snippet.

    The first of a video is drawn anew in each epoch, below the stride. A window that begins before its video
    is filled up with zeros.
    """

    def __init__(self, dataset: FeatureDataset, config: MiniRoadConfig):
        self.config = config
        self.videos = dataset.videos(dataset.training_subset)
        self.reader = FeatureReader(dataset, self.videos, config.keep_features, config.device)
        lengths, num_classes = self.reader.lengths, len(dataset.labels)
        self.targets = [
            torch.from_numpy(snippet_targets(segments, classes, lengths[video], num_classes))
            for video, (segments, classes) in training_segments(dataset, self.videos).items()
        ]

    def epoch(self, epoch: int, generator: torch.Generator) -> WindowBatches:
        """All windows in random order."""
        del epoch
        stride = self.config.window_stride
        offsets = torch.randint(stride, (len(self.videos),), generator=generator).tolist()
        windows = window_ends([self.reader.lengths[video] for video in self.videos], offsets, stride)
        order = torch.randperm(len(windows), generator=generator).numpy()
        return WindowBatches(self, windows[order])

    def read(self, windows: np.ndarray) -> dict[str, torch.Tensor]:
        """Windows (B, 2) of video number and last snippet; see ``MiniRoad.loss``."""
        number, last = windows.T
        window, counted = self.config.window, self.config.counted
        snippets = last[:, None] - np.arange(window - 1, -1, -1)
        features = self.reader.gather([self.videos[n] for n in number], snippets.clip(0))
        parts = [self.targets[n][max(0, end - counted + 1) : end + 1] for n, end in windows.tolist()]
        return {
            "windows": features,
            "padding": torch.from_numpy((window - 1 - last).clip(0)),
            "targets": torch.stack([F.pad(part, (0, 0, counted - len(part), 0)) for part in parts]),
        }


def window_ends(lengths: Sequence[int], offsets: Sequence[int], stride: int) -> np.ndarray:
    """All windows ``(N, 2)`` of videos: its number and the window's last snippet."""
    ends = [np.arange(offset, length, stride) for length, offset in zip(lengths, offsets, strict=True)]
    number = np.repeat(np.arange(len(ends)), [len(end) for end in ends])
    return np.stack([number, np.concatenate([*ends, np.zeros(0, np.int64)])], axis=1)


def prepare(model: nn.Module, dataset: FeatureDataset, config: MiniRoadConfig) -> None:
    """Take the features' mean and deviation from the training videos, unless ``normalise`` is off."""
    if config.normalise:
        take_statistics(model, dataset)


def from_reference(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the reference implementation under the names of this one (mean 0 and deviation 1).

    layer1.0    embedding        gru                    the same
    layer1.1    norm             f_classification.0     classifier
    """
    names = {"layer1.0": "embedding", "layer1.1": "norm", "f_classification.0": "classifier"}
    renamed = {}
    for name, value in state.items():
        part, _, last = name.rpartition(".")
        renamed[f"{names.get(part, part)}.{last}"] = value
    features = state["layer1.0.weight"].shape[1]
    return renamed | {"mean": torch.zeros(features), "std": torch.ones(features)}


def suggest(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings for this data; without training segments there is nothing to go by."""
    segments, snippets = len(summary.segments), int(summary.lengths.sum())
    if segments == 0 or snippets == 0:
        return {}
    long = float(np.percentile(summary.segments, 90))
    window = int(min(128, max(32, 2 ** math.ceil(math.log2(max(4 * long, 1))))))
    counted = window // 2
    width = 128 if segments < 1500 else 256 if segments < 2500 else None
    batch = 16
    a_pass = -(-(snippets // counted + summary.num_videos) // batch)
    epochs = int(min(100, max(5, round(400 / a_pass))))
    memorised = ", which a wider network would memorise" if width else ""
    why = f"{segments} training segments{memorised}"
    return {
        "window": Suggestion(
            window, f"nine in ten actions have up to {long:.0f} snippets; 128 at most, as published"
        ),
        "counted": Suggestion(counted, "half of a window: each snippet is trained with as much before it"),
        "window_stride": Suggestion(counted, "as many as count, so that every snippet counts once an epoch"),
        "embed_dim": Suggestion(width or 2048, why),
        "hidden_dim": Suggestion(width or 1024, why),
        "dropout": Suggestion(0.5 if width == 128 else 0.2, why),
        "epochs": Suggestion(epochs, f"{epochs * a_pass} steps of {a_pass} an epoch"),
        "batch_size": Suggestion(batch, "as published"),
        "learning_rate": Suggestion(1e-3 if width else 1e-4, f"a network {width or 1024} wide"),
        "schedule": Suggestion("cosine", "ends with small steps, so that the last weights are settled ones"),
        "gradient_clip": Suggestion(1.0, "a recurrent network's gradients can jump"),
    }


def check(config: MiniRoadConfig, summary: DataSummary) -> list[str]:
    """What will go badly with this data, a line each."""
    if len(summary.segments) == 0:
        return []
    long = float(np.percentile(summary.segments, 90))
    if long <= config.window:
        return []
    return [
        f"one in ten training segments has more than {long:.0f} snippets, and a window of {config.window}"
        f" never sees their beginning and end at once: set window={2 ** math.ceil(math.log2(long))}."
    ]


METHOD = Method(
    name="miniroad",
    title="MiniROAD",
    summary="A GRU that looks back only: scores every snippet of a stream as it comes.",
    reference="An et al., MiniROAD: Minimal RNN Framework for Online Action Detection, ICCV 2023.",
    config=MiniRoadConfig,
    build=MiniRoad,
    sampler=lambda model, dataset, config: WindowSampler(dataset, config),
    prepare=prepare,
    suggest=suggest,
    check=check,
    online=True,
    not_exportable=lambda form: None,
)
