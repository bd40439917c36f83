"""What is asked of the features of a stream."""

from __future__ import annotations

import math

import numpy as np

from tal_core.types import InputError


def checked_features(features: np.ndarray, num_features: int) -> np.ndarray:
    """Snippets ``(N, D)`` as float32. Raises InputError unless they are finite numbers, D as in training."""
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        what = f"features have shape {features.shape} and type {features.dtype}"
        raise InputError(what, hint=f"Push numbers of shape (snippets, {num_features}).")
    if features.shape[1] != num_features:
        what = f"features have {features.shape[1]} channels, but the run was trained on {num_features}"
        raise InputError(what, hint="Use features of the same extractor as in training.")
    features = np.ascontiguousarray(features, np.float32)
    if not np.isfinite(features).all():
        raise InputError(
            "features contain NaN or infinite values", hint="Leave these snippets out, as a gap."
        )
    return features


def checked_seconds(seconds: float) -> float:
    """A time of a stream. Raises InputError unless it is finite and not negative."""
    if not math.isfinite(seconds) or seconds < 0:
        raise InputError(f"a stream can't go on at {seconds} s", hint="Give seconds since it began.")
    return float(seconds)
