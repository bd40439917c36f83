"""How well segments cover the ground truth whatever their labels: recall as in ActivityNet's proposal task.

Every video is looked at in the same share of its own proposals, so "AN proposals on average" means more of
them where a video has more; the curve runs over 100 such shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tal_core.evaluation.matching import pairs_in_videos, positions
from tal_core.types import InputError

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
POINTS = 100
SHOWN = (1, 5, 10, 100)


@dataclass(frozen=True)
class ProposalRecall:
    """Recall of one set of proposals; fractions.

    ``recall`` is ``(K, 100)`` for the thresholds ``tiou`` and the average numbers of proposals
    ``proposals_per_video`` (100,).
    """

    tiou: list[float]
    recall: np.ndarray
    proposals_per_video: np.ndarray
    num_videos: int
    num_ground_truth: int
    num_proposals: int

    @property
    def average_recall(self) -> np.ndarray:
        """Mean over the thresholds, ``(100,)``."""
        return self.recall.mean(axis=0)

    @property
    def auc(self) -> float:
        """Area under average recall against proposals per video, over the largest number of them."""
        return (
            float(np.trapezoid(self.average_recall, self.proposals_per_video)) / self.proposals_per_video[-1]
        )

    def at(self, number: int) -> float | None:
        """AR@number; None if the curve has no point there."""
        place = np.flatnonzero(np.abs(self.proposals_per_video - number) < 1e-9 * number)
        return float(self.average_recall[place[0]]) if len(place) else None

    def to_json(self) -> dict:
        """The form of ``proposals --json``: AUC in percent, recalls as fractions."""
        found = {str(number): self.at(number) for number in SHOWN}
        return {
            "AR": {number: value for number, value in found.items() if value is not None},
            "AUC": 100 * self.auc,
            "average_recall": self.average_recall.tolist(),
            "proposals_per_video": self.proposals_per_video.tolist(),
            "tiou": list(self.tiou),
            "num_videos": self.num_videos,
            "num_ground_truth": self.num_ground_truth,
            "num_proposals": self.num_proposals,
        }


def proposal_recall(
    ground_truth: pd.DataFrame,
    proposals: pd.DataFrame,
    max_proposals: float | None = 100,
    tiou: Sequence[float] = THRESHOLDS,
) -> ProposalRecall:
    """Recall of the best-scored proposals as the ActivityNet script counts it.

    Labels don't matter and nothing is cleaned: a segment proposed twice counts twice. Equal scores go by
    position, earlier first. ``max_proposals`` per video on average; None takes as many as there are.

    Raises:
        InputError: without annotations, or without proposals in their videos.
    """
    if len(ground_truth) == 0:
        raise InputError("there is no ground truth to find", hint="Choose a subset with annotations")
    videos = pd.Index(ground_truth["video_id"].unique())
    video = positions(videos, proposals["video_id"])
    if not (video >= 0).any():
        hint = "Check that the video ids are spelled alike and that the subset is the right one"
        raise InputError("no proposal is in a video with annotations", hint=hint)
    order = np.lexsort((-proposals["score"].to_numpy(np.float64), video))
    order = order[video[order] >= 0]
    video = video[order]
    count = np.bincount(video, minlength=len(videos))
    rank = np.arange(len(order)) - (np.cumsum(count) - count)[video]

    most = len(proposals) / len(videos) if max_proposals is None else max_proposals
    ratio = most * len(videos) / len(proposals)
    kept = np.minimum((count * ratio).astype(np.int64), count)
    if kept.sum() == 0:
        hint = "Give more proposals, or allow more of them"
        raise InputError(f"at most {most:g} proposals per video leave none", hint=hint)
    # The order of these operations decides which proposals the cut-offs take in.
    share = np.arange(1, POINTS + 1) / 100.0 * (most * len(videos) / kept.sum())
    looked_at = np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])

    truth_video = positions(videos, ground_truth["video_id"])
    found_at = _first_ranks(ground_truth, proposals.iloc[order], rank, tiou)
    recall = (found_at[:, :, None] < looked_at[truth_video]).mean(axis=1)
    per_video = share * (kept.sum() / len(videos))
    return ProposalRecall(list(tiou), recall, per_video, len(videos), len(ground_truth), len(proposals))


def _first_ranks(
    ground_truth: pd.DataFrame, proposals: pd.DataFrame, rank: np.ndarray, tiou: Sequence[float]
) -> np.ndarray:
    """``(K, G)``: rank in its video of the first proposal that reaches each annotation."""
    pairs = pairs_in_videos(proposals, ground_truth, min(tiou))
    found = np.full((len(tiou), len(ground_truth)), np.iinfo(np.int64).max)
    for row, threshold in zip(found, tiou, strict=True):
        reaching = pairs.tiou >= threshold
        np.minimum.at(row, pairs.ground_truth[reaching], rank[pairs.detection[reaching]])
    return found


def without_repeats(detections: pd.DataFrame) -> pd.DataFrame:
    """Each segment of a video once, with its best score: a detector proposes one for each of its classes."""
    best = detections.sort_values("score", ascending=False, kind="stable")
    return best.drop_duplicates(["video_id", "start", "end"]).sort_index()
