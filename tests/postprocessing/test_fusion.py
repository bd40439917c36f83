"""Proposals become detections by the video's class scores."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import load_entry
from tal_core.data.dataset.registry import add_dataset
from tal_core.inference.predict import predict_videos
from tal_core.models.config import ProposerConfig
from tal_core.models.method import Candidates, VideoClasses
from tal_core.postprocessing.candidates import load_candidates, post_process_predictions, save_candidates
from tal_core.postprocessing.fusion import best_classes, is_classless, with_classes
from tal_core.postprocessing.nms import Suppression
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

LABELS = ["jump", "kick", "wave"]
PROPOSALS = Candidates(
    np.array([[0, 1], [2, 5]], np.float32), np.array([0.8, 0.5], np.float32), np.array([-1, -1])
)
KEEP_ALL = Suppression(nms="none", min_score=0)


class Proposer(nn.Module):
    config = ProposerConfig()

    def candidates(self, features, grid):
        return PROPOSALS, None


def fused(scores, proposals=PROPOSALS, settings=KEEP_ALL, **changes):
    """Detections of one video."""
    found = with_classes(proposals, np.array(scores, np.float32), ProposerConfig(**changes), "v")
    return post_process_predictions({"v": found}, LABELS, settings)


def test_each_proposal_takes_the_best_classes_by_the_product():
    table = fused([0.1, 0.6, 0.3])
    assert table["label"].tolist() == ["kick", "kick", "wave", "wave"]
    assert table["score"].to_numpy() == pytest.approx([0.48, 0.3, 0.24, 0.15])
    assert table[["start", "end"]].to_numpy().tolist() == [[0, 1], [2, 5], [0, 1], [2, 5]]


def test_or_by_its_square_root_in_the_same_order():
    product, root = fused([0.1, 0.6, 0.3]), fused([0.1, 0.6, 0.3], score_fusion="root")
    assert root["score"].to_numpy() == pytest.approx(np.sqrt(product["score"]))
    assert root["label"].tolist() == product["label"].tolist()


def test_more_classes_than_there_are_are_all_of_them():
    assert len(fused([0.5], classes_per_proposal=7)) == 2


def test_nms_sees_proposals_before_they_get_classes():
    """After that, the copies of a segment of two classes would suppress each other, or not vote."""
    overlapping = Candidates(
        np.array([[0, 10], [0, 9], [20, 30]], np.float32),
        np.array([0.9, 0.6, 0.3], np.float32),
        np.array([-1, -1, -1]),
    )
    settings = Suppression(
        nms="hard", nms_threshold=0.5, nms_per_class=False, max_detections=2, voting_threshold=0.5
    )
    table = fused([0.5, 0.5, 0.0], overlapping, settings)
    assert table["label"].tolist() == ["jump", "kick"] * 2 and len(table) == 4
    assert table["score"].to_numpy() == pytest.approx([0.45, 0.45, 0.15, 0.15])
    # 0.9 * 10 and 0.6 * 0.9 * 9, by score times tIoU
    assert table["end"].to_numpy()[0] == pytest.approx((9 + 0.54 * 9) / (0.9 + 0.54))


def test_videos_with_and_without_classes(tmp_path):
    named = Candidates(PROPOSALS.segments, PROPOSALS.scores, np.array([2, 0]))
    empty = Candidates(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    scored = with_classes(PROPOSALS, np.array([0.2, 0, 0.7]), ProposerConfig(score_fusion="root"), "b")
    candidates = {"a": named, "b": scored, "c": empty, "d": PROPOSALS}
    table = post_process_predictions(candidates, LABELS, KEEP_ALL)
    assert table["video_id"].tolist() == ["a"] * 2 + ["b"] * 4 + ["d"] * 2
    assert table["label"].tolist() == ["wave", "jump", "wave", "wave", "jump", "jump"] + ["proposal"] * 2
    # They are the same from the disk.
    save_candidates(tmp_path / "c.npz", candidates, LABELS)
    kept, labels = load_candidates(tmp_path / "c.npz")
    assert kept["a"].classes is None and kept["b"].classes.labels.tolist() == [2, 0]
    again = post_process_predictions(kept, labels, KEEP_ALL)
    assert again.equals(table)


def test_candidates_with_classes_pass_as_they_are():
    found = Candidates(PROPOSALS.segments, PROPOSALS.scores, np.array([0, 1]))
    assert not is_classless(found) and is_classless(PROPOSALS)
    assert with_classes(found, None, ProposerConfig(), "x") is found
    with pytest.raises(InputError, match="--class-scores"):
        with_classes(PROPOSALS, None, ProposerConfig(), "x")


def test_equal_scores_go_to_the_first_class():
    best = best_classes(np.array([0.3, 0.3, 0.3]), ProposerConfig())
    assert isinstance(best, VideoClasses) and best.labels.tolist() == [0, 1]


def test_a_dataset_brings_its_class_scores(home):
    dataset = make_dataset(home)
    videos = dataset.videos("testing")
    with pytest.raises(InputError, match="no video-level class scores"):
        predict_videos(Proposer(), dataset, videos, torch.device("cpu"))
    path = home.parent / "scores.json"
    path.write_text(
        json.dumps({"class": ["wave", "kick", "jump"], "results": {v: [0.2, 0.5, 0.3] for v in videos}})
    )
    entry = load_entry(home, "tiny")
    add_dataset(
        home,
        "scored",
        annotations=entry.annotations,
        features=entry.features,
        snippet_seconds=0.5,
        class_scores=path,
    )
    scored = open_dataset(home, "scored")
    found = predict_videos(Proposer(), scored, videos, torch.device("cpu")).candidates[videos[0]]
    # jump, kick, wave: kick then jump are the best two.
    assert found.classes.labels.tolist() == [1, 0] and is_classless(found)
    other = predict_videos(Proposer(), scored, videos, torch.device("cpu"), labels=["wave", "jump"])
    assert other.labels == ["wave", "jump"]
    assert other.candidates[videos[0]].classes.labels.tolist() == [1, 0]
    assert predict_videos(
        Proposer(), dataset, videos, torch.device("cpu"), classless=True
    ).candidates == dict.fromkeys(videos, PROPOSALS)
