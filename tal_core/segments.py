"""How far segments overlap in time."""

from __future__ import annotations

import numpy as np


def shared_length(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Length of the intersection of segments ``(..., 2)``, pair by pair after broadcasting; 0 if apart."""
    start = np.maximum(first[..., 0], second[..., 0])
    end = np.minimum(first[..., 1], second[..., 1])
    return np.maximum(end - start, 0)


def temporal_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """tIoU of segments ``(..., 2)``, pair by pair after broadcasting, in float64.

    Intersection over ``(first length + second length) - intersection``, evaluated in the order of the
    ActivityNet script: the last bit decides whether a tIoU reaches its threshold. An empty union (0/0)
    counts as no overlap.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    shared = shared_length(first, second)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
