"""Training clips: whole videos or random crops of them, with their ground truth on the feature grid.

Time first: features are ``(T, D)`` and batches ``(B, T, D)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.shared.batches import Batches
from tal_core.models.shared.feature_reader import FeatureReader, Keep
from tal_core.segments import shared_length
from tal_core.types import TimeGrid

CROP_TRIALS = 200


def training_segments(
    dataset: FeatureDataset, videos: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ground truth by video: segments ``(N, 2)`` float32 in grid positions and ``(N,)`` int64 classes.

    Segments of no length and those wholly outside the features are left out: they teach nothing.
    """
    videos = list(dict.fromkeys(videos))
    grids = [dataset.grid(video) for video in videos]
    lengths = dataset.lengths(videos)
    table = dataset.ground_truth(videos=videos)
    of = pd.Index(videos).get_indexer(pd.Index(table["video_id"]))
    strides, offsets = np.array([(grid.stride, grid.offset) for grid in grids]).reshape(-1, 2).T[:, of, None]
    segments = (table[["start", "end"]].to_numpy(np.float64) - offsets) / strides
    labels = pd.Index(dataset.labels).get_indexer(pd.Index(table["label"])).astype(np.int64)
    # A snippet reaches half a step to each side of its centre.
    inside = (segments[:, 1] > -0.5) & (segments[:, 0] < lengths[of] - 0.5)
    kept = np.flatnonzero(inside & (segments[:, 1] > segments[:, 0]))
    kept = kept[np.argsort(of[kept], kind="stable")]
    ends = np.searchsorted(of[kept], np.arange(1, len(videos)))
    parts = np.split(segments[kept].astype(np.float32), ends), np.split(labels[kept], ends)
    return dict(zip(videos, zip(*parts, strict=True), strict=True))


def resample(features: torch.Tensor, grid: TimeGrid, length: int) -> tuple[torch.Tensor, TimeGrid]:
    """A video squeezed or stretched to ``length`` snippets by linear interpolation.

    ``(T, D)`` -> ``(length, D)`` and the new snippets' time grid: each stands for ``T / length`` old ones.
    """
    ratio = len(features) / length
    resized = F.interpolate(features.T.unsqueeze(0), size=length, mode="linear", align_corners=False)
    return resized[0].T, TimeGrid(grid.stride * ratio, float(grid.seconds(0.5 * ratio - 0.5)))


def align(features: torch.Tensor, grid: TimeGrid, length: int) -> tuple[torch.Tensor, TimeGrid]:
    """``resample`` as OpenTAD does it: region alignment (He et al., Mask R-CNN, ICCV 2017) in time.

    A new snippet is the mean of as many equally spaced points, interpolated between half-precision features,
    as it stands for old ones, rounded up. Position 0 is where the first snippet begins, not its centre.
    """
    points = math.ceil(len(features) / length)
    dense, fine = resample(features.half().to(features.dtype), grid, points * length)
    stride = points * fine.stride
    return dense.unflatten(0, (length, points)).mean(dim=1), TimeGrid(stride, fine.offset - fine.stride / 2)


class ClipSampler:
    """Every training video once in each epoch, as a clip of at most ``max_length`` snippets.

    Longer videos are cropped at random; with ``crop`` = (low, high) a shorter one too, to a random share of
    its length. A segment belongs to a crop if at least ``min_overlap`` of it is inside, cut at the crop's
    ends; crops without any are drawn again (the truncation of ActionFormer, Zhang et al., ECCV 2022).
    ``resize`` brings every video to so many snippets first, by ``resampling``. ``keep``, ``device``: see
    ``FeatureReader``. Features stay as stored, float16 or float32, but where they are resized.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        batch_size: int,
        max_length: int,
        *,
        crop: tuple[float, float] | None = None,
        min_overlap: float = 0.5,
        resize: int | None = None,
        resampling: Callable[[torch.Tensor, TimeGrid, int], tuple[torch.Tensor, TimeGrid]] = resample,
        keep: Keep = "auto",
        device: str = "auto",
    ):
        self.batch_size, self.max_length = batch_size, max_length
        self.resize, self.resampling = resize, resampling
        self.crop, self.min_overlap = crop, min_overlap
        self.videos = dataset.videos(dataset.training_subset)
        self.reader = FeatureReader(dataset, self.videos, keep, device)
        self.truth = training_segments(dataset, self.videos)

    def epoch(self, epoch: int, generator: torch.Generator) -> ClipBatches:
        """All videos in random order."""
        del epoch
        order = torch.randperm(len(self.videos), generator=generator).tolist()
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return ClipBatches(self, order, seed)

    def clip(self, video: str, random: np.random.Generator) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Features ``(T, D)``, segments ``(N, 2)`` on the clip's grid and classes ``(N,)``."""
        segments, labels = self.truth[video]
        length = self.reader.lengths[video]
        if self.resize is not None:
            resized, grid = self.resampling(self.reader.read(video).float(), TimeGrid(1.0), self.resize)
            return resized, grid.index(segments), labels
        size = self._crop_length(length, random)
        start, kept = 0, np.ones(len(labels), bool)
        if size < length:
            start, kept = self._crop(segments, length, size, random)
            segments = (segments[kept] - start).clip(-0.5, size - 0.5)
        features = self.reader.read(video, start, start + size)
        return features, segments.astype(np.float32), labels[kept]

    def _crop_length(self, length: int, random: np.random.Generator) -> int:
        if self.crop is None or length > self.max_length:
            return min(length, self.max_length)
        low, high = (max(1, round(share * length)) for share in self.crop)
        return int(random.integers(low, high + 1))

    def _crop(
        self, segments: np.ndarray, length: int, size: int, random: np.random.Generator
    ) -> tuple[int, np.ndarray]:
        """Start of a crop, and which segments ``(N,)`` it holds."""
        starts = random.integers(0, length - size + 1, CROP_TRIALS)
        crops = starts[:, None, None] + np.array([-0.5, size - 0.5])
        shared = shared_length(crops, segments)
        held = shared >= self.min_overlap * (segments[:, 1] - segments[:, 0])
        held &= shared > 0
        full = np.flatnonzero(held.any(axis=1))
        trial = int(full[0]) if len(full) else 0
        return int(starts[trial]), held[trial]


class ClipBatches(Batches):
    """The batches of one epoch; batch ``i`` depends on the epoch's draw and ``i`` alone.

    A batch: ``features`` (B, T, D) padded with zeros to its longest clip, ``mask`` (B, T) true on real
    snippets, ``segments`` and ``labels`` lists of (N, 2) grid positions and (N,) classes.
    """

    def __init__(self, sampler: ClipSampler, order: list[int], seed: int):
        super().__init__(order, sampler.batch_size)
        self.sampler, self.seed = sampler, seed

    def read(self, step: int, entries: Sequence[int]) -> dict[str, Any]:
        """The clips of the videos numbered ``entries``."""
        random = np.random.default_rng((self.seed, step))
        return collate([self.sampler.clip(self.sampler.videos[number], random) for number in entries])


def collate(clips: Sequence[tuple[torch.Tensor, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Clips (features, segments, labels) as one batch, padded to the longest."""
    lengths = [len(features) for features, _, _ in clips]
    longest = max(lengths)
    parts = [features for features, _, _ in clips]
    dtype = parts[0].dtype if len({part.dtype for part in parts}) == 1 else torch.float32
    features = torch.nn.utils.rnn.pad_sequence([part.to(dtype) for part in parts], batch_first=True)
    return {
        "features": features,
        "mask": torch.arange(longest) < torch.tensor(lengths)[:, None],
        "segments": [torch.as_tensor(segments, dtype=torch.float32) for _, segments, _ in clips],
        "labels": [torch.as_tensor(labels, dtype=torch.int64) for _, _, labels in clips],
    }
