"""Non-maximum suppression of scored segments: hard, soft (Gaussian or linear), per class or over all classes.

Numerically the batched 1-D NMS of ActionFormer (Zhang et al., ECCV 2022), which TemporalMaxer and TriDet
share, with the segment voting of both; soft-NMS is Bodla et al., ICCV 2017. All in float32, as there.

By definition, segments are picked one at a time: the best that is left, which then removes what overlaps it
or lowers its score. Scores only fall, so whatever beats all that it overlaps can be picked at once. Hence
whole-array steps that take all groups (a video, or a class in a video) forward together:

* A phase looks at the leaders, the segments whose scores are close to their video's best. Its rounds pick
  those that beat every leader they overlap and lower the others, until each leader is picked or has fallen
  behind. Only then do the picks lower the many that were never close.
* Later phases pick lower scores, so a video that has its ``max_detections`` is done.
* In order of the starts, what begins within a segment follows it without a gap. All overlapping pairs are
  found by counting, and no others are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from tal_core.types import InputError

NMS_KINDS = ("none", "hard", "soft", "linear")
VOTING_WEIGHTS = ("score_times_iou", "score")
_REMOVED = np.float32(-np.inf)
_LOWEST = np.nextafter(_REMOVED, np.float32(0))

# Chosen by measurement, for speed and memory only.
_CLOSE = np.float32(0.6)  # a leader's score is at least this share of its video's best
_CLOSER = np.float32(0.8)  # the same where else about _MANY_PAIRS leaders a video would overlap
_MANY_PAIRS = 8192
_FEW_PAIRS = 1024  # all segments of a video with at most so many overlapping pairs are leaders
_BLOCK_PAIRS = 1 << 22  # so many overlapping pairs, or one video, are worked on together


@dataclass(frozen=True)
class Suppression:
    """How overlapping segments are thinned out; the fields are those settings of a method's config.

    ``nms``: ``hard`` removes what overlaps a better segment by ``nms_threshold`` or more; ``soft``
    multiplies its score by ``exp(-IoU² / nms_sigma)``; ``linear`` by ``1 - IoU`` from ``nms_threshold`` on.
    ``min_score``: ``none`` and ``hard`` keep only scores above it, ``soft`` and ``linear`` drop what has
    fallen below it, though never the first segment of a group. ``max_detections``: the best so many of each
    video, 0 for all. ``nms_per_class``: segments of different classes leave each other alone.
    ``voting_threshold``: above 0, and not per class, a kept segment becomes the weighted mean of all input
    segments of its video with at least this IoU; ``voting_weights`` is ``score_times_iou`` (ActionFormer)
    or ``score`` (TriDet).
    """

    nms: str = "soft"
    nms_threshold: float = 0.5
    nms_sigma: float = 0.5
    nms_per_class: bool = True
    voting_threshold: float = 0.0
    voting_weights: str = "score_times_iou"
    min_score: float = 0.001
    max_detections: int = 200

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("NMS kind", self.nms, NMS_KINDS),
            ("voting weights", self.voting_weights, VOTING_WEIGHTS),
        ):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}", hint=f"Use one of {', '.join(choices)}")
        if not self.nms_sigma > 0:
            raise InputError(f"soft-NMS sigma is {self.nms_sigma:g}", hint="Give a number above 0")


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
            "candidates have NaN or infinite times or scores", hint="Check the network's output and features"
        )
    labels = np.asarray(labels, np.int64)
    video = np.zeros(len(scores), np.int64)
    if videos is not None and len(scores):
        video = np.unique(videos, return_inverse=True)[1]
    minimum = np.float32(settings.min_score)
    if settings.nms in ("none", "hard") and minimum > 0:
        rows = np.flatnonzero(scores > minimum)
    else:
        rows = np.arange(len(scores))
    picked, picked_scores = rows, scores[rows]
    if settings.nms != "none" and len(rows):
        picked, picked_scores = _pick(segments, scores, labels, video, rows, settings)
    picked, picked_scores = _best_of_each(picked, picked_scores, labels, video, settings.max_detections)
    kept = segments[picked]
    if settings.voting_threshold > 0 and not settings.nms_per_class:
        kept = _vote(kept, video[picked], segments, scores, video, settings)
    return Kept(picked, kept, picked_scores)


def _pick(
    segments: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    video: np.ndarray,
    rows: np.ndarray,
    settings: Suppression,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs every group to its end. The rows picked, in no order, and their scores when picked."""
    group = video[rows]
    if settings.nms_per_class:
        classes = labels[rows] - labels.min()
        group = group * (classes.max() + 1) + classes
    minimum = _REMOVED if settings.nms == "hard" else np.float32(settings.min_score)
    pool = _Pool.of(segments[rows], scores[rows], group, video[rows], rows, minimum)
    picked = [part for block in pool.blocks() for part in _phases(block, settings)]
    return np.concatenate([rows for rows, _ in picked]), np.concatenate([scores for _, scores in picked])


def _phases(pool: _Pool, settings: Suppression) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows picked in each phase, and their scores."""
    count = np.zeros(pool.video[-1] + 1, int)  # of picks, by video
    while len(pool.score):
        leaders, limit = pool.leaders()
        final = _settle(pool, leaders, limit, settings)
        done = final > _REMOVED
        picked, final = leaders[done], final[done]
        yield pool.row[picked], final
        count += np.bincount(pool.video[picked], minlength=len(count))
        _lower_others(pool, picked, settings)
        left = pool.score > _REMOVED
        if settings.max_detections > 0:
            left &= (count < settings.max_detections)[pool.video]
        pool = pool.only(np.flatnonzero(left))


def _settle(pool: _Pool, leaders: np.ndarray, limit: np.ndarray, settings: Suppression) -> np.ndarray:
    """Suppresses the leaders among each other down to their ``limit``. Their scores, -inf if not picked."""
    score, waiting = pool.score[leaders], np.ones(len(leaders), bool)
    first, second = pool.overlapping(leaders, leaders)
    loss = pool.loss(leaders[first], leaders[second], settings)
    late = pool.row[leaders[first]] > pool.row[leaders[second]]  # of equal scores the earlier row goes first
    first, second = np.where(late, second, first), np.where(late, first, second)
    first, second, loss = first[loss > 0], second[loss > 0], loss[loss > 0]
    while len(first):
        winner = np.where(score[first] >= score[second], first, second)
        loser = first + second - winner
        free = waiting.copy()
        free[loser] = False
        hit = free[winner]
        score = _lowered(score, np.bincount(loser[hit], loss[hit], len(score)), settings)
        fallen = waiting & (score < limit)
        score[fallen] = _REMOVED
        waiting &= ~(free | fallen)
        open_pairs = waiting[first] & waiting[second]
        first, second, loss = first[open_pairs], second[open_pairs], loss[open_pairs]
    return score


def _lower_others(pool: _Pool, picked: np.ndarray, settings: Suppression) -> None:
    """Takes the picked out of the pool and lowers or removes what they overlap."""
    pool.score[picked] = _REMOVED
    others = np.flatnonzero(pool.score > _REMOVED)
    before, pick_of_before = pool.overlapping(others, picked)
    pick_of_after, after = pool.overlapping(picked, others)
    loss_before = pool.loss(others[before], picked[pick_of_before], settings)
    loss_after = pool.loss(picked[pick_of_after], others[after], settings)
    lost = np.bincount(
        np.concatenate([before, after]), np.concatenate([loss_before, loss_after]), len(others)
    )
    pool.score[others] = _lowered(pool.score[others], lost, settings)


def _lowered(score: np.ndarray, loss: np.ndarray, settings: Suppression) -> np.ndarray:
    """Scores times ``exp(-loss)``, -inf where a loss above 0 removes a segment."""
    if settings.nms == "hard":
        return np.where(loss > 0, _REMOVED, score)
    lowered = score * np.exp(-loss).astype(np.float32)
    return np.where((loss > 0) & (lowered < np.float32(settings.min_score)), _REMOVED, lowered)


@dataclass(frozen=True)
class _Pool:
    """Remaining segments, by group, then start; all arrays ``(N,)``.

    ``score`` is -inf once removed. ``video`` ascends. ``row``: position in the input. ``reach``: how many
    positions begin before the segment's end, those of earlier groups included. What it overlaps and starts
    no earlier is therefore at the positions between its own and its ``reach``.
    """

    start: np.ndarray
    end: np.ndarray
    area: np.ndarray
    score: np.ndarray
    video: np.ndarray
    row: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(
        cls,
        segments: np.ndarray,
        scores: np.ndarray,
        group: np.ndarray,
        video: np.ndarray,
        rows: np.ndarray,
        minimum: np.float32,
    ) -> _Pool:
        """All segments that ``minimum`` leaves."""
        first, last = float(segments.min()), float(segments.max())
        begin = group * (last - first + 1) + (segments[:, 0].astype(np.float64) - first)
        order = np.argsort(begin)
        kept = order[~_low(scores[order], group[order], rows[order], minimum)]
        start, end = np.ascontiguousarray(segments[kept].T)
        finish = group[kept] * (last - first + 1) + (end.astype(np.float64) - first)
        reach = np.searchsorted(begin[kept], finish)
        area = end - start + np.float32(1e-6)
        return cls(start, end, area, scores[kept], video[kept], rows[kept], reach)

    def only(self, positions: np.ndarray) -> _Pool:
        """The pool of ascending positions."""
        columns = {field.name: getattr(self, field.name)[positions] for field in fields(self)}
        columns["reach"] = self._count_before(positions)[columns["reach"]]
        return _Pool(**columns)

    def blocks(self) -> Iterator[_Pool]:
        """Pools of whole videos."""
        first = _first_of_each(self.video)
        pairs = np.add.reduceat(self._followers(), first)
        block = (np.cumsum(pairs) - pairs) // _BLOCK_PAIRS
        edges = np.append(first[_first_of_each(block)], len(self.video))
        for begin, end in itertools.pairwise(edges):
            yield self.only(np.arange(begin, end)) if len(edges) > 2 else self

    def leaders(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions whose scores are close to the best of their video, and the limit of each."""
        first = _first_of_each(self.video)
        best = np.maximum.reduceat(self.score, first)
        pairs = np.add.reduceat(self._followers(), first)
        count = np.diff(first, append=len(self.score))
        for share in (_CLOSE, _CLOSER):
            limit = np.where(pairs <= _FEW_PAIRS, _LOWEST, np.minimum(best, best * share))
            limit = np.repeat(limit, count)
            positions = np.flatnonzero(self.score >= limit)
            if pairs.sum() * (len(positions) / len(self.score)) ** 2 <= _MANY_PAIRS * len(first):
                break
        return positions, limit[positions]

    def overlapping(self, earlier: np.ndarray, later: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of positions of which the second overlaps the first and starts no earlier.

        Both lists ascend; what is returned points into them.
        """
        before = self._count_before(later)
        begin = before[earlier + 1]
        count = np.maximum(before[self.reach[earlier]] - begin, 0)
        place = np.arange(count.sum()) + np.repeat(begin - np.cumsum(count) + count, count)
        return np.repeat(np.arange(len(earlier)), count), place

    def loss(self, first: np.ndarray, second: np.ndarray, settings: Suppression) -> np.ndarray:
        """What a pick costs an overlapping segment, as minus the logarithm of the factor of its score.

        ``second`` starts no earlier than ``first``.
        """
        shared = np.minimum(self.end[first], self.end[second]) - self.start[second]
        shared = np.maximum(shared, 0)
        iou = shared / (self.area[first] + self.area[second] - shared)
        if settings.nms == "soft":
            return iou * iou / np.float32(settings.nms_sigma)
        reached = iou >= np.float32(settings.nms_threshold)
        if settings.nms == "hard":
            return reached.astype(np.float32)
        with np.errstate(divide="ignore"):
            return np.where(reached, -np.log1p(-np.minimum(iou, 1)), 0)

    def _followers(self) -> np.ndarray:
        """How many each overlaps that start no earlier."""
        return np.maximum(self.reach - np.arange(1, len(self.reach) + 1), 0)

    def _count_before(self, positions: np.ndarray) -> np.ndarray:
        """How many of ``positions`` lie before each position; ``(N + 1,)``."""
        count = np.zeros(len(self.score) + 1, np.int64)
        count[positions + 1] = 1
        return np.cumsum(count, out=count)


def _low(scores: np.ndarray, group: np.ndarray, rows: np.ndarray, minimum: np.float32) -> np.ndarray:
    """Which scores are below the minimum, except a group's best: its first pick is not compared with it."""
    low = scores < minimum
    first = _first_of_each(group)
    best = np.repeat(np.maximum.reduceat(scores, first), np.diff(first, append=len(group)))
    spared = np.flatnonzero(low & (scores == best))
    spared = spared[np.argsort(rows[spared])]
    low[spared[np.unique(group[spared], return_index=True)[1]]] = False
    return low


def _first_of_each(values: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))


def _best_of_each(
    picked: np.ndarray, scores: np.ndarray, labels: np.ndarray, video: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts by video and descending score (equal: by class, then row); cuts each video to ``count``."""
    bits = (scores + np.float32(0)).view(np.int32)  # without -0, integers in the order of the scores
    key = (video[picked] << 32) - np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    order = np.argsort(key)
    if (np.diff(key[order]) == 0).any():
        order = np.lexsort((picked, labels[picked], key))
    picked, scores = picked[order], scores[order]
    if count > 0 and len(picked):
        first = _first_of_each(video[picked])
        rank = np.arange(len(picked)) - np.repeat(first, np.diff(first, append=len(picked)))
        picked, scores = picked[rank < count], scores[rank < count]
    return picked, scores


def _vote(
    kept: np.ndarray,
    kept_video: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    video: np.ndarray,
    settings: Suppression,
) -> np.ndarray:
    """Weighted mean of all segments of the video that overlap each kept one; ``(M, 2)`` float32.

    A tIoU of at least t needs a start within ``[end - length / t, end - t * length]`` of the kept segment: in
    order of the starts only that stretch is looked at.
    """
    length = (kept[:, 1] - kept[:, 0]).astype(np.float64)
    share = settings.voting_threshold
    first = float(segments[:, 0].min(initial=0))
    # Videos lie one after the other, further apart than any stretch reaches.
    apart = float(segments.max(initial=0)) - first + float(length.max(initial=0)) / share + 1
    begin = video * apart + (segments[:, 0].astype(np.float64) - first)
    order = np.argsort(begin)
    begin = begin[order]
    end = kept_video * apart + (kept[:, 1].astype(np.float64) - first)
    slack = 1e-6 * (1 + np.abs(segments).max(initial=0)) / share  # tIoUs are rounded to float32
    low = np.searchsorted(begin, end - length / share - slack)
    count = np.maximum(np.searchsorted(begin, end - share * length + slack) - low, 0)
    moved = kept.copy()
    block = np.cumsum(count) // _BLOCK_PAIRS
    for one in np.split(np.arange(len(kept)), np.flatnonzero(np.diff(block)) + 1):
        place = np.arange(count[one].sum()) + np.repeat(
            low[one] - np.cumsum(count[one]) + count[one], count[one]
        )
        moved[one] = _mean_of(kept[one], count[one], segments, scores, order[place], settings)
    return moved


def _mean_of(
    kept: np.ndarray,
    count: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    others: np.ndarray,
    settings: Suppression,
) -> np.ndarray:
    """Votes of ``others`` (rows): ``count`` of them, one after the other, for each kept segment."""
    owner = np.repeat(np.arange(len(kept)), count)
    begin, end = kept[owner].T
    other_begin, other_end = segments[others].T
    shared = np.maximum(np.minimum(end, other_end) - np.maximum(begin, other_begin), 0)
    union = (end - begin) + (other_end - other_begin) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    votes = np.flatnonzero(iou >= np.float32(settings.voting_threshold))
    owner, others = owner[votes], others[votes]
    weight = scores[others] * iou[votes] if settings.voting_weights == "score_times_iou" else scores[others]
    total = np.bincount(owner, weight, len(kept))
    sums = [np.bincount(owner, weight * times, len(kept)) for times in segments[others].T]
    return np.divide(
        np.stack(sums, axis=1), total[:, None], out=kept.astype(np.float64), where=total[:, None] > 0
    )
