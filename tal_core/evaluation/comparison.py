"""Two runs on the same videos: where one is better, what only one found, and how sure the difference is.

Differences are always second minus first: above zero the second run is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tal_core.evaluation.average_precision import Ranking, rank
from tal_core.evaluation.matching import positions
from tal_core.evaluation.result import Evaluation
from tal_core.segments import temporal_iou
from tal_core.types import InputError, Progress

DRAWS = 1000
"""Resamples of a bootstrap: enough for a 95 % interval that moves little with the seed."""

_CELLS_AT_ONCE = 1 << 17
"""Detections times resamples worked on at a time, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class Side:
    """One run, matched with the annotations of V videos at K thresholds.

    Of the ranked detections: ``video`` ``(N,)`` position in ``videos``, -1 for one of another video, and
    ``segments`` ``(N, 2)`` in seconds.
    """

    ranking: Ranking
    videos: pd.Index
    video: np.ndarray
    segments: np.ndarray

    @cached_property
    def truth_video(self) -> np.ndarray:
        """``(G,)`` position in ``videos`` of every annotation."""
        return positions(self.videos, self.ranking.truth["video_id"])

    @cached_property
    def cuts(self) -> tuple[np.ndarray, np.ndarray]:
        """The score with the best F1 at each threshold, over the detections in ``videos``, and that F1."""
        inside = np.flatnonzero(self.video >= 0)
        order = inside[np.argsort(-self.ranking.score[inside], kind="stable")]
        best = [
            best_f1(self.ranking.score[order], hit[order], len(self.ranking.truth))
            for hit in self.ranking.hit
        ]
        return np.array([score for score, _ in best]), np.array([f1 for _, f1 in best])

    def kept(self, threshold: int) -> np.ndarray:
        """``(N,)``: the detections in ``videos`` at or above the best-F1 score of a threshold."""
        return (self.video >= 0) & (self.ranking.score >= self.cuts[0][threshold])


@dataclass(frozen=True)
class Interval:
    """What a paired bootstrap says of two runs' average mAP (fractions).

    ``low`` and ``high`` enclose 95 % of the resampled differences, ``share`` of them are above zero.
    """

    first: float
    second: float
    low: float
    high: float
    share: float
    videos: int
    draws: int

    @property
    def difference(self) -> float:
        """Second minus first, on all videos once."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def match_side(
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    tiou: Sequence[float],
    videos: Sequence[str],
    protocol: str = "official",
) -> Side:
    """Matches a run's detections with the ``truth`` of a subset whose videos are ``videos``.

    Raises InputError as ``average_precision.evaluate`` does.
    """
    ranking, names = rank(truth, detections, tiou, protocol), pd.Index(list(dict.fromkeys(videos)))
    ranked = detections.iloc[ranking.row]
    return Side(
        ranking,
        names,
        positions(names, ranked["video_id"]),
        ranked[["start", "end"]].to_numpy(np.float64),
    )


def best_f1(score: np.ndarray, hit: np.ndarray, num_truth: int) -> tuple[float, float]:
    """The score threshold with the best F1, and that F1, of detections in descending order of score.

    F1 = 2 TP / (detections kept + annotations). Scores that are equal are kept or dropped together.
    """
    if score.size == 0 or num_truth == 0:
        return 0.0, 0.0
    f1 = 2 * np.cumsum(hit) / (np.arange(1, len(score) + 1) + num_truth)
    f1[:-1][score[1:] == score[:-1]] = 0.0
    best = int(np.argmax(f1))
    return float(score[best]), float(f1[best])


def class_differences(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """``label, first, second, difference``: AP averaged over the thresholds; the second's gains on top."""
    table = pd.DataFrame(
        {"label": first.labels, "first": first.ap.mean(axis=1), "second": second.ap.mean(axis=1)}
    )
    return _by_difference(table)


def video_scores(side: Side) -> np.ndarray:
    """How well a run does in each video, ``(V,)`` from 0 to 1.

    The F1 of the video's detections at or above the run's own best-F1 score, averaged over the thresholds.
    A video with neither annotations nor such detections has nothing wrong: 1.
    """
    num = len(side.videos)
    truth = np.bincount(side.truth_video[side.truth_video >= 0], minlength=num)
    scores = np.empty((len(side.ranking.tiou), num))
    for k, hit in enumerate(side.ranking.hit):
        kept = side.kept(k)
        found = np.bincount(side.video[kept & hit], minlength=num)
        claimed = np.bincount(side.video[kept], minlength=num) + truth
        scores[k] = np.divide(2 * found, claimed, out=np.ones(num), where=claimed > 0)
    return scores.mean(axis=0)


def video_differences(first: Side, second: Side) -> pd.DataFrame:
    """``video_id, annotations, first, second, difference`` of `video_scores`; the second's gains on top."""
    table = pd.DataFrame(
        {
            "video_id": first.videos,
            "annotations": np.bincount(
                first.truth_video[first.truth_video >= 0], minlength=len(first.videos)
            ),
            "first": video_scores(first),
            "second": video_scores(second),
        }
    )
    return _by_difference(table)


def _by_difference(table: pd.DataFrame) -> pd.DataFrame:
    table["difference"] = table["second"] - table["first"]
    return table.sort_values("difference", ascending=False, kind="stable", ignore_index=True)


def found_by(first: Side, second: Side, threshold: int) -> pd.DataFrame:
    """Every annotation, and who found it at a threshold, each run above its own best-F1 score.

    Columns: ``video_id, start, end, label``, ``found`` ("both", "first", "second" or "neither"), and of the
    detection of the one run that found it ``score`` and ``tiou`` (NaN for both and neither).
    """
    table = first.ranking.truth[["video_id", "start", "end", "label"]].reset_index(drop=True)
    finders = [_finder(side, threshold) for side in (first, second)]
    has = [finder >= 0 for finder in finders]
    table["found"] = np.select(
        [has[0] & has[1], has[0], has[1]], ["both", "first", "second"], default="neither"
    )
    table["score"], table["tiou"] = np.nan, np.nan
    for name, side, finder in zip(("first", "second"), (first, second), finders, strict=True):
        rows = np.flatnonzero(table["found"] == name)
        table.loc[rows, "score"] = side.ranking.score[finder[rows]]
        table.loc[rows, "tiou"] = temporal_iou(
            table.loc[rows, ["start", "end"]].to_numpy(), side.segments[finder[rows]]
        )
    return table


def _finder(side: Side, threshold: int) -> np.ndarray:
    """``(G,)``: the ranked detection that takes each annotation at a threshold, -1 for none."""
    finder = np.full(len(side.ranking.truth), -1)
    matched = side.ranking.matched[threshold]
    hits = np.flatnonzero((matched >= 0) & side.kept(threshold))
    finder[matched[hits]] = hits
    return finder


def paired_bootstrap(
    first: Side, second: Side, draws: int = DRAWS, seed: int = 0, progress: Progress | None = None
) -> Interval:
    """A 95 % interval of the difference in average mAP, over the choice of videos.

    As many videos as there are get drawn with replacement, ``draws`` times, the same for both runs; a video
    drawn twice counts twice, with its annotations and detections. The interval is between the 2.5th and the
    97.5th percentile of the differences (Efron, 1979). Detections of other videos stay in every draw.

    Raises:
        InputError: if there are fewer than two videos, or the runs were matched with other videos.
    """
    num = len(first.videos)
    if num < 2:
        hint = "Choose a subset with more."
        raise InputError("one video alone doesn't say how much a difference depends on it", hint=hint)
    if not first.videos.equals(second.videos) or first.ranking.tiou != second.ranking.tiou:
        raise InputError("the two runs were matched with other videos", hint="Compare on one subset.")
    random = np.random.default_rng(seed)
    weights = random.multinomial(num, np.full(num, 1 / num), size=draws).T.astype(np.int32)
    total = 2 * len(first.ranking.labels)
    sides = [
        _resampled(side, weights, progress, number * total // 2, total)
        for number, side in enumerate((first, second))
    ]
    differences = (sides[1] - sides[0])[np.isfinite(sides[0])]  # a draw may hold no annotation at all
    low, high = np.percentile(differences, [2.5, 97.5])
    once = np.ones((num, 1), np.int32)
    before, after = (float(_resampled(side, once)[0]) for side in (first, second))
    share = float((differences > 0).mean())
    return Interval(before, after, float(low), float(high), share, num, len(differences))


def _resampled(
    side: Side, weights: np.ndarray, progress: Progress | None = None, done: int = 0, total: int = 0
) -> np.ndarray:
    """Average mAP ``(B,)`` when video v counts ``weights[v, b]`` times; NaN where nothing is annotated.

    Repeating a video doesn't change what its detections match, so nothing is matched anew.
    """
    ranking, draws = side.ranking, weights.shape[1]
    weights = np.vstack([weights, np.ones((1, draws), np.int32)])  # row -1: detections of other videos
    truth_class = positions(ranking.labels, ranking.truth["label"])
    area, classes = np.zeros(draws), np.zeros(draws)
    for index, rows in ranking.per_class():
        positive = weights[side.truth_video[truth_class == index]].sum(axis=0)
        step = max(1, _CELLS_AT_ONCE // max(1, rows.stop - rows.start))
        for start in range(0, draws, step):
            part = slice(start, start + step)
            recalled = _weighted_area(side.video[rows], ranking.hit[:, rows], weights[:, part])
            area[part] += np.divide(
                recalled, positive[part], out=np.zeros_like(recalled), where=positive[part] > 0
            )
        classes += positive > 0
        if progress is not None:
            progress(done + index + 1, total, "resampling the videos")
    return np.divide(area, classes, out=np.full(draws, np.nan), where=classes > 0)


def _weighted_area(video: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolated precision summed over one class's true positives ``(B,)``, averaged over K thresholds.

    The n detections come by rank, ``hit`` is ``(K, n)``. Only ranks of true positives are looked at: between
    them precision falls, so it is highest at one of them. Copies of a true positive raise precision one
    after the other, so that after the last one counts for all.
    """
    area = np.zeros(weights.shape[1])
    ranks = np.flatnonzero(hit.any(axis=0))
    if ranks.size == 0:
        return area
    weight = weights[video[: ranks[-1] + 1]]  # (n, B)
    seen = np.cumsum(weight, axis=0, dtype=np.int32)
    for row in hit:
        at = np.flatnonzero(row)
        if at.size == 0:
            continue
        right = np.cumsum(weight[at], axis=0)
        precision = right / np.maximum(seen[at], 1)
        best_later = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        area += np.einsum("nb,nb->b", best_later, weight[at])
    return area / len(hit)
