"""Proposals and video-level class scores make detections.

NMS thins out proposals as they are, and what is left takes the video's best classes: as in the published
ActivityNet results of BSN, BMN, ActionFormer and TriDet. `fuse_class_scores` does so with any candidates, or
keeps their classes and weighs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tal_core.models.config import ProposerConfig
from tal_core.models.method import Candidates, VideoClasses
from tal_core.types import InputError

NO_CLASS = -1
PROPOSAL = "proposal"  # what is written as the class of a proposal that has none
FUSION_MODES = ("weigh", "classes")


@dataclass(frozen=True)
class Fusion:
    """How class scores of whole videos enter candidates; ``power`` is the exponent of the class score.

    ``weigh``: a candidate keeps its class, and its score is multiplied with that class's score in the video;
    candidates of classes that aren't among the video's ``top_k`` go. ``classes``: a candidate's own class is
    forgotten, and after NMS it becomes a detection of each of the video's ``top_k`` classes, scored by the
    product. ``top_k`` 0: all classes.
    """

    mode: str = "weigh"
    top_k: int = 2
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in FUSION_MODES:
            hint = f"Use one of {', '.join(FUSION_MODES)}"
            raise InputError(f"unknown fusion {self.mode!r}", hint=hint)
        if self.top_k < 0:
            raise InputError(f"top-k is {self.top_k}", hint="Give a whole number, 0 for all classes")
        if not 0 < self.power <= 10:
            raise InputError(f"the power is {self.power:g}", hint="Give a number above 0 and up to 10")


def is_classless(candidates: Candidates) -> bool:
    """Whether these are proposals that still need classes."""
    return bool(len(candidates)) and bool((candidates.labels == NO_CLASS).all())


def best_classes(class_scores: np.ndarray, config: ProposerConfig) -> VideoClasses:
    """The classes that a video's proposals get, from its ``(K,)`` scores; of equal scores the first."""
    labels = np.argsort(-class_scores, kind="stable")[: config.classes_per_proposal]
    return VideoClasses(labels, class_scores[labels].astype(np.float32), config.score_fusion)


def with_classes(
    found: Candidates, class_scores: np.ndarray | None, config: ProposerConfig, video: str
) -> Candidates:
    """Candidates that will all have a class: as they are, or proposals with the classes of the video.

    Raises:
        InputError: if proposals have no ``class_scores`` (K,) to take them from.
    """
    if not is_classless(found):
        return found
    if class_scores is None:
        hint = "Give video-level scores (--class-scores), or train with classifier=head or classes=all."
        raise InputError("the run makes proposals without classes", where=f"video {video}", hint=hint)
    return replace(found, classes=best_classes(class_scores, config))


def class_table(classes: Sequence[VideoClasses | None]) -> tuple[np.ndarray, np.ndarray]:
    """Classes ``(V, C)`` int32, -1 where a video has fewer or none, and their scores ``(V, C)`` float32."""
    shape = (len(classes), max((len(one.labels) for one in classes if one is not None), default=0))
    labels, scores = np.full(shape, NO_CLASS, np.int32), np.zeros(shape, np.float32)
    for row, one in enumerate(classes):
        if one is not None:
            labels[row, : len(one.labels)], scores[row, : len(one.labels)] = one.labels, one.scores
    return labels, scores


def fuse(
    number: np.ndarray, labels: np.ndarray, scores: np.ndarray, classes: Sequence[VideoClasses | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each proposal once for each class of its video, by video, best score first.

    Args:
        number: ``(M,)``, ascending, which of the ``classes`` are those of a segment's video.
        labels, scores: ``(M,)`` of segments left by NMS; those of class -1 are proposals.

    Returns:
        Rows of the input ``(M',)``, classes ``(M',)`` and scores ``(M',)``.
    """
    known = [one for one in classes if one is not None]
    if not known or not (labels == NO_CLASS).any():
        return np.arange(len(scores)), labels, scores
    video_labels, video_scores = class_table(classes)
    named = (labels == NO_CLASS) & (video_labels[number] != NO_CLASS).any(axis=1)
    row, column = np.nonzero(named[:, None] & (video_labels[number] != NO_CLASS))
    fused = scores[row] * video_scores[number[row], column]
    fused = np.sqrt(fused) if known[0].fusion == "root" else fused
    others = np.flatnonzero(~named)
    row = np.concatenate([row, others])
    label = np.concatenate([video_labels[number[row[: len(fused)]], column], labels[others]])
    score = np.concatenate([fused, scores[others]])
    order = np.lexsort((-score, number[row]))
    return row[order], label[order].astype(np.int64), score[order]


def fuse_class_scores(
    candidates: Mapping[str, Candidates], class_scores: Mapping[str, np.ndarray], fusion: Fusion
) -> dict[str, Candidates]:
    """Candidates of each video with its ``(K,)`` class scores in them; what they had of such before goes.

    Raises:
        InputError: if proposals without a class are to be weighed by it.
    """
    fuse_one = _weigh if fusion.mode == "weigh" else _forget_classes
    return {video: fuse_one(found, class_scores[video], fusion) for video, found in candidates.items()}


def _best(class_scores: np.ndarray, fusion: Fusion) -> np.ndarray:
    """The video's best classes; of equal scores the first."""
    return np.argsort(-class_scores, kind="stable")[: fusion.top_k or None]


def _weigh(found: Candidates, class_scores: np.ndarray, fusion: Fusion) -> Candidates:
    if (found.labels == NO_CLASS).any():
        hint = "Let the class scores give the classes instead (classes)."
        raise InputError("the candidates have no classes that could be weighed", hint=hint)
    factor = np.zeros(len(class_scores), np.float32)
    best = _best(class_scores, fusion)
    factor[best] = class_scores[best] ** fusion.power
    rows = np.flatnonzero(np.isin(found.labels, best))
    scores = (found.scores * factor[found.labels])[rows]
    rows, scores = rows[np.argsort(-scores, kind="stable")], np.sort(scores)[::-1]
    return replace(found, segments=found.segments[rows], scores=scores, labels=found.labels[rows])


def _forget_classes(found: Candidates, class_scores: np.ndarray, fusion: Fusion) -> Candidates:
    """Proposals of the distinct segments, with the best score of each."""
    best = _best(class_scores, fusion)
    scores = (class_scores[best] ** fusion.power).astype(np.float32)
    order = np.argsort(-found.scores, kind="stable")
    rows = order[np.sort(np.unique(found.segments[order], axis=0, return_index=True)[1])]
    return Candidates(
        found.segments[rows],
        found.scores[rows],
        np.full(len(rows), NO_CLASS),
        found.end,
        VideoClasses(best, scores),
    )
