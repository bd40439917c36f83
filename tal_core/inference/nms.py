"""Non-maximum suppression of scored segments: hard, soft (Gaussian or linear), per class or over all classes.

Numerically the batched 1-D NMS of ActionFormer (Zhang et al., ECCV 2022), which TemporalMaxer and TriDet
share, with the segment voting of both; soft-NMS is Bodla et al., ICCV 2017. All in float32, as there.

A group (a video, or a class in a video) is suppressed on its own, so all groups advance together: each step
picks the best remaining segment of every group and lowers or removes what overlaps it, in whole-array
operations. No step waits for another group, and segments that can no longer be among a video's best
``max_segments`` leave early: a pick only ever affects later picks, which score no better than it did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tal_core.types import InputError

NMS_KINDS = ("none", "hard", "soft", "linear")
VOTING_WEIGHTS = ("score_times_iou", "score")
_REMOVED = np.float32(-np.inf)


@dataclass(frozen=True)
class Suppression:
    """How overlapping segments are thinned out.

    ``kind``: ``hard`` removes what overlaps a better segment by ``iou_threshold`` or more; ``soft``
    multiplies its score by ``exp(-IoU² / sigma)``; ``linear`` by ``1 - IoU`` from ``iou_threshold`` on.
    ``min_score``: ``none`` and ``hard`` keep only scores above it, ``soft`` and ``linear`` drop what has
    fallen below it, though never the first segment of a group. ``max_segments``: the best so many of each
    video, 0 for all. ``per_class``: segments of different classes leave each other alone.
    ``voting_threshold``: above 0, and not per class, a kept segment becomes the weighted mean of all input
    segments of its video with at least this IoU; ``voting_weights`` is ``score_times_iou`` (ActionFormer)
    or ``score`` (TriDet).
    """

    kind: str = "soft"
    iou_threshold: float = 0.5
    sigma: float = 0.5
    min_score: float = 0.001
    max_segments: int = 200
    per_class: bool = True
    voting_threshold: float = 0.0
    voting_weights: str = "score_times_iou"

    def __post_init__(self):
        for name, value, choices in (
            ("NMS kind", self.kind, NMS_KINDS),
            ("voting weights", self.voting_weights, VOTING_WEIGHTS),
        ):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}", mend=f"Use one of {', '.join(choices)}")
        if not self.sigma > 0:
            raise InputError(f"soft-NMS sigma is {self.sigma:g}", mend="Give a number above 0")


@dataclass(frozen=True)
class Kept:
    """What suppression left, by video, then descending score.

    ``index`` ``(M,)``: rows of the input; ``segments`` ``(M, 2)`` float32, moved by voting or as they were;
    ``scores`` ``(M,)`` float32, lowered by soft-NMS or as they were.
    """

    index: np.ndarray
    segments: np.ndarray
    scores: np.ndarray


def suppress(
    segments: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    settings: Suppression,
    videos: np.ndarray | None = None,
) -> Kept:
    """Thins out the candidates of one video, or of many at once.

    ``segments`` ``(N, 2)`` in any one unit of time, ``scores`` ``(N,)``, ``labels`` ``(N,)`` class indices,
    ``videos`` ``(N,)`` which video each row belongs to (ascending numbers decide the order of the output).
    Among equal scores the earlier row goes first. Raises `InputError` on NaN or infinite numbers.
    """
    segments = np.ascontiguousarray(segments, np.float32).reshape(-1, 2)
    scores = np.ascontiguousarray(scores, np.float32)
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        raise InputError(
            "candidates have NaN or infinite times or scores", mend="Check the network's output and features"
        )
    labels = np.asarray(labels, np.int64)
    video = np.zeros(len(scores), np.int64)
    if videos is not None and len(scores):
        video = np.unique(videos, return_inverse=True)[1]
    minimum = np.float32(settings.min_score)
    if settings.kind in ("none", "hard") and minimum > 0:
        rows = np.flatnonzero(scores > minimum)
    else:
        rows = np.arange(len(scores))
    picked, picked_scores = rows, scores[rows]
    if settings.kind != "none" and len(rows):
        picked, picked_scores = _pick(segments, scores, labels, video, rows, settings)
    picked, picked_scores = _best_of_each(picked, picked_scores, labels, video, settings.max_segments)
    kept = segments[picked]
    if settings.voting_threshold > 0 and not settings.per_class:
        kept = _vote(kept, video[picked], segments, scores, video, settings)
    return Kept(picked, kept, picked_scores)


def _pick(segments, scores, labels, video, rows, settings) -> tuple[np.ndarray, np.ndarray]:
    """Runs every group to its end. Input rows in the order they were picked, and their scores then."""
    group = video[rows]
    if settings.per_class:
        group = group * (labels.max() + 1) + labels[rows]
    rows = rows[np.lexsort((-scores[rows], group))]  # stable: equal scores stay in the order of the input
    pool = _Pool(segments[rows], scores[rows], video[rows], group=np.sort(group), rows=rows)
    if settings.kind != "hard":
        pool.remove_below(np.float32(settings.min_score))
    picked, picked_scores = [], []
    step, next_check = 0, 1
    while True:
        best, best_scores = pool.take_best()
        if not best.size:
            return np.concatenate(picked), np.concatenate(picked_scores)
        picked.append(pool.rows[best])
        picked_scores.append(best_scores)
        pool.lower_neighbours(best, settings)
        step += 1
        if step == next_check:
            next_check *= 2
            if settings.max_segments > 0:
                in_reach = _kth_best(
                    np.concatenate(picked), np.concatenate(picked_scores), video, settings.max_segments
                )
                pool.remove_out_of_reach(in_reach)
        pool.compact()


class _Pool:
    """The remaining segments of all groups, in group order; removed ones have the score -inf."""

    def __init__(self, segments, scores, video, *, group, rows):
        self.start, self.end = np.ascontiguousarray(segments[:, 0]), np.ascontiguousarray(segments[:, 1])
        self.area = self.end - self.start + np.float32(1e-6)
        self.score, self.video, self.rows = scores, video, rows
        self.group = np.cumsum(np.r_[False, group[1:] != group[:-1]])
        self.first = np.searchsorted(self.group, np.arange(self.group[-1] + 1))

    def take_best(self) -> tuple[np.ndarray, np.ndarray]:
        """Removes the best segment of every group. Their positions and scores."""
        if not self.score.size:
            return np.empty(0, int), np.empty(0, np.float32)
        best = np.maximum.reduceat(self.score, self.first)
        position = np.flatnonzero(self.score == best[self.group])
        group = self.group[position]
        leading = np.r_[True, group[1:] != group[:-1]] & (best[group] > _REMOVED)
        position = position[leading]
        scores = self.score[position]
        self.score[position] = _REMOVED
        return position, scores

    def lower_neighbours(self, best: np.ndarray, settings: Suppression) -> None:
        """Lowers or removes what overlaps the segments just taken, at most one of each group."""
        last_start = np.full(len(self.first), np.inf, np.float32)  # a group that is used up overlaps nothing
        last_end, last_area = np.full_like(last_start, -np.inf), np.ones_like(last_start)
        of = self.group[best]
        last_start[of], last_end[of], last_area[of] = self.start[best], self.end[best], self.area[best]
        shared = np.minimum(self.end, last_end[self.group]) - np.maximum(self.start, last_start[self.group])
        near = np.flatnonzero((shared > 0) & (self.score > _REMOVED))
        shared = shared[near]
        iou = shared / (last_area[self.group[near]] + self.area[near] - shared)
        threshold = np.float32(settings.iou_threshold)
        if settings.kind == "hard":
            self.score[near[iou >= threshold]] = _REMOVED
            return
        if settings.kind == "soft":
            lowered = self.score[near] * np.exp(-(iou * iou) / np.float32(settings.sigma))
        else:
            lowered = self.score[near] * np.where(iou >= threshold, 1 - iou, np.float32(1))
        self.score[near] = np.where(lowered < np.float32(settings.min_score), _REMOVED, lowered)

    def remove_below(self, minimum: np.float32) -> None:
        """Removes low scores, but never the best of a group: the first pick is not compared with it."""
        low = self.score < minimum
        low[self.first] = False  # groups begin with their best
        self.score[low] = _REMOVED

    def remove_out_of_reach(self, in_reach: np.ndarray) -> None:
        """Removes scores below their video's limit ``(V,)``."""
        self.score[self.score < in_reach[self.video]] = _REMOVED

    def compact(self) -> None:
        """Forgets removed segments once they are a quarter of all."""
        left = self.score > _REMOVED
        count = np.count_nonzero(left)
        if count > 0.75 * len(left):
            return
        for name in ("start", "end", "area", "score", "video", "rows", "group"):
            setattr(self, name, getattr(self, name)[left])
        if count:
            changes = np.r_[True, self.group[1:] != self.group[:-1]]
            self.first = np.flatnonzero(changes)
            self.group = np.cumsum(changes) - 1


def _kth_best(picked: np.ndarray, scores: np.ndarray, video: np.ndarray, count: int) -> np.ndarray:
    """The score of each video's ``count``-th best pick so far, -inf where there are fewer; ``(V,)``."""
    limit = np.full(video.max() + 1, _REMOVED)
    order = np.lexsort((-scores, video[picked]))
    of = video[picked][order]
    first = np.searchsorted(of, np.arange(len(limit) + 1))
    full = np.flatnonzero(np.diff(first) >= count)
    limit[full] = scores[order[first[full] + count - 1]]
    return limit


def _best_of_each(
    picked: np.ndarray, scores: np.ndarray, labels: np.ndarray, video: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts by video and descending score (equal: by class, then as picked); cuts each video to ``count``."""
    order = np.lexsort((labels[picked], -scores, video[picked]))
    picked, scores = picked[order], scores[order]
    if count > 0:
        of = video[picked]
        rank = np.arange(len(of)) - np.searchsorted(of, of)
        picked, scores = picked[rank < count], scores[rank < count]
    return picked, scores


def _vote(kept, kept_video, segments, scores, video, settings) -> np.ndarray:
    """Weighted mean of all segments of the video that overlap each kept one; ``(M, 2)`` float32."""
    moved = kept.copy()
    order = np.argsort(video, kind="stable")
    edges = np.searchsorted(video[order], np.arange(kept_video.max(initial=-1) + 2))
    for number in np.unique(kept_video):
        mine = np.flatnonzero(kept_video == number)
        others = order[edges[number] : edges[number + 1]]
        moved[mine] = _vote_one(kept[mine], segments[others], scores[others], settings)
    return moved


def _vote_one(kept, segments, scores, settings) -> np.ndarray:
    shared = np.minimum(kept[:, None, 1], segments[:, 1]) - np.maximum(kept[:, None, 0], segments[:, 0])
    shared = np.maximum(shared, 0)
    union = (kept[:, 1] - kept[:, 0])[:, None] + (segments[:, 1] - segments[:, 0]) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    weights = np.where(iou >= np.float32(settings.voting_threshold), scores, 0)
    if settings.voting_weights == "score_times_iou":
        weights = weights * iou
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights @ segments, total, out=kept.copy(), where=total > 0)
