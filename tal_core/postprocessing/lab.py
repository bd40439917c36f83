"""The post-processing lab: what other NMS settings and class scores make of a run's stored candidates.

A `Bench` answers every setting with its average precision. It keeps what no setting changes, above all which
candidates overlap which annotations of their class, so that an answer costs little more than the NMS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.formats.blocked import are_blocked
from tal_core.data.formats.class_scores import ClassScores
from tal_core.evaluation.average_precision import average_precision, check_annotated, clean_ground_truth
from tal_core.evaluation.matching import Pairs, greedy_match, overlapping_pairs
from tal_core.evaluation.result import Evaluation
from tal_core.models.method import Candidates
from tal_core.postprocessing.candidates import Thinned, detections_table, join, load_candidates, thin
from tal_core.postprocessing.fusion import NO_CLASS, PROPOSAL, Fusion, fuse_class_scores
from tal_core.postprocessing.nms import Suppression
from tal_core.types import AMBIGUOUS, InputError, Progress

SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
THRESHOLDS = (0.2, 0.35, 0.5, 0.65)
VOTING = (0.0, 0.6, 0.75, 0.9)


@dataclass(frozen=True)
class Stored:
    """Candidates of a run as they were stored; ``notes`` say in a line each what doesn't fit the dataset."""

    candidates: dict[str, Candidates]
    labels: list[str]
    notes: list[str]

    @cached_property
    def classless(self) -> bool:
        """Whether any of them are proposals without a class."""
        return any((found.labels == NO_CLASS).any() for found in self.candidates.values())

    def fused(self, class_scores: ClassScores, fusion: Fusion) -> Stored:
        """With video-level scores in them. Raises InputError if a video has none, or as `Fusion` says."""
        class_scores.check(list(self.candidates))
        scores = {video: class_scores.of(video) for video in self.candidates}
        return replace(self, candidates=fuse_class_scores(self.candidates, scores, fusion))


def open_candidates(
    path: Path, labels: Sequence[str], videos: Sequence[str], blocked: frozenset[str] = frozenset()
) -> Stored:
    """The candidates in ``path``, checked against a dataset's classes and the videos to evaluate on; without
    those of ``blocked`` videos.

    Raises:
        InputError: if the file is missing or faulty, or shares no class or no video with the dataset.
    """
    candidates, names = load_candidates(path)
    gone = are_blocked(pd.Series(list(candidates), dtype="str"), blocked)
    candidates = {video: candidates[video] for video, out in zip(candidates, gone, strict=True) if not out}
    if not any(len(found) for found in candidates.values()):
        raise InputError("holds no candidates", where=path, hint="Choose another run, or train it longer.")
    notes = []
    for word, mine, theirs in (("videos", list(candidates), videos), ("classes", names, labels)):
        strange = [name for name in mine if name not in set(theirs)]
        if len(strange) == len(mine):
            what = f"none of its {len(mine)} {word} is here (first: {mine[0]!r})"
            hint = "Choose the dataset and subset that the run made its candidates for."
            raise InputError(what, where=path, hint=hint)
        if strange:
            effect = "count as false positives" if word == "videos" else "are left out"
            notes.append(
                f"{len(strange)} of its {len(mine)} {word} are unknown here (first: {strange[0]!r}): "
                f"their detections {effect}."
            )
    silent = len(set(videos) - set(candidates))
    if silent:
        notes.append(f"{silent} of {len(videos)} videos have no candidates: all their actions are missed.")
    return Stored(candidates, names, notes)


class Bench:
    """Evaluates settings of post-processing on the candidates and the ground truth of some videos.

    The figures are those of `average_precision.evaluate` on the detections. ``labels``: of the candidates;
    ``num_videos``: of the subset. Raises `InputError` without any ground truth.
    """

    def __init__(
        self,
        candidates: Mapping[str, Candidates],
        labels: Sequence[str],
        ground_truth: pd.DataFrame,
        tiou: Sequence[float],
        *,
        protocol: str = "official",
        num_videos: int | None = None,
    ):
        self.joined, self.labels, self.tiou = join(candidates), list(labels), [float(t) for t in tiou]
        self._candidates, self._protocol = candidates, protocol
        self.ground_truth, self.num_videos = ground_truth, num_videos
        truth, self._ignored = clean_ground_truth(ground_truth, protocol)
        check_annotated(truth)
        self._truth = truth[["start", "end"]].to_numpy(np.float64)
        self.classes = sorted(truth["label"].unique())
        self._truth_class = pd.Index(self.classes).get_indexer(truth["label"])
        # By the candidates' numbers; class -1 finds the last.
        self._class_of = pd.Index(self.classes).get_indexer([*self.labels, PROPOSAL])
        videos = pd.Index(truth["video_id"].unique())
        self._video_of = videos.get_indexer(self.joined.videos)
        self._truth_group = videos.get_indexer(truth["video_id"]) * len(self.classes) + self._truth_class

    def evaluate(self, settings: Suppression) -> Evaluation:
        """Average precision with these settings."""
        found = thin(self.joined, settings)
        class_of = self._class_of[found.labels]
        known = np.flatnonzero(class_of >= 0)
        order = known[np.lexsort((-found.scores[known], class_of[known]))]
        if (settings.voting_threshold > 0 and not settings.nms_per_class) or self._has_proposals:
            pairs = self._pairs(found.number[order], class_of[order], found.times[order])
        else:
            pairs = self._stored_pairs(found.row[order])
        hit = greedy_match(pairs, len(order), len(self._truth), self.tiou) >= 0
        positive = np.bincount(self._truth_class, minlength=len(self.classes))
        first = np.searchsorted(class_of[order], np.arange(len(self.classes) + 1))
        return Evaluation(
            tiou=self.tiou,
            labels=self.classes,
            ap=average_precision(hit, None, first, positive),
            num_videos=self.ground_truth["video_id"].nunique()
            if self.num_videos is None
            else self.num_videos,
            num_ground_truth=len(self._truth),
            num_detections=len(found.row),
            ignored=self._ignored | self._left_out(found, len(found.row) - len(known)),
        )

    def detections(self, settings: Suppression) -> pd.DataFrame:
        """The detections that these settings make."""
        return detections_table(thin(self.joined, settings), self.joined.videos, self.labels)

    def halves(self) -> tuple[Bench, Bench]:
        """Two benches with half of the videos each, split by a hash of their names.

        Raises:
            InputError: if a half has no annotations.
        """
        names = sorted({*self.joined.videos, *self.ground_truth["video_id"]}, key=_hash)
        middle = (len(names) + 1) // 2
        return self._only(names[:middle]), self._only(names[middle:])

    def _only(self, videos: Sequence[str]) -> Bench:
        chosen = set(videos)
        truth = self.ground_truth[self.ground_truth["video_id"].isin(chosen)]
        candidates = {video: found for video, found in self._candidates.items() if video in chosen}
        if truth.empty or not any(len(found) for found in candidates.values()):
            hint = "Choose on all of them, or take a larger subset."
            raise InputError("too few annotated videos to split into two halves", hint=hint)
        return Bench(
            candidates, self.labels, truth, self.tiou, protocol=self._protocol, num_videos=len(chosen)
        )

    def _pairs(self, number: np.ndarray, class_of: np.ndarray, times: np.ndarray) -> Pairs:
        """Overlaps of segments ``(N, 2)`` with annotations of their video and class."""
        video = self._video_of[number]
        group = np.where((video >= 0) & (class_of >= 0), video * len(self.classes) + class_of, -1)
        return overlapping_pairs(group, times, self._truth_group, self._truth, min(self.tiou))

    @cached_property
    def _has_proposals(self) -> bool:
        return bool((self.joined.labels == NO_CLASS).any())

    @cached_property
    def _of_candidates(self) -> tuple[Pairs, np.ndarray]:
        """Overlaps of all candidates, and where those of each begin, ``(N + 1,)``."""
        joined = self.joined
        times = joined.segments.astype(np.float64).clip(0, joined.ends[joined.number, None])
        pairs = self._pairs(joined.number, self._class_of[joined.labels], times)
        return pairs, np.searchsorted(pairs.detection, np.arange(len(times) + 1))

    def _stored_pairs(self, rows: np.ndarray) -> Pairs:
        """Overlaps of the candidates in these rows, which are detections by rank."""
        pairs, begin = self._of_candidates
        count = begin[rows + 1] - begin[rows]
        place = np.arange(count.sum()) + np.repeat(begin[rows] - np.cumsum(count) + count, count)
        detection = np.repeat(np.arange(len(rows)), count)
        return Pairs(detection, pairs.ground_truth[place], pairs.tiou[place])

    def _left_out(self, found: Thinned, unknown: int) -> dict[str, int]:
        """Detections that don't count, by reason."""
        ambiguous = 0
        if AMBIGUOUS in self.labels:
            ambiguous = int((found.labels == self.labels.index(AMBIGUOUS)).sum())
        return {"ambiguous_detections": ambiguous, "detections_with_unknown_label": unknown - ambiguous}


@dataclass(frozen=True)
class Trial:
    """Settings, their average mAP on the videos they were chosen on, and on those held back."""

    settings: Suppression
    chosen: float
    reported: float | None = None


@dataclass(frozen=True)
class Suggestion:
    """The best settings of a search, best first, and what the ``present`` ones reach on the same videos.

    ``num_chosen``, ``num_reported``: videos that settings were chosen on, and held back (0: none).
    """

    best: list[Trial]
    present: Trial
    num_tried: int
    num_chosen: int
    num_reported: int


def search_grid(present: Suppression) -> list[Suppression]:
    """The settings that `suggest` tries: kind, sigma or threshold, per class or over all, voting."""
    kinds = [replace(present, nms="soft", nms_sigma=sigma) for sigma in SIGMAS]
    kinds += [replace(present, nms=k, nms_threshold=t) for k in ("hard", "linear") for t in THRESHOLDS]
    scopes = [(True, 0.0), *((False, voting) for voting in VOTING)]
    return [replace(k, nms_per_class=p, voting_threshold=v) for p, v in scopes for k in kinds]


def suggest(
    bench: Bench, present: Suppression, *, split: bool = True, most: int = 5, progress: Progress | None = None
) -> Suggestion:
    """Searches `search_grid` for the best average mAP.

    With ``split`` the settings are chosen on one half of the videos, and the best ``most`` are measured on
    the other; without it both are the same videos, which flatters the figure.

    Raises:
        InputError: if there are too few annotated videos to split.
    """
    choose, report = bench.halves() if split else (bench, None)
    grid = search_grid(present)
    if present not in grid:
        grid.insert(0, present)
    chosen = []
    for done, settings in enumerate(grid):
        if progress:
            progress(done, len(grid), f"{done} of {len(grid)} settings")
        chosen.append(choose.evaluate(settings).average_mAP)
    if progress:
        progress(len(grid), len(grid), f"{len(grid)} settings")

    def trial(index: int) -> Trial:
        reported = report.evaluate(grid[index]).average_mAP if report else None
        return Trial(grid[index], chosen[index], reported)

    order = np.argsort(-np.array(chosen), kind="stable")[:most]
    return Suggestion(
        best=[trial(int(index)) for index in order],
        present=trial(grid.index(present)),
        num_tried=len(grid),
        num_chosen=len(choose.joined.videos),
        num_reported=len(report.joined.videos) if report else 0,
    )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
