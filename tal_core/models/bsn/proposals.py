"""Proposals of BSN (Lin et al., ECCV 2018) from its curves: pairs of start and end, features, soft-NMS.

Arrays are float64 on the CPU, positions those of the feature grid; relative time of the paper is
``(position + 0.5) / T``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tal_core.segments import shared_length, temporal_iou

FLANK = 0.2  # of a proposal's length, to both sides of its start and end: the regions of its features
ACTION_VALUES, BOUNDARY_VALUES, READINGS = 16, 8, 3
NUM_VALUES = ACTION_VALUES + 2 * BOUNDARY_VALUES


class Proposals(NamedTuple):
    """Pairs of start and end, best first: ``segments`` (N, 2) positions, ``start`` and ``end`` (N,) scores,
    ``scores`` (N,) their product."""

    segments: np.ndarray
    start: np.ndarray
    end: np.ndarray
    scores: np.ndarray


def boundary_candidates(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Snippets ``(M,)`` where an action may start (end): the first, the last, peaks, and all that is high."""
    chosen = scores > threshold * scores.max()
    chosen[1:-1] |= (scores[1:-1] > scores[:-2]) & (scores[1:-1] > scores[2:])
    chosen[[0, -1]] = True
    return np.flatnonzero(chosen)


def generate_proposals(
    start_scores: np.ndarray, end_scores: np.ndarray, threshold: float, longest: int | None = None
) -> Proposals:
    """Every candidate start with every later candidate end, not more than ``longest`` snippets on (PGM)."""
    starts = boundary_candidates(start_scores, threshold)
    ends = boundary_candidates(end_scores, threshold)
    reach = len(start_scores) if longest is None else longest
    first = np.searchsorted(ends, starts, side="right")
    count = np.searchsorted(ends, starts + reach, side="right") - first
    start = np.repeat(starts, count)
    end = ends[np.arange(count.sum()) + np.repeat(first - (count.cumsum() - count), count)]
    scores = start_scores[start] * end_scores[end]
    order = np.argsort(-scores, kind="stable")
    start, end = start[order], end[order]
    segments = np.stack([start, end], axis=1).astype(np.float64)
    return Proposals(segments, start_scores[start], end_scores[end], scores[order])


def _readings(low: float, high: float, values: int) -> np.ndarray:
    """Where the curve is read for a region: READINGS steps for each value, and the end of the last."""
    step = (high - low) / (values - 1)
    return low - step / 2 + step / READINGS * np.arange(values * READINGS + 1)


# In lengths of the proposal from its start: the proposal itself, around its start, around its end.
_PLACES = np.concatenate(
    [
        _readings(0, 1, ACTION_VALUES),
        _readings(-FLANK, FLANK, BOUNDARY_VALUES),
        _readings(1 - FLANK, 1 + FLANK, BOUNDARY_VALUES),
    ]
)


def proposal_features(action_scores: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Features ``(N, 32)``: the action curve in each proposal, around its start and around its end.

    The curve is linear between snippet centres and zero outside the video. A value is the mean of
    READINGS + 1 equally spaced readings, both ends of its stretch included.
    """
    start = segments[:, :1]
    places = start + (segments[:, 1:] - start) * _PLACES
    curve = np.pad(action_scores, (1, 2))
    places = (places + 1).clip(0, len(action_scores) + 1)
    whole = places.astype(np.int64)
    read = curve[whole] + (places - whole) * np.diff(curve)[whole]
    values, first = [], 0
    for number in (ACTION_VALUES, BOUNDARY_VALUES, BOUNDARY_VALUES):
        last = first + number * READINGS
        inner = read[:, first:last].reshape(-1, number, READINGS).sum(axis=2)
        values.append((inner + read[:, first + READINGS : last + 1 : READINGS]) / (READINGS + 1))
        first = last + 1
    return np.concatenate(values, axis=1)


def match(segments: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU with an action, and best intersection over own length, of proposals ``(N, 2)``: both (N,)."""
    if len(truth) == 0:
        return np.zeros(len(segments)), np.zeros(len(segments))
    segments = segments[:, None]
    inside = shared_length(segments, truth) / (segments[..., 1] - segments[..., 0])
    return temporal_iou(segments, truth).max(axis=1), inside.max(axis=1)


def soft_nms(
    segments: np.ndarray,
    scores: np.ndarray,
    length: int,
    *,
    sigma: float,
    overlap: tuple[float, float],
    keep: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The paper's soft-NMS over all proposals of a video of ``length`` snippets.

    What overlaps the best one by more than a threshold falls by ``exp(-IoU² / sigma)``; the threshold grows
    from ``overlap[0]`` to ``overlap[1]`` with the width of the best one in relative time. ``keep + 1`` are
    taken, as in the reference, and the best ``keep`` returned: rows and scores, best first.
    """
    start, end = np.ascontiguousarray(segments.T)
    left, width = scores.copy(), end - start
    taken, values = [], []
    for _ in range(min(keep + 1, len(scores))):
        best = int(left.argmax())
        taken.append(best)
        values.append(left[best])
        shared = (np.minimum(end, end[best]) - np.maximum(start, start[best])).clip(min=0)
        iou = shared / (width + width[best] - shared)
        threshold = overlap[0] + (overlap[1] - overlap[0]) * width[best] / length
        near = np.flatnonzero(iou > threshold)
        left[near] *= np.exp(-np.square(iou[near]) / sigma)
        left[best] = -1.0
    rows, lowered = np.array(taken, dtype=np.int64), np.array(values, dtype=np.float64)
    order = np.argsort(-lowered, kind="stable")[:keep]
    return rows[order], lowered[order]
