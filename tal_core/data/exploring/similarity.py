"""Which videos are alike, by their mean features: neighbours, duplicates, leaks between subsets, outliers.

Alike is the cosine of two mean vectors after the mean over all videos is taken off: what all videos share
(features after a ReLU all point the same way) then says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tal_core.data.exploring.pooling import PooledFeatures
from tal_core.types import InputError, Progress

NEAR_DUPLICATE = 0.99
"""Cosine from which two videos count as near-duplicates."""
ODD = 6.0
"""Robust standard deviations beyond which a vector is an outlier."""
FEWEST = 8
"""Vectors that a class needs to have a centre."""

_ROWS = 1024
_SCREEN = 64
_MOST_PAIRS = 200_000
_ROUNDING = 2e-3  # centred vectors shorter than this are what float16 left of nothing


def similar_videos(pooled: PooledFeatures, video_id: str, count: int = 10) -> pd.DataFrame:
    """The ``count`` videos most like one: ``video_id, similarity`` (cosine, -1 to 1), most alike first.

    Raises:
        InputError: if the video has no mean features.
    """
    if video_id not in pooled.videos:
        raise InputError("its features can't be compared", where=f"video {video_id}")
    own = pooled.videos.index(video_id)
    centre = _centre(pooled.directions)
    vector = _unit(pooled.directions[own : own + 1], centre)[0]
    cosines = np.concatenate([_unit(rows, centre) @ vector for _, rows in _blocks(pooled.directions)])
    cosines[_same_as(pooled, own)] = 1.0  # also where nothing is left to compare: all videos alike
    cosines[own] = -np.inf
    order = np.argsort(-cosines, kind="stable")[: min(count, len(cosines) - 1)]
    names = [pooled.videos[place] for place in order]
    return pd.DataFrame({"video_id": names, "similarity": np.clip(cosines[order], -1, 1).astype(np.float64)})


def duplicates(
    pooled: PooledFeatures, threshold: float = NEAR_DUPLICATE, progress: Progress | None = None
) -> pd.DataFrame:
    """Groups of videos whose mean features are alike: ``group, video_id, similarity, identical``.

    Each row's ``similarity`` is its highest to another video of the group; ``identical``: the mean vectors
    are the same to the last bit. Groups are chains: any two neighbours reach ``threshold``. All-zero
    features are left out (they are outliers). Most alike first.

    Raises:
        InputError: if far too many pairs reach ``threshold``.
    """
    first = _first_of_same(pooled)
    alive = pooled.norms > 0
    unique = np.flatnonzero((first == np.arange(len(first))) & alive)
    again = np.flatnonzero((first != np.arange(len(first))) & alive)
    left, right, cosines = _near_pairs(pooled.directions, unique, threshold, progress)
    left = np.concatenate([first[again], left])
    right = np.concatenate([again, right])
    cosines = np.concatenate([np.ones(len(again)), cosines])
    best = np.zeros(len(first))
    np.maximum.at(best, left, cosines)
    np.maximum.at(best, right, cosines)
    identical = np.zeros(len(first), bool)
    identical[again] = identical[first[again]] = True
    members = np.unique(np.concatenate([left, right]))
    table = pd.DataFrame(
        {
            "group": _chained(left, right, len(first))[members],
            "video_id": [pooled.videos[place] for place in members],
            "similarity": best[members],
            "identical": identical[members],
        }
    )
    return _order_groups(table)


def leaks(groups: pd.DataFrame, subsets: pd.Series, training: str, evaluation: str) -> pd.DataFrame:
    """The groups of ``duplicates`` that hold both training and evaluation videos, with their ``subset``.

    ``subsets``: by video_id. Such evaluation videos were, in effect, trained on.
    """
    table = groups.assign(subset=groups["video_id"].map(subsets).fillna("").astype("str"))
    if training == evaluation:
        return table.iloc[:0]
    found = [
        table["group"].isin(table.loc[table["subset"] == name, "group"]) for name in (training, evaluation)
    ]
    return table[found[0] & found[1]].reset_index(drop=True)


def outliers(
    vectors: np.ndarray, labels: Sequence[str] | np.ndarray, norms: np.ndarray | None = None
) -> pd.DataFrame:
    """How odd each of ``(N, D)`` vectors is: ``deviation`` and ``reason``, ``""`` where it isn't.

    Two tests, both in robust standard deviations (1.4826 times the median absolute deviation): the distance
    of the direction to the centre of its class, within classes of ``FEWEST`` vectors or more (label ``""``:
    of no class), and the logarithm of the norm, over all. ``norms`` (N,): of vectors that are directions
    already.
    """
    labels = np.asarray(labels, object)
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1) if norms is None else np.asarray(norms)
    alive = norms > 0
    deviation, reason = np.zeros(len(vectors)), np.full(len(vectors), "", object)
    for label in pd.unique(labels[alive]):
        members = np.flatnonzero((labels == label) & alive)
        if not label or len(members) < FEWEST:
            continue
        rows = vectors[members].astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        deviation[members] = _deviations(np.linalg.norm(rows - rows.mean(axis=0), axis=1))
    far = deviation > ODD
    reason[far] = [f"far from the other “{label}”" for label in labels[far]]
    if alive.sum() >= FEWEST:
        size = np.zeros(len(vectors))
        size[alive] = _deviations(np.log(norms[alive]))
        usual = np.median(norms[alive])
        odd = (np.abs(size) > ODD) & (np.abs(size) > deviation)
        reason[odd] = [f"feature norm {norm:.3g}, usually {usual:.3g}" for norm in norms[odd]]
        deviation = np.where(odd, np.abs(size), deviation)
    reason[~alive], deviation[~alive] = "all features are zero", np.inf
    return pd.DataFrame({"deviation": deviation, "reason": reason.astype(str)})


# --- inside -------------------------------------------------------------------------------------------


def _blocks(directions: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Start and rows of each stretch of ``_ROWS`` vectors."""
    for start in range(0, len(directions), _ROWS):
        yield start, directions[start : start + _ROWS]


def _centre(directions: np.ndarray) -> np.ndarray:
    """Mean direction (D,) float32."""
    total = np.zeros(directions.shape[1])
    for _, rows in _blocks(directions):
        total += rows.sum(axis=0, dtype=np.float64)
    return (total / max(1, len(directions))).astype(np.float32)


def _unit(rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Vectors less the centre, scaled to length 1; float32, 0 where nothing but rounding is left."""
    rows = rows.astype(np.float32) - centre
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > _ROUNDING, rows / np.maximum(length, 1e-12), 0)


def _same_as(pooled: PooledFeatures, own: int) -> np.ndarray:
    """Which videos (V,) have the same mean vector as video ``own``."""
    return (pooled.norms == pooled.norms[own]) & (pooled.directions == pooled.directions[own]).all(axis=1)


def _first_of_same(pooled: PooledFeatures) -> np.ndarray:
    """For each video (V,) the first one with the same mean vector, itself if there is none before."""
    seen: dict[bytes, int] = {}
    rows = zip(pooled.directions, pooled.norms, strict=True)
    places = [
        seen.setdefault(row.tobytes() + norm.tobytes(), place) for place, (row, norm) in enumerate(rows)
    ]
    return np.array(places, np.int64)


def _near_pairs(
    directions: np.ndarray, places: np.ndarray, threshold: float, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of ``places`` with a cosine of at least ``threshold``: left, right, cosine.

    Unit vectors of cosine c are sqrt(2 - 2c) apart, and no projection on orthonormal directions moves them
    further apart: so pairs are screened in ``_SCREEN`` dimensions, without missing one, and only those that
    pass are compared in all. ``a.b - a.a/2 - b.b/2 >= c - 1`` is one matrix product over ``[a, -a.a/2, 1]``.
    """
    centre = _centre(directions)
    basis = _basis(directions, centre)
    flat = np.concatenate(
        [np.zeros((0, basis.shape[1]), np.float32)]
        + [_unit(directions[places[s : s + _ROWS]], centre) @ basis for s in range(0, len(places), _ROWS)]
    )
    half = -(flat**2).sum(axis=1, keepdims=True) / 2
    ones = np.ones_like(half)
    left_side, right_side = np.hstack([flat, half, ones]), np.hstack([flat, ones, half])
    found = [np.zeros((0, 3))]
    for start in range(0, len(places), _ROWS):
        close = left_side[start : start + _ROWS] @ right_side[start:].T >= threshold - 1 - 1e-5
        pairs = places[start + np.stack(np.nonzero(np.triu(close, k=1)))]
        for part in range(0, pairs.shape[1], _ROWS):
            found.append(_reaching(directions, pairs[:, part : part + _ROWS], centre, threshold))
            if sum(map(len, found)) > _MOST_PAIRS:
                raise InputError(
                    f"more than {_MOST_PAIRS} pairs of videos have a similarity of {threshold:g} or more",
                    hint="Ask for a higher similarity.",
                )
        if progress:
            progress(min(start + _ROWS, len(places)), len(places), "comparing all videos")
    left, right, cosines = np.concatenate(found).T
    return left.astype(np.int64), right.astype(np.int64), cosines


def _reaching(directions: np.ndarray, pairs: np.ndarray, centre: np.ndarray, threshold: float) -> np.ndarray:
    """Of pairs (2, N) of places those whose cosine reaches ``threshold``, with it: (M, 3)."""
    cosines = (_unit(directions[pairs[0]], centre) * _unit(directions[pairs[1]], centre)).sum(axis=1)
    keep = cosines >= threshold
    return np.stack([*pairs[:, keep].astype(np.float64), np.minimum(cosines[keep], 1.0)], axis=1)


def _basis(directions: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Orthonormal directions (D, at most ``_SCREEN``) in which the videos vary much: a randomised range
    finder over a sample of them."""
    generator = np.random.default_rng(0)
    rows = generator.choice(len(directions), min(2048, len(directions)), replace=False)
    sample = _unit(directions[np.sort(rows)], centre)
    width = min(_SCREEN, *sample.shape)
    mix = sample.T @ (sample @ generator.standard_normal((sample.shape[1], width)).astype(np.float32))
    return np.linalg.qr(mix)[0].astype(np.float32)


def _chained(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """The smallest place of each one's chain (count,), from pairs of neighbours."""
    root = list(range(count))

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        low, high = sorted((find(one), find(other)))
        root[high] = low
    return np.array([find(place) for place in range(count)], np.int64)


def _order_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Groups by falling similarity, numbered from 1."""
    strength = table.groupby("group")["similarity"].transform("max")
    order = table.assign(strength=strength).sort_values(
        ["strength", "group", "video_id"], ascending=[False, True, True], kind="stable"
    )
    order["group"] = pd.factorize(order["group"])[0] + 1
    return order.drop(columns="strength").reset_index(drop=True)


def _deviations(values: np.ndarray) -> np.ndarray:
    """Values (N,) as robust standard deviations from their median."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    # Where more than half are equal the rest isn't infinitely odd: a spread of at least 1 % of the value.
    return (values - middle) / max(spread, 0.01 * abs(middle), 1e-6)
