"""Proposals become detections by the video's class scores."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from tal_core.data.dataset import open_dataset
from tal_core.data.registry import add_dataset, load_entry
from tal_core.inference.fusion import fuse, is_classless, with_classes
from tal_core.inference.predict import predict_videos
from tal_core.models.method import Candidates
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

PROPOSALS = Candidates(
    np.array([[0, 1], [2, 5]], np.float32), np.array([0.8, 0.5], np.float32), np.array([-1, -1])
)


class Config:
    classes_per_proposal = 2


class Proposer(nn.Module):
    config = Config()

    def candidates(self, features, grid):
        return PROPOSALS, None


def test_each_proposal_takes_the_best_classes_by_the_product():
    fused = fuse(PROPOSALS, np.array([0.1, 0.6, 0.3], np.float32), 2)
    assert fused.labels.tolist() == [1, 1, 2, 2]
    assert fused.scores == pytest.approx([0.48, 0.3, 0.24, 0.15])
    assert fused.segments.tolist() == [[0, 1], [2, 5], [0, 1], [2, 5]]


def test_more_classes_than_there_are_are_all_of_them():
    assert len(fuse(PROPOSALS, np.array([0.5], np.float32), 7)) == 2


def test_candidates_with_classes_pass_as_they_are():
    found = Candidates(PROPOSALS.segments, PROPOSALS.scores, np.array([0, 1]))
    assert not is_classless(found) and is_classless(PROPOSALS)
    assert with_classes(found, None, Config(), "x") is found
    with pytest.raises(InputError, match="--class-scores"):
        with_classes(PROPOSALS, None, Config(), "x")


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
    assert found.labels.tolist() == [1, 1, 0, 0]
    other = predict_videos(Proposer(), scored, videos, torch.device("cpu"), labels=["wave", "jump"])
    assert other.labels == ["wave", "jump"] and other.candidates[videos[0]].labels.tolist() == [1, 0, 1, 0]
