import sys

import numpy as np
import pandas as pd
import pytest

from tal_core.data.exploring.snippets import labels_at, principal_components, sample_snippets, umap_positions
from tal_core.types import InputError, TimeGrid


class Videos:
    """Three short videos; the features of a snippet are its video's number and its place."""

    def ground_truth(self, videos):
        table = pd.DataFrame({"video_id": ["v0"], "start": [2.0], "end": [5.0], "label": ["run"]})
        return table[table["video_id"].isin(videos)]

    def features(self, video_id):
        return np.array([[int(video_id[1]), i] for i in range(10)], np.float16)

    def grid(self, _video_id):
        return TimeGrid(stride=1.0)


def test_sample_is_even_repeatable_and_labelled():
    features, table = sample_snippets(Videos(), ["v0", "v1", "v2"], count=12)
    again, _ = sample_snippets(Videos(), ["v0", "v1", "v2"], count=12)
    assert features.shape == (12, 2) and (features == again).all()
    assert table["video_id"].value_counts().tolist() == [4, 4, 4]
    inside = (table["video_id"] == "v0") & table["seconds"].between(2, 5)
    assert (table["label"] == np.where(inside, "run", "background")).all()
    assert (features[:, 1] == table["seconds"]).all()


def test_no_videos_give_an_empty_sample():
    features, table = sample_snippets(Videos(), [])
    assert len(features) == len(table) == 0


def test_labels_without_segments_are_background():
    assert labels_at(np.array([1.0]), None).tolist() == ["background"]


def test_components_equal_a_full_decomposition():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 2)) @ generator.normal(size=(2, 40)) * 5
    features = features + generator.normal(size=(300, 40)) * 0.1
    positions, share = principal_components(features)
    standard = (features - features.mean(0)) / features.std(0)
    values = np.linalg.svd(standard, compute_uv=False)
    assert np.linalg.norm(positions, axis=0) == pytest.approx(values[:2], rel=1e-4)
    assert share == pytest.approx(values[:2] ** 2 / (values**2).sum(), rel=1e-4)


def test_components_are_repeatable_to_the_last_bit():
    features = np.random.default_rng(0).normal(size=(200, 60))
    first, second = (principal_components(features)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_dimensions_that_are_missing_are_flat():
    positions, share = principal_components(np.arange(6.0)[:, None], count=3)
    assert (positions[:, 1:] == 0).all() and (np.diff(np.abs(positions[:3, 0])) < 0).all()
    assert share.tolist() == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (4, 4)])
def test_tiny_inputs_still_get_two_coordinates(shape):
    positions, share = principal_components(np.ones(shape))
    assert positions.shape == (shape[0], 2) and np.isfinite(positions).all() and share.shape == (2,)


def test_umap_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        umap_positions(np.ones((20, 3)))
