"""The plain 1-D CNN: a sliding-window classifier whose scores are grouped into segments.

A window of ``window`` snippets, taken at every ``scale``-th snippet, goes through Conv1d (kernel 3),
ReLU, max pooling over time and a linear layer to K action classes and background. Windows of several
scales see short and long actions with the same weights.

    training    windows around random snippets, labelled by overlap with ground truth; cross-entropy
    inference   a window of each scale around every snippet -> votes for the snippets it covers
                -> class scores per snippet -> stretches above several thresholds, scored by how
                much they stand out = candidates
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.config import revised, setting
from tal_core.models.method import Candidates, Method
from tal_core.models.shared.batches import Batches
from tal_core.models.shared.feature_reader import FeatureReader
from tal_core.models.shared.grouping import GroupingConfig, grouped
from tal_core.models.shared.normalisation import Normalised, take_statistics
from tal_core.types import TimeGrid


class BaselineConfig(GroupingConfig):
    """Settings of the baseline."""

    batch_size: int = revised("batch_size", 128, "Windows in one optimisation step.")
    windows_per_epoch: int = setting(8192, "Windows drawn in one epoch.", "Optimisation", ge=1, le=10_000_000)

    hidden_channels: int = setting(256, "Filters of the convolution.", "Network", ge=1, le=8192)
    dropout: float = setting(0.3, "Share of pooled channels left out in training.", "Network", ge=0, lt=1)

    window: int = setting(5, "Snippets in a window; odd, so that one is the centre.", "Windows", ge=3, le=513)
    scales: list[Annotated[int, Field(ge=1, le=512)]] = setting(
        [1, 2],
        "Steps between the snippets of a window, a kind of window for each: 2 takes every other snippet.",
        "Windows",
        min_length=1,
        max_length=8,
    )
    overlap: float = setting(
        0.3,
        "A window is labelled with an action when they share this part of the shorter one.",
        "Windows",
        gt=0,
        le=1,
    )
    class_balance: float = setting(
        0.5,
        "0 draws windows as often as they occur, 1 every class and background equally often.",
        "Windows",
        ge=0,
        le=1,
    )

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"window can't be {window}, it has to be odd")
        return window


class Outputs(NamedTuple):
    """``logits`` (B, S, T, K + 1) of windows of S scales around all snippets; ``mask`` (B, T): real ones."""

    logits: torch.Tensor
    mask: torch.Tensor


class TemporalLocalizationModel(Normalised):
    """Conv1d -> ReLU -> AdaptiveMaxPool1d -> linear over a window of features.

    Class ``num_classes``, the last output, is background.
    """

    def __init__(self, config: BaselineConfig, num_features: int, num_classes: int):
        super().__init__(num_features)
        self.config = config
        self.conv = nn.Conv1d(num_features, config.hidden_channels, kernel_size=3)
        self.pool = nn.AdaptiveMaxPool1d(1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_channels, num_classes + 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """``(B, window, D)`` features -> ``(B, K + 1)`` class scores (logits)."""
        hidden = torch.relu(self.conv(self.normalise(windows).transpose(1, 2)))
        return self.classifier(self.dropout(self.pool(hidden).squeeze(2)))

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Cross-entropy of ``windows`` (B, window, D) against ``labels`` (B,)."""
        return {"loss": F.cross_entropy(self(batch["windows"]), batch["labels"])}

    def outputs(self, features: torch.Tensor, mask: torch.Tensor) -> Outputs:
        """Logits of the windows around all snippets of videos ``(B, T, D)``, real where ``mask`` (B, T)."""
        lengths, longest = mask.sum(dim=1).tolist(), features.shape[1]
        videos = [self.dense(video[:length]) for video, length in zip(features, lengths, strict=True)]
        padded = [F.pad(logits, (0, 0, 0, longest - logits.shape[1])) for logits in videos]
        return Outputs(torch.stack(padded), mask)

    def targets(
        self, outputs: Outputs, segments: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Class ``(B, S, T)`` of the window around every snippet at each scale, background on padding."""
        logits, mask = outputs
        classes = torch.full(logits.shape[:-1], logits.shape[-1] - 1)
        for row, length in enumerate(mask.sum(dim=1).tolist()):
            starts_ends, of_segments = segments[row].cpu().numpy(), labels[row].cpu().numpy()
            of_video = scale_labels(starts_ends, of_segments, length, self.config, logits.shape[-1] - 1)
            classes[row, :, :length] = torch.from_numpy(of_video)
        return classes.to(logits.device)

    def dense(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` features -> ``(S, T, K + 1)`` logits of the window around every snippet at each scale.

        Equals ``forward`` on each of those windows. The convolution is shared by neighbouring windows, so
        it runs once over the video (spread by the scale) and the pooling slides over its output.
        """
        sequence = self.normalise(features).T.unsqueeze(0)
        logits = []
        for scale in self.config.scales:
            reach = scale * (self.config.window // 2)
            padded = F.pad(sequence, (reach, reach), mode="replicate")
            hidden = torch.relu(F.conv1d(padded, self.conv.weight, self.conv.bias, dilation=scale))
            pooled = F.max_pool1d(hidden, self.config.window - 2, stride=1, dilation=scale)
            logits.append(self.classifier(self.dropout(pooled[0].T)))
        return torch.stack(logits)

    def snippet_scores(self, features: torch.Tensor) -> torch.Tensor:
        """``(T, D)`` features -> ``(T, K + 1)`` probabilities: the mean vote of the windows around.

        A window votes for the snippets it covers, most for its centre and least for its ends.
        """
        probabilities = self.dense(features).softmax(dim=2)
        votes = []
        for scale, scores in zip(self.config.scales, probabilities, strict=True):
            reach = scale * (self.config.window // 2)
            distance = torch.arange(-reach, reach + 1, device=scores.device, dtype=scores.dtype).abs()
            weights = 1 - distance / (reach + 1)
            kernel = (weights / weights.sum()).view(1, 1, -1)
            padded = F.pad(scores.T.unsqueeze(1), (reach, reach), mode="replicate")
            votes.append(F.conv1d(padded, kernel).squeeze(1).T)
        return torch.stack(votes).mean(dim=0)

    @torch.no_grad()
    def candidates(self, features: torch.Tensor, grid: TimeGrid) -> tuple[Candidates, torch.Tensor]:
        """Candidates of one video from its ``(T, D)`` features, and its ``(T, K)`` snippet scores."""
        scores = self.snippet_scores(features)[:, :-1]
        return grouped(scores, grid, self.config), scores


def window_labels(
    segments: np.ndarray, classes: np.ndarray, length: int, span: float, overlap: float, background: int
) -> np.ndarray:
    """Class of the window of ``span`` snippets around each of ``length`` snippets.

    A window takes the class of the segment with which it shares most, measured in the length of the
    shorter of the two, and of the one nearer to its centre among equals; background if that is less than
    ``overlap``.

    Args:
        segments: ``(N, 2)`` grid positions; a snippet reaches half a step to each side.
        classes: ``(N,)`` class indices.
    """
    labels = np.full(length, background, dtype=np.int64)
    if len(segments) == 0:
        return labels
    centre = np.arange(length)[:, None]
    start, end = segments[:, 0], segments[:, 1]
    shared = np.minimum(centre + span / 2, end) - np.maximum(centre - span / 2, start)
    share = shared / np.clip(end - start, 1e-6, span)
    distance = np.maximum(np.maximum(start - centre, centre - end), 0)
    nearest = (share - 1e-6 * distance).argmax(axis=1)
    enough = share[np.arange(length), nearest] >= overlap
    labels[enough] = classes[nearest[enough]]
    return labels


def scale_labels(
    segments: np.ndarray, classes: np.ndarray, length: int, config: BaselineConfig, background: int
) -> np.ndarray:
    """`window_labels` of the windows of each scale, ``(S, length)``."""
    spans = [scale * config.window for scale in config.scales]
    return np.stack(
        [window_labels(segments, classes, length, span, config.overlap, background) for span in spans]
    )


class WindowSampler:
    """Draws labelled windows from the training videos."""

    def __init__(self, dataset: FeatureDataset, config: BaselineConfig):
        self.config, self.dataset = config, dataset
        self.videos = dataset.videos(dataset.training_subset)
        self.reader = FeatureReader(dataset, self.videos, config.keep_features, config.device)
        self.lengths = dataset.lengths(self.videos)
        # One row per window: video, scale, centre.
        self.windows, self.labels = self._all_windows()
        counts = np.bincount(self.labels, minlength=len(dataset.labels) + 1)
        weights = np.maximum(counts, 1.0) ** -config.class_balance
        self.chance = torch.from_numpy(weights[self.labels])

    def _all_windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Every window as a row ``video, scale, centre``, and its label."""
        background = len(self.dataset.labels)
        class_of = {label: k for k, label in enumerate(self.dataset.labels)}
        truth = dict(tuple(self.dataset.ground_truth(videos=self.videos).groupby("video_id")))
        windows, labels = [], []
        for number, (video, length) in enumerate(zip(self.videos, self.lengths, strict=True)):
            rows = truth.get(video)
            segments = np.zeros((0, 2)) if rows is None else rows[["start", "end"]].to_numpy()
            classes = np.zeros(0, int) if rows is None else rows["label"].map(class_of).to_numpy()
            positions = self.dataset.grid(video).index(segments)
            labels.append(scale_labels(positions, classes, length, self.config, background).ravel())
            for scale in self.config.scales:
                row = np.empty((length, 3), dtype=np.int32)
                row[:, 0], row[:, 1], row[:, 2] = number, scale, np.arange(length)
                windows.append(row)
        return np.concatenate(windows), np.concatenate(labels)

    def epoch(self, epoch: int, generator: torch.Generator) -> WindowBatches:
        """``windows_per_epoch`` windows, classes balanced, in random order."""
        del epoch
        # Multinomial sampling by cumulated chances: torch.multinomial is limited to 2^24 entries.
        edges = self.chance.cumsum(0)
        points = torch.rand(self.config.windows_per_epoch, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(edges, points * edges[-1]).clamp(max=len(edges) - 1)
        return WindowBatches(self, drawn.numpy())

    def read(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """The windows numbered ``rows``: ``windows`` (B, window, D) as stored and ``labels`` (B,)."""
        steps = np.arange(self.config.window) - self.config.window // 2
        video, scale, centre = self.windows[rows].T
        inside = centre[:, None] + steps * scale[:, None]
        inside = inside.clip(0, self.lengths[video][:, None] - 1)
        windows = self.reader.gather([self.videos[number] for number in video], inside)
        return {"windows": windows, "labels": torch.from_numpy(self.labels[rows])}


class WindowBatches(Batches):
    """The windows of one epoch, read by their sampler."""

    def __init__(self, sampler: Any, drawn: np.ndarray):
        super().__init__(drawn, sampler.config.batch_size)
        self.sampler = sampler

    def read(self, step: int, entries: np.ndarray) -> dict[str, torch.Tensor]:
        """The windows ``entries``."""
        return self.sampler.read(entries)


def not_exportable(form: str) -> str | None:
    """Why a format can't hold the network."""
    fixed = form == "torch-export"
    return "pools over windows, which torch-export fixes to one length" if fixed else None


METHOD = Method(
    name="baseline",
    title="Baseline 1-D CNN",
    summary="A small sliding-window classifier. Trains in seconds; a floor for every other method.",
    reference="Conv1d, max pooling and a linear layer; segments by grouping scores above thresholds.",
    config=BaselineConfig,
    build=TemporalLocalizationModel,
    sampler=lambda model, dataset, config: WindowSampler(dataset, config),
    prepare=take_statistics,
    not_exportable=not_exportable,
)
