"""Clips of training videos: crops, segments on the grid, padding, and the same batches again."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.models.data_summary import summarise
from tal_core.models.shared import feature_reader
from tal_core.models.shared.clips import ClipSampler, collate, resample, training_segments
from tal_core.models.shared.feature_reader import FeatureReader
from tal_core.types import TimeGrid

LENGTHS = {"a": 40, "b": 25, "c": 1, "d": 60, "silent": 30, "held": 20}
SEGMENTS = {
    "a": [(2, 6, "run"), (10, 30, "jump"), (12, 14, "run")],
    "b": [(0, 25, "jump"), (5, 5, "run"), (24.9, 40, "run"), (90, 95, "run")],
    "c": [(0, 1, "run")],
    "d": [(50, 60, "jump"), (1, 9, "jump"), (3, 6, "jump")],
    "silent": [],
    "held": [(3, 8, "throw")],
}


@pytest.fixture
def dataset(home, tmp_path):
    """One snippet a second, its centre at half a second; feature 0 counts the snippets."""
    folder = tmp_path / "features"
    folder.mkdir()
    database = {}
    for video, length in LENGTHS.items():
        counted = np.stack([np.arange(length), np.full(length, 7)], axis=1).astype(np.float32)
        np.save(folder / f"{video}.npy", counted)
        database[video] = {
            "subset": "testing" if video == "held" else "training",
            "duration": length,
            "annotations": [{"segment": [s, e], "label": label} for s, e, label in SEGMENTS[video]],
        }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    add_dataset(
        home,
        "clips",
        annotations=tmp_path / "a.json",
        features=[folder],
        snippet_seconds=1.0,
        offset_seconds=0.5,
    )
    return open_dataset(home, "clips")


def draw(sampler, epoch=0, seed=0):
    return list(sampler.epoch(epoch, torch.Generator().manual_seed(seed)))


def test_segments_lie_on_the_grid_and_useless_ones_are_left_out(dataset):
    truth = training_segments(dataset, ["a", "b", "silent"])
    # labels: jump 0, run 1, throw 2
    assert truth["a"][0].tolist() == [[1.5, 5.5], [9.5, 29.5], [11.5, 13.5]]
    assert truth["a"][1].tolist() == [1, 0, 1]
    # No length, and wholly behind the last snippet: dropped. One that begins inside stays as it is.
    assert truth["b"][0] == pytest.approx(np.array([[-0.5, 24.5], [24.4, 39.5]]))
    assert truth["silent"][0].shape == (0, 2) and truth["silent"][1].shape == (0,)


def test_short_videos_stay_whole_and_are_padded_to_the_longest(dataset):
    batches = draw(ClipSampler(dataset, 5, 100))
    assert len(batches) == 1
    batch = batches[0]
    assert batch["features"].shape == (5, 60, 2) and batch["features"].dtype == torch.float32
    assert sorted(batch["mask"].sum(dim=1).tolist()) == [1, 25, 30, 40, 60]
    for features, mask in zip(batch["features"], batch["mask"], strict=True):
        length = int(mask.sum())
        assert mask[:length].all()
        assert features[:length, 0].tolist() == list(range(length))
        assert not features[length:].any()


def test_crops_move_their_segments_along(dataset):
    sampler = ClipSampler(dataset, 1, 12, min_overlap=0.5)
    for seed in range(20):
        for batch in draw(sampler, seed=seed):
            features, segments = batch["features"][0], batch["segments"][0].numpy()
            assert len(features) <= 12
            assert ((segments >= -0.5) & (segments <= len(features) - 0.5)).all()
            assert (segments[:, 1] > segments[:, 0]).all()


def test_a_crop_keeps_segments_of_which_half_is_inside(dataset):
    sampler = ClipSampler(dataset, 1, 12, min_overlap=0.5)
    segments, _ = sampler.truth["a"]
    random = np.random.default_rng(0)
    for _ in range(50):
        start, kept = sampler._crop(segments, 40, 12, random)
        shared = np.minimum(segments[:, 1], start + 11.5) - np.maximum(segments[:, 0], start - 0.5)
        assert kept.any()
        assert kept.tolist() == (shared / (segments[:, 1] - segments[:, 0]) >= 0.5).tolist()


def test_a_crop_of_a_video_without_segments_is_a_background_clip(dataset):
    sampler = ClipSampler(dataset, 1, 12)
    features, segments, labels = sampler.clip("silent", np.random.default_rng(0))
    assert len(features) == 12 and len(segments) == len(labels) == 0


def test_cropping_to_a_share_varies_the_length_and_never_exceeds_it(dataset):
    sampler = ClipSampler(dataset, 1, 100, crop=(0.5, 1.0))
    random = np.random.default_rng(0)
    lengths = [len(sampler.clip("a", random)[0]) for _ in range(60)]
    assert min(lengths) >= 20 and max(lengths) <= 40 and len(set(lengths)) > 5
    assert len(sampler.clip("c", random)[0]) == 1


def test_the_same_epoch_again_and_any_batch_of_it_alone(dataset):
    sampler = ClipSampler(dataset, 2, 12, crop=(0.5, 1.0))
    once, again = draw(sampler, seed=3), sampler.epoch(0, torch.Generator().manual_seed(3))
    assert len(once) == len(again) == 3
    assert torch.equal(again[2]["features"], once[2]["features"])
    assert torch.equal(again[1]["features"], once[1]["features"])
    other = draw(sampler, seed=4)
    assert any(not torch.equal(a["features"], b["features"]) for a, b in zip(once, other, strict=True))
    with pytest.raises(IndexError):
        again[3]


def test_resampling_follows_interpolation_and_keeps_times(dataset):
    features, grid = torch.arange(30.0)[:, None], TimeGrid(1.0, 0.5)
    for length in (10, 30, 45, 1):
        resized, new = resample(features, grid, length)
        expected = F.interpolate(features.T[None], size=length, mode="linear", align_corners=False)[0].T
        assert torch.equal(resized, expected)
        # The whole covers the same 30 seconds.
        assert new.seconds(-0.5) == pytest.approx(0) and new.seconds(length - 0.5) == pytest.approx(30)
    middle = resample(features, grid, 10)
    assert middle[0][4].item() == pytest.approx(grid.index(middle[1].seconds(4)))


def test_resized_clips_move_their_segments_to_the_new_grid(dataset):
    sampler = ClipSampler(dataset, 2, 100, resize=20)
    features, segments, _ = sampler.clip("a", np.random.default_rng(0))
    assert len(features) == 20
    # 10 to 30 s of 40 are a quarter to three quarters.
    assert segments[1].tolist() == pytest.approx([0.25 * 20 - 0.5, 0.75 * 20 - 0.5])


def test_features_too_big_for_memory_are_read_in_ranges(dataset, monkeypatch):
    whole = FeatureReader(dataset, ["a"])
    monkeypatch.setattr(feature_reader, "MEMORY_BYTES", 10)
    ranged = FeatureReader(dataset, ["a"])
    assert ranged.kept is None and whole.kept is not None
    assert np.array_equal(ranged.read("a", 5, 9), whole.read("a", 5, 9))
    assert len(ranged.read("a")) == 40


def test_collate_pads_one_snippet_beside_many():
    clip = (torch.ones(1, 3), np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    batch = collate([clip, (torch.ones(4, 3), np.array([[0.0, 2.0]]), np.array([1]))])
    assert batch["mask"].tolist() == [[True, False, False, False], [True] * 4]
    assert batch["segments"][1].dtype == torch.float32 and batch["labels"][0].dtype == torch.int64


def test_summary_counts_on_the_feature_grid(dataset):
    summary = summarise(dataset)
    assert (summary.num_videos, summary.num_features, summary.num_classes) == (5, 2, 3)
    assert sorted(summary.lengths.tolist()) == [1, 25, 30, 40, 60]
    assert summary.counts.sum() == len(summary.segments) == 11
    assert summary.stride == 1.0 and summary.evaluation_lengths.tolist() == [20]
    assert summary.unseen == ("throw",)
    # jump 1-9 and 3-6 of d overlap; run 2-6 and 12-14 of a don't.
    assert summary.same_class_overlap == pytest.approx(2 / 11)
