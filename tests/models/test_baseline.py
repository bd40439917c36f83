import numpy as np
import pytest
import torch

from tal_core.models.baseline import (
    BaselineConfig,
    TemporalLocalizationModel,
    WindowSampler,
    window_labels,
)
from tal_core.models.shared.grouping import group
from tal_core.models.shared.normalisation import take_statistics
from tal_core.types import TimeGrid
from tests.training.synthetic import make_dataset


def make_model(channels=4, classes=3, **settings) -> TemporalLocalizationModel:
    torch.manual_seed(0)
    config = BaselineConfig(**{"hidden_channels": 8, **settings})
    return TemporalLocalizationModel(config, channels, classes).eval()


def test_shape_is_windows_to_classes_and_background():
    model = make_model()
    assert model(torch.randn(7, model.config.window, 4)).shape == (7, 4)
    kinds = [type(layer).__name__ for layer in model.children()]
    assert kinds[:2] == ["Conv1d", "AdaptiveMaxPool1d"] and kinds[-1] == "Linear"
    assert model.conv.kernel_size == (3,)


def test_dense_scores_equal_the_windows_one_by_one():
    model = make_model(window=5, scales=[1, 3])
    model.mean.fill_(0.3)
    model.std.fill_(2.0)
    features = torch.randn(12, 4)
    dense = model.dense(features)
    assert dense.shape == (2, 12, 4)
    for s, scale in enumerate([1, 3]):
        for centre in range(12):
            rows = [min(max(centre + step * scale, 0), 11) for step in range(-2, 3)]
            torch.testing.assert_close(dense[s, centre], model(features[rows][None])[0])


@pytest.mark.parametrize("length", [1, 2, 40])
def test_snippet_scores_are_probabilities(length):
    scores = make_model().snippet_scores(torch.randn(length, 4))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(length))


def test_candidates_are_sorted_and_in_seconds():
    model = make_model(max_candidates=5)
    found, scores = model.candidates(torch.randn(50, 4), TimeGrid(0.5, 0.25))
    assert scores.shape == (50, 3) and 0 < len(found) <= 5
    assert (np.diff(found.scores) <= 0).all() and (found.labels < 3).all()
    assert found.segments.dtype == np.float32
    assert (found.segments >= 0).all() and (found.segments <= 25).all()
    assert (found.segments[:, 0] < found.segments[:, 1]).all()


def test_group_finds_stretches_with_ends_between_snippets():
    scores = torch.zeros(10, 2, dtype=torch.float64)
    scores[3:6, 1] = 0.8
    scores[8:, 0] = 0.6
    segments, values, labels = group(scores, [0.4, 0.7], contrast=0.5)
    found = {(int(k), *s.tolist()): v for s, v, k in zip(segments, values.tolist(), labels, strict=True)}
    # Halfway down from 0.8 to 0 lies half a snippet outside; the video ends half a snippet after its last.
    assert (1, 2.5, 5.5) in found
    assert any(key == pytest.approx((0, 8 - 1 / 3, 9.5)) for key in found)
    assert found[(1, 2.5, 5.5)] == pytest.approx(0.8)
    assert len(found) == 3


def test_group_prefers_the_whole_action_to_its_peaks():
    scores = torch.full((20, 1), 0.02, dtype=torch.float64)
    scores[5:15, 0] = torch.tensor([0.5, 0.9, 0.5, 0.5, 0.9, 0.5, 0.5, 0.9, 0.5, 0.5], dtype=torch.float64)
    segments, plain, _ = group(scores, [0.3, 0.7], contrast=0.0)
    _, contrasted, _ = group(scores, [0.3, 0.7], contrast=0.6)
    whole = (segments[:, 1] - segments[:, 0]).argmax()
    assert plain.argmax() != whole and contrasted.argmax() == whole


def test_group_of_nothing_and_of_one_snippet():
    segments, values, labels = group(torch.zeros(5, 2, dtype=torch.float64), [0.5], 0.5)
    assert segments.shape == (0, 2) and len(values) == len(labels) == 0
    segments, values, _ = group(torch.ones(1, 1, dtype=torch.float64), [0.5], 0.5)
    assert segments.tolist() == [[-0.5, 0.5]] and values.item() == pytest.approx(1.0)


def test_window_labels():
    background = 9
    segments, classes = np.array([[2.0, 6.0], [6.0, 7.0]]), np.array([4, 5])

    def labels(span, overlap):
        return window_labels(segments, classes, 10, span, overlap, background).tolist()

    # The window of 2 around snippet 6 shares half of itself with each; the shorter one is shared whole.
    assert labels(2, 0.5) == [9, 9, 4, 4, 4, 4, 5, 5, 9, 9]
    assert labels(2, 1.0) == [9, 9, 9, 4, 4, 4, 5, 5, 9, 9]
    # A window much longer than a segment shares all of it.
    assert labels(9, 0.9)[7] == 5
    empty = window_labels(np.zeros((0, 2)), np.zeros(0, int), 3, 2, 0.5, background)
    assert empty.tolist() == [background] * 3


def test_overlapping_segments_give_the_one_that_shares_more():
    segments, classes = np.array([[0.0, 4.0], [3.0, 8.0]]), np.array([0, 1])
    found = window_labels(segments, classes, 9, 3, 0.5, 2).tolist()
    assert found[1] == 0 and found[6] == 1


def test_sampler_reads_the_windows_it_labels(home):
    data = make_dataset(home)
    config = BaselineConfig(window=5, scales=[1, 2], windows_per_epoch=64, batch_size=20)
    sampler = WindowSampler(data, config)
    batches = sampler.epoch(0, torch.Generator().manual_seed(1))
    assert len(batches) == 4 and [len(batch["labels"]) for batch in batches] == [20, 20, 20, 4]
    again = sampler.epoch(0, torch.Generator().manual_seed(1))
    assert torch.equal(batches[2]["windows"], again[2]["windows"])
    rows = batches.order[:20]
    for row, window in zip(rows, batches[0]["windows"], strict=True):
        number, scale, centre = sampler.windows[row]
        features = data.features(sampler.videos[number])
        inside = [min(max(centre + step * scale, 0), 59) for step in range(-2, 3)]
        np.testing.assert_array_equal(window, features[inside])
    with pytest.raises(IndexError):
        batches[4]


def test_windows_read_from_disk_equal_those_in_memory(home, monkeypatch):
    data, config = make_dataset(home), BaselineConfig(windows_per_epoch=64)
    kept = WindowSampler(data, config).epoch(0, torch.Generator().manual_seed(1))[0]
    monkeypatch.setattr("tal_core.models.shared.feature_reader.MEMORY_BYTES", 0)
    sampler = WindowSampler(data, config)
    assert sampler.reader.kept is None
    assert torch.equal(sampler.epoch(0, torch.Generator().manual_seed(1))[0]["windows"], kept["windows"])


def test_class_balance_draws_rare_classes_more(home):
    data = make_dataset(home)

    def shares(balance):
        sampler = WindowSampler(data, BaselineConfig(class_balance=balance, windows_per_epoch=4000))
        drawn = sampler.epoch(0, torch.Generator().manual_seed(0)).order
        return np.bincount(sampler.labels[drawn], minlength=4) / len(drawn)

    assert shares(1.0) == pytest.approx([0.25] * 4, abs=0.03)
    assert shares(0.0)[3] > 0.3


def test_normalisation_comes_from_the_training_videos(home):
    data = make_dataset(home, channels=4)
    model = make_model()
    take_statistics(model, data, model.config)
    features = np.concatenate([data.features(video) for video in data.videos("training")])
    torch.testing.assert_close(model.mean.numpy(), features.mean(axis=0), rtol=1e-4, atol=1e-5)
    normal = model.normalise(torch.from_numpy(features))
    torch.testing.assert_close(normal.std(dim=0), torch.ones(4), rtol=1e-3, atol=1e-3)


def test_a_constant_channel_does_not_blow_up(home, monkeypatch):
    data = make_dataset(home, channels=4)
    read = type(data).features

    def constant(self, *arguments):
        features = np.array(read(self, *arguments))
        features[:, 3] = 7.3
        return features

    monkeypatch.setattr(type(data), "features", constant)
    model = make_model()
    take_statistics(model, data, model.config)
    assert model.std[3] == 1 and model.mean[3] == pytest.approx(7.3)
