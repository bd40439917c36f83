"""A sample of a dataset's snippets, and a flat map of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tal_core.types import InputError, Progress

BACKGROUND_LABEL = "background"


def sample_snippets(
    dataset: Any,
    videos: Sequence[str],
    *,
    count: int = 2000,
    most_videos: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Features ``(N, D)`` float32 of about ``count`` snippets, and a table ``video_id, seconds, label``.

    Snippets are drawn evenly from up to ``most_videos`` of the videos (by default one for every five
    snippets, at least 200), at random places. The label is that of the last segment (in file order) over the
    snippet's centre, else ``background``.
    """
    most_videos = max(200, count // 5) if most_videos is None else most_videos
    generator = np.random.default_rng(seed)
    videos = list(videos)
    if len(videos) > most_videos:
        videos = [videos[i] for i in sorted(generator.choice(len(videos), most_videos, replace=False))]
    each = max(1, -(-count // max(1, len(videos))))
    truth = dict(tuple(dataset.ground_truth(videos=videos).groupby("video_id")))
    blocks, tables = [], []
    for done, video_id in enumerate(videos):
        features = dataset.features(video_id)
        places = np.sort(generator.choice(len(features), min(each, len(features)), replace=False))
        seconds = np.asarray(dataset.grid(video_id).seconds(places), np.float64)
        blocks.append(np.asarray(features[places], np.float32))
        tables.append(
            pd.DataFrame(
                {"video_id": video_id, "seconds": seconds, "label": labels_at(seconds, truth.get(video_id))}
            )
        )
        if progress:
            progress(done + 1, len(videos), f"reading {done + 1} of {len(videos)} videos")
    if not blocks:
        return np.zeros((0, 0), np.float32), pd.DataFrame(columns=["video_id", "seconds", "label"])
    return np.concatenate(blocks)[:count], pd.concat(tables, ignore_index=True)[:count]


def labels_at(seconds: np.ndarray, segments: pd.DataFrame | None) -> np.ndarray:
    """The class at each time ``(N,)`` of one video, ``background`` where no segment is."""
    labels = np.full(len(seconds), BACKGROUND_LABEL, object)
    if segments is not None:
        for start, end, label in zip(segments["start"], segments["end"], segments["label"], strict=True):
            labels[(seconds >= start) & (seconds <= end)] = label
    return labels


def snippet_labels(segments: np.ndarray, classes: np.ndarray, length: int, num_classes: int) -> np.ndarray:
    """Which classes each of a video's snippets has, bool ``(length, K)``.

    A snippet has the classes whose segments hold its centre; a segment between two centres labels the nearer
    one, so that none is lost.

    Args:
        segments: ``(N, 2)`` grid positions; snippet ``i`` is centred at ``i``.
        classes: ``(N,)`` class indices.
    """
    labels = np.zeros((length, num_classes), bool)
    if length == 0:
        return labels
    first, last = np.ceil(segments[:, 0]).astype(int), np.floor(segments[:, 1]).astype(int)
    middle = np.rint(segments.mean(axis=1)).astype(int)
    first, last = np.where(last < first, middle, first), np.where(last < first, middle, last)
    for begin, end, label in zip(first.clip(0, length - 1), last.clip(0, length - 1), classes, strict=True):
        labels[begin : end + 1, label] = True
    return labels


def principal_components(
    features: np.ndarray, count: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Project standardised ``(N, D)`` features on their first principal components.

    Returns positions ``(N, count)`` and the share of the variance that each component explains
    ``(count,)``, 0 beyond the dimensions that there are. Randomised (Halko et al., 2011), repeatable by
    ``seed``: 2000 x 2048 takes a second where an exact decomposition takes ten.
    """
    from sklearn.decomposition import PCA  # a slow import: only when a map is asked for
    from sklearn.preprocessing import StandardScaler

    standard = StandardScaler().fit_transform(np.asarray(features, np.float32))
    positions, share = np.zeros((len(standard), count), np.float32), np.zeros(count, np.float32)
    if standard.any():  # else all snippets are the same, and nothing varies
        width = min(count, *standard.shape)
        components = PCA(width, svd_solver="randomized", random_state=seed)
        positions[:, :width] = components.fit_transform(standard)
        share[:width] = components.explained_variance_ratio_
    return positions, share


def umap_positions(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Place ``(N, D)`` features on a plane (N, 2) by UMAP (McInnes et al., 2018), neighbours kept together.

    Standardised and reduced to 50 principal components first. Repeatable by ``seed``, hence on one core.

    Raises:
        InputError: if the package ``umap-learn``, which is not among the requirements, is missing.
    """
    try:
        umap = importlib.import_module("umap")  # with its compiler the slowest import of all: only when asked
    except ImportError as error:
        raise InputError(
            f"UMAP needs the package umap-learn ({error})",
            hint="Install it (pip install umap-learn), or choose principal components.",
        ) from error
    if len(features) < 4:
        return principal_components(features)[0]
    reduced, _ = principal_components(features, count=min(50, len(features), features.shape[1]))
    reducer = umap.UMAP(n_neighbors=min(15, len(features) - 1), random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(reduced), np.float32)
