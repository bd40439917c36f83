"""Proposals and video-level class scores make detections.

NMS thins out proposals as they are, and what is left takes the video's best classes: as in the published
ActivityNet results of BSN, BMN, ActionFormer and TriDet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tal_core.models.config import ProposerConfig
from tal_core.models.method import Candidates, VideoClasses
from tal_core.types import InputError

NO_CLASS = -1
PROPOSAL = "proposal"  # what is written as the class of a proposal that has none


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
        mend = "Give video-level scores (--class-scores), or train with classifier=head or classes=all."
        raise InputError("the run makes proposals without classes", where=f"video {video}", mend=mend)
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
