"""MiniROAD gives the numbers of the reference implementation; tests/golden/miniroad/README.md."""

import numpy as np
import pytest
import safetensors.torch
import torch

from tal_core.models.config import validated
from tal_core.models.miniroad import (
    METHOD,
    MiniRoad,
    MiniRoadConfig,
    WindowSampler,
    from_reference,
    label_loss,
    snippet_targets,
    window_ends,
)
from tal_core.models.presets import presets
from tal_core.types import InputError, TimeGrid
from tests.paths import GOLDEN as GOLDEN_FOLDER
from tests.training.synthetic import make_dataset

GOLDEN = GOLDEN_FOLDER / "miniroad"
FEATURES, CLASSES = 32, 21
CONFIG = MiniRoadConfig(embed_dim=24, hidden_dim=16, window=16, window_stride=4, dropout=0.0)


@pytest.fixture(scope="module", name="case")
def _case():
    return dict(np.load(GOLDEN / "case.npz"))


@pytest.fixture(name="model")
def _model():
    model = MiniRoad(CONFIG, FEATURES, CLASSES)
    model.load_state_dict(from_reference(safetensors.torch.load_file(GOLDEN / "weights.safetensors")))
    return model


def features(case, name):
    """The reference's streams side by side."""
    return torch.from_numpy(np.concatenate([case[f"{name}_rgb"], case[f"{name}_flow"]], axis=-1))


def videos(case, name):
    """Slices of the videos that stand behind one another."""
    ends = case[f"{name}_lengths"].cumsum()
    return [slice(end - length, end) for end, length in zip(ends, case[f"{name}_lengths"], strict=True)]


def golden_batch(case):
    """The reference's batch with its last labels, where the windows are filled up already."""
    return {
        "windows": features(case, "batch"),
        "padding": torch.zeros(len(case["batch_rgb"]), dtype=torch.int64),
        "targets": torch.from_numpy(case["batch_target"][:, -1:]),
    }


@pytest.mark.parity
def test_logits(case, model):
    logits, _ = model(features(case, "batch"))
    assert logits.detach().numpy() == pytest.approx(case["batch_logits"], abs=1e-4)


@pytest.mark.parity
def test_embedding_state_and_probabilities_of_whole_videos(case, model):
    for part in videos(case, "test"):
        x = features(case, "test")[part].unsqueeze(0)
        with torch.no_grad():
            embedding = model.embed(model.normalise(x))
            hidden, _ = model.gru(embedding)
            logits, state = model(x)
        assert embedding[0].numpy() == pytest.approx(case["test_embedding"][part], abs=1e-5)
        assert hidden[0].numpy() == pytest.approx(case["test_hidden"][part], abs=1e-5)
        assert state[0, 0].numpy() == pytest.approx(case["test_hidden"][part][-1], abs=1e-5)
        assert logits[0].numpy() == pytest.approx(case["test_logits"][part], abs=1e-4)
        assert logits[0].softmax(1).numpy() == pytest.approx(case["test_probability"][part], abs=1e-5)
        assert model.snippet_scores(x[0]).numpy() == pytest.approx(
            case["test_probability"][part, 1:], abs=1e-5
        )


@pytest.mark.parity
def test_snippet_by_snippet_is_the_whole_sequence(case, model):
    for part in videos(case, "test"):
        state, found = model.zero_state(), []
        for row in features(case, "test")[part]:
            scores, state = model.advance(row.view(1, 1, -1), state)
            found.append(scores[0, 0])
        whole = model.snippet_scores(features(case, "test")[part])
        assert torch.stack(found).numpy() == pytest.approx(whole.numpy(), abs=1e-6)
        assert torch.stack(found).numpy() == pytest.approx(
            case["test_probability_streaming"][part, 1:], abs=1e-5
        )


@pytest.mark.parity
def test_loss_and_gradients(case, model):
    loss = model.loss(golden_batch(case))["loss"]
    assert loss.item() == pytest.approx(float(case["loss"]), rel=1e-5)
    loss.backward()
    norms = dict(zip(case["grad_name"], case["grad_norm"], strict=True))
    renamed = from_reference(dict.fromkeys(norms, model.mean) | {"layer1.0.weight": model.embedding.weight})
    for ours, theirs in zip(renamed, norms, strict=False):
        assert model.get_parameter(ours).grad.norm().item() == pytest.approx(norms[theirs], rel=1e-4), ours


@pytest.mark.parity
def test_loss_of_each_window(case, model):
    logits, _ = model(features(case, "batch"))
    for number, expected in enumerate(case["loss_per_window"]):
        target = torch.from_numpy(case["batch_target"][number, -1])
        assert label_loss(logits[number, -1], target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parity
def test_windows(case):
    found = window_ends(case["train_lengths"], case["train_window_offset"], 4)
    assert found[:, 0].tolist() == case["train_window_video"].tolist()
    # The last snippet of the window at p of the video behind 15 rows of zeros is its snippet p.
    assert found[:, 1].tolist() == case["train_window_start_padded"].tolist()


@pytest.mark.parity
def test_batches_are_the_references(home, case):
    """Windows over the beginning of a video are filled up with zeros."""
    dataset = make_dataset(home)
    sampler = WindowSampler(dataset, CONFIG)
    train = videos(case, "train")

    class Reader:
        def gather(self, names, snippets):
            return torch.stack(
                [features(case, "train")[train[n]][i] for n, i in zip(names, snippets, strict=True)]
            )

    sampler.videos, sampler.reader = [0, 1], Reader()
    sampler.targets = [torch.from_numpy(case["train_target"][part]) for part in train]
    windows = window_ends(case["train_lengths"], case["train_window_offset"], 4)
    batch = sampler.read(windows[case["batch_window"]])
    before = torch.arange(16) < batch["padding"].unsqueeze(1)
    filled = batch["windows"].masked_fill(before.unsqueeze(2), 0)
    assert torch.equal(filled, features(case, "batch"))
    assert torch.equal(batch["targets"][:, 0], torch.from_numpy(case["batch_target"][:, -1]))


@pytest.mark.parity
def test_zeros_stand_for_the_mean_before_a_video(case, model):
    """What is filled up is 0 after normalisation, whatever the features' mean."""
    plain = model.loss(golden_batch(case))["loss"]
    model.mean += 3
    moved = golden_batch(case)
    moved["windows"] = moved["windows"] + 3
    moved["windows"][0, :15], moved["padding"][0] = 99, 0
    early = golden_batch(case)
    early["windows"], early["padding"] = early["windows"] + 3, early["padding"].clone()
    assert model.loss(early)["loss"].item() == pytest.approx(plain.item(), rel=1e-5)
    early["windows"][:, :5], early["padding"][:] = 99, 5
    zeros = golden_batch(case)
    zeros["windows"] = zeros["windows"].clone() + 3
    zeros["windows"][:, :5] = 3
    assert model.loss(early)["loss"].item() == pytest.approx(model.loss(zeros)["loss"].item(), rel=1e-6)


def test_more_than_the_last_snippet_may_count(home):
    dataset = make_dataset(home)
    config = MiniRoadConfig(embed_dim=8, hidden_dim=8, window=12, window_stride=6, counted=6, dropout=0)
    sampler = WindowSampler(dataset, config)
    batch = sampler.read(np.array([[0, 2], [1, 30]]))
    assert batch["targets"].shape == (2, 6, 4) and batch["padding"].tolist() == [9, 0]
    assert batch["targets"][0, :3].sum() == 0  # before the video: nothing is asked for
    assert torch.equal(batch["targets"][1], sampler.targets[1][25:31])
    model = METHOD.build(config, 5, 3)
    both = model.loss(batch)["loss"]
    alone = [model.loss({name: value[n : n + 1] for name, value in batch.items()})["loss"] for n in (0, 1)]
    assert both.item() == pytest.approx((3 * alone[0] + 6 * alone[1]).item() / 9, rel=1e-5)
    with pytest.raises(InputError, match="counted"):
        validated(MiniRoadConfig, {"window": 4, "counted": 5})


def test_labels_of_snippets():
    segments = np.array([[0.6, 2.0], [2.0, 2.9], [4.2, 4.4], [-9.0, -3.0]])
    targets = snippet_targets(segments, np.array([0, 1, 1, 0]), 6, 2)
    assert targets[:, 1].tolist() == [1, 1, 1, 0, 0, 0]
    assert targets[:, 2].tolist() == [0, 0, 1, 0, 1, 0]
    assert targets[:, 0].tolist() == [0, 0, 0, 1, 0, 1]


@pytest.mark.parity
def test_the_future_changes_no_score(model, case):
    x = features(case, "test")[:60]
    changed = x.clone()
    changed[40:] = 5
    assert torch.equal(model.snippet_scores(x)[:40], model.snippet_scores(changed)[:40])


@pytest.mark.parity
def test_candidates_are_stretches_above_thresholds(model, case):
    found, scores = model.candidates(features(case, "test")[:60], TimeGrid(0.25, 0.125))
    assert len(found) and found.segments.max() <= 15 and (np.diff(found.segments, axis=1) > 0).all()
    assert (np.diff(found.scores) <= 0).all() and scores.shape == (60, CLASSES)


def test_the_defaults_are_the_published_settings():
    published = presets("miniroad")["thumos14"].settings
    config = MiniRoadConfig()
    assert {name: getattr(config, name) for name in published if name != "normalise"} == {
        name: value for name, value in published.items() if name != "normalise"
    }
    assert (published["embed_dim"], published["hidden_dim"], published["window"]) == (2048, 1024, 128)
