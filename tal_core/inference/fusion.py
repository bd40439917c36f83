"""Proposals and video-level class scores make detections."""

from __future__ import annotations

import numpy as np

from tal_core.models.method import Candidates
from tal_core.types import InputError

NO_CLASS = -1


def is_classless(candidates: Candidates) -> bool:
    """Whether these are proposals that still need classes."""
    return bool(len(candidates)) and bool((candidates.labels == NO_CLASS).all())


def fuse(proposals: Candidates, class_scores: np.ndarray, top_k: int) -> Candidates:
    """Each proposal once for each of the video's ``top_k`` classes, scored by the product; best first.

    ``class_scores`` (K,) of the video. As the published ActivityNet results of BSN and BMN do it.
    """
    classes = np.argsort(-class_scores, kind="stable")[:top_k]
    scores = (class_scores[classes, None] * proposals.scores[None]).astype(np.float32).reshape(-1)
    segments = np.tile(proposals.segments, (len(classes), 1))
    labels = np.repeat(classes.astype(np.int64), len(proposals))
    order = np.argsort(-scores, kind="stable")
    return Candidates(segments[order], scores[order], labels[order], proposals.end)


def with_classes(found: Candidates, class_scores: np.ndarray | None, config, video: str) -> Candidates:
    """Candidates that all have a class: as they are, or proposals fused with the video's scores.

    Raises:
        InputError: if there are none to fuse with.
    """
    if not is_classless(found):
        return found
    if class_scores is None:
        mend = "Give video-level scores (--class-scores), or train with classifier=head."
        raise InputError("the run makes proposals without classes", where=f"video {video}", mend=mend)
    return fuse(found, class_scores, config.classes_per_proposal)
