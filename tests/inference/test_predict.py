import json

import numpy as np
import pandas as pd
import pytest
import torch

from tal_core.inference.predict import load_model, predict_dataset, predict_features
from tal_core.models.shared.weights import read_info, save_weights
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.training.synthetic import make_dataset, make_run


@pytest.fixture
def data(home):
    return make_dataset(home)


@pytest.fixture
def run(home, data):
    run = make_run(home, epochs=4)
    train(home, run)
    return run


def test_a_dataset_gives_the_runs_own_detections(home, run, data):
    table, predictions = predict_dataset(home, run, "tiny", device="cpu")
    pd.testing.assert_frame_equal(
        table.reset_index(drop=True), run.detections(), check_dtype=False, check_exact=False, atol=1e-6
    )
    assert list(predictions.candidates) == data.videos("testing") and predictions.labels == data.labels
    other, _ = predict_dataset(home, run, "tiny", subset="training")
    assert set(other["video_id"]) == set(data.videos("training"))


def test_features_without_a_dataset_use_the_training_grid(run, data):
    video = data.videos("testing")[0]
    table, scores = predict_features(run, data.features(video), video_id=video)
    own = run.detections().query("video_id == @video")
    np.testing.assert_allclose(table["start"], own["start"], atol=1e-4)
    assert scores.shape == (60, 3)
    stretched, _ = predict_features(load_model(run), data.features(video), TimeGrid(1.0, 0.5))
    np.testing.assert_allclose(stretched["end"], 2 * table["end"], atol=1e-3)
    one, _ = predict_features(run, np.zeros((1, 5)))
    assert set(one["video_id"]) <= {"video"}


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (np.zeros((9, 4)), "features have 4 channels, but the run was trained on 5"),
        (np.zeros(9), "shape"),
        (np.zeros((0, 5)), "shape"),
        (np.zeros((2, 9, 5)), "shape"),
        (np.array([["a"] * 5]), "type"),
        (np.full((9, 5), np.nan), "NaN"),
    ],
    ids=["channels", "1-D", "empty", "3-D", "text", "NaN"],
)
def test_wrong_features(run, features, said):
    with pytest.raises(InputError, match=said):
        predict_features(run, features, video_id="mine")


def test_another_datasets_features(home, run):
    make_dataset(home, "wide", channels=7)
    with pytest.raises(InputError, match="dataset wide: features have 7 channels"):
        predict_dataset(home, run, "wide")


def test_untrained_run(home, data):
    with pytest.raises(InputError, match=r"there are no weights. Train the run first"):
        load_model(make_run(home, run_id="new"))


def test_checkpoints_that_do_not_belong(home, run):
    path = run.checkpoints / "last.safetensors"
    content, info = path.read_bytes(), read_info(path)

    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="can't be read as safetensors"):
        load_model(run)

    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="can't be read as safetensors"):
        load_model(run)

    path.write_bytes(content)
    config = run.folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_channels": 16', '"hidden_channels": 8'))
    with pytest.raises(InputError, match="but the config needs"):
        load_model(run)

    save_weights(path, {}, info.__class__("bmn", info.labels, info.num_features, 1, info.grid))
    with pytest.raises(InputError, match="are weights of bmn, but the run's config says baseline"):
        load_model(run)


def test_config_of_a_method_that_is_not_here(run):
    path = run.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model": "magic"}))
    with pytest.raises(InputError, match="no method 'magic'"):
        load_model(run)
