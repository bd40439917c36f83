"""Training features from disk or kept: the same numbers, as stored, and a clear word where they don't fit."""

import numpy as np
import pytest
import torch

from tal_core.data.dataset.dataset import open_dataset
from tal_core.models.shared import feature_reader as readers
from tal_core.models.shared.clips import ClipSampler
from tal_core.models.shared.feature_reader import FeatureReader
from tal_core.types import InputError
from tests.training.synthetic import make_dataset


@pytest.fixture(params=["float16", "float32"])
def data(home, request):
    """The synthetic dataset, stored in either precision."""
    dataset = make_dataset(home)
    for path in dataset.entry.features[0].iterdir():
        np.save(path, np.load(path).astype(request.param))
    return open_dataset(home, "tiny")


@pytest.mark.parametrize("keep", ["auto", "disk", "memory", "device"])
def test_windows_are_the_same_wherever_they_are_kept(data, keep):
    videos = data.videos(data.training_subset)
    reader = FeatureReader(data, videos, keep, "cpu")
    dtype = getattr(torch, data.index["dtype"].iloc[0])
    for video in reversed(videos):
        window = reader.read(video, 3, 20)
        assert window.dtype == dtype
        assert torch.equal(window.float(), torch.from_numpy(data.features(video, 3, 20)))
        assert len(reader.read(video, 50, 99)) == 10  # windows end where the video does
    assert torch.equal(reader.read(videos[0]).float(), torch.from_numpy(data.features(videos[0])))
    snippets = np.array([[0, 1, 1], [57, 59, 59]])
    gathered = reader.gather(videos[:2], snippets)
    assert gathered.dtype == dtype
    for row, video in enumerate(videos[:2]):
        assert torch.equal(gathered[row].float(), torch.from_numpy(data.features(video)[snippets[row]]))


def test_batches_are_the_same_wherever_they_are_kept(data):
    drawn = [
        ClipSampler(data, 3, 24, keep=keep).epoch(0, torch.Generator().manual_seed(0))[1]
        for keep in ("disk", "memory")
    ]
    assert torch.equal(drawn[0]["features"], drawn[1]["features"])
    assert drawn[0]["features"].dtype == getattr(torch, data.index["dtype"].iloc[0])


def test_nothing_is_read_before_it_is_needed(data, monkeypatch):
    read = []
    features = type(data).features
    monkeypatch.setattr(
        type(data),
        "features",
        lambda self, video, *a, **k: read.append(video) or features(self, video, *a, **k),
    )
    reader = FeatureReader(data, data.videos(data.training_subset), "memory")
    assert not read
    reader.read("v01", 0, 5)
    reader.read("v01", 5, 9)
    assert read == ["v01"]


def test_auto_keeps_what_is_small(data, monkeypatch):
    videos = data.videos(data.training_subset)
    assert FeatureReader(data, videos).kept is not None
    monkeypatch.setattr(readers, "MEMORY_BYTES", 10)
    assert FeatureReader(data, videos).kept is None
    assert FeatureReader(data, videos, "memory").kept is not None


def test_what_does_not_fit_is_said_with_both_sizes(data, monkeypatch):
    monkeypatch.setattr(readers, "MEMORY_SHARE", 0.0)
    with pytest.raises(
        InputError, match=r"keep_features: the training features take 0\.0 GB, and .* GB of memory"
    ):
        FeatureReader(data, data.videos(data.training_subset), "memory")


def test_files_of_both_precisions_become_float32(home):
    data = make_dataset(home)
    path = next(data.entry.features[0].glob("v00.npy"))
    np.save(path, np.load(path).astype(np.float16))
    data = open_dataset(home, "tiny")
    for keep in ("disk", "memory"):
        sampler = ClipSampler(data, 6, 60, keep=keep)
        assert sampler.epoch(0, torch.Generator().manual_seed(0))[0]["features"].dtype == torch.float32
