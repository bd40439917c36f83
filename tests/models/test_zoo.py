"""What every method of the registry must do, on data of every awkward kind."""

import json
import warnings

import numpy as np
import pytest
import torch

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.inference.predict import load_model, predict_dataset, predict_features
from tal_core.models.data_summary import summarise
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config, form_fields
from tal_core.runs.run import create_run
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.training.synthetic import make_dataset

EPOCHS = 4
# Less of what only takes time, for the methods that have it.
SMALL = {
    "repeats": 1,
    "encoder_channels": 32,
    "classifier_channels": 32,
    "base_channels": 32,
    "map_channels": 16,
    "sample_channels": 16,
    "embed_dim": 64,
    "head_dim": 64,
}
names = pytest.mark.parametrize("name", list(METHODS))


def suggested(name, dataset, **settings):
    """A method's config as its own suggestions have it, but short."""
    chosen = {field: hint.value for field, hint in METHODS[name].suggest(summarise(dataset)).items()}
    quick = {"epochs": EPOCHS, "warmup_epochs": 1, "validate_every": 0, "device": "cpu"}
    known = {field.name for field in form_fields(METHODS[name].config)}
    quick |= {field: value for field, value in SMALL.items() if field in known}
    return build_config(name, {**chosen, **quick, **settings})


def trained(home, name, dataset, run_id="run", **settings):
    run = create_run(home, dataset.name, name, suggested(name, dataset, **settings), run_id)
    assert train(home, run) == "finished"
    return run


def odd_dataset(home, folder, *, classes=("kick", "wave")):
    """Videos of one snippet, of many, and without ground truth; a class that only evaluation knows."""
    random = np.random.default_rng(0)
    lengths = {"one": 1, "two": 2, "short": 9, "empty": 40, "usual": 60, "long": 700, "held": 50, "dot": 1}
    segments = {
        "one": [(0, 0.5, 0)],
        "two": [(0, 0.2, 1), (0.2, 1.0, 0)],
        "short": [(1, 4.5, 0)],
        "usual": [(0, 30, 1), (2, 3, 0), (2, 3, 1), (28, 33, 0)],
        "long": [(s, s + 9, s // 50 % 2) for s in range(5, 340, 50)] + [(10, 320, 0)],
        "held": [(3, 9, 0)],
        "dot": [(0, 0.5, 1)],
    }
    (folder / "features").mkdir(parents=True)
    database = {}
    for video, length in lengths.items():
        np.save(folder / "features" / f"{video}.npy", random.normal(size=(length, 4)).astype(np.float16))
        rows = [
            {"segment": [s, e], "label": classes[k % len(classes)]} for s, e, k in segments.get(video, [])
        ]
        if video == "held" and len(classes) > 1:
            rows.append({"segment": [12, 20], "label": "zzz only evaluated"})
        subset = "testing" if video in ("held", "dot") else "training"
        database[video] = {"subset": subset, "duration": length / 2, "annotations": rows}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    add_dataset(
        home,
        "odd",
        annotations=folder / "annotations.json",
        features=[folder / "features"],
        snippet_seconds=0.5,
    )
    return open_dataset(home, "odd")


@names
def test_its_own_suggestions_are_allowed_and_explained(home, name):
    dataset = make_dataset(home)
    hints = METHODS[name].suggest(summarise(dataset))
    fields = {field.name for field in form_fields(METHODS[name].config)}
    assert set(hints) <= fields
    for field, hint in hints.items():
        assert hint.reason and "\n" not in hint.reason, field
    config = suggested(name, dataset)
    assert METHODS[name].check(config, summarise(dataset)) == [
        text for text in METHODS[name].check(config, summarise(dataset)) if text.strip()
    ]


@names
def test_learns_what_the_features_show(home, name):
    """Each class raises a channel of its own: a method that learns anything finds the segments."""
    dataset = make_dataset(home, videos=16, snippets=64)
    chosen = METHODS[name].suggest(summarise(dataset))
    epochs = min(chosen["epochs"].value, 30) if "epochs" in chosen else 10
    run = trained(home, name, dataset, epochs=epochs, seed=1)
    assert run.evaluation().average_mAP > 0.4, run.evaluation().mAP


@names
def test_stopping_and_resuming_takes_the_same_steps(home, name, monkeypatch):
    dataset = make_dataset(home)
    whole = trained(home, name, dataset, "whole")
    stopped = create_run(home, dataset.name, name, suggested(name, dataset), "stopped")
    done = []

    def stop_in_the_middle(step, total, message):
        if message == "training":
            done.append(step)
            if step == total // 2 + 1:
                (stopped.folder / "stop").touch()

    assert train(home, stopped, progress=stop_in_the_middle) == "stopped"
    assert train(home, stopped, resume=True) == "finished"
    first, second = whole.metrics(), stopped.metrics()
    ends = [table[table["kind"] == "epoch"]["loss"].to_numpy() for table in (first, second)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)
    for file in ("last.safetensors",):
        pair = [load_model(run).network.state_dict() for run in (whole, stopped)]
        for weight in pair[0]:
            assert torch.allclose(pair[0][weight], pair[1][weight], atol=1e-6), (file, weight)


@names
def test_odd_videos_train_and_are_detected(home, tmp_path, name):
    dataset = odd_dataset(home, tmp_path / "odd")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run = trained(home, name, dataset)
    assert METHODS[name].suggest(summarise(dataset)) is not None
    table, _ = predict_dataset(home, run, "odd", subset="training")
    assert np.isfinite(table[["start", "end", "score"]].to_numpy()).all()
    assert (table["start"] >= 0).all() and (table["end"] >= table["start"]).all()
    durations = table["video_id"].map(dataset.duration)
    assert (table["end"] <= durations + 0.5 + 1e-4).all()


@names
def test_one_class(home, tmp_path, name):
    dataset = odd_dataset(home, tmp_path / "odd", classes=("only",))
    run = trained(home, name, dataset)
    assert set(run.detections()["label"]) <= {"only"}


@names
def test_a_single_snippet_and_a_very_long_array(home, name):
    run = trained(home, name, make_dataset(home, channels=4))
    model = load_model(run)
    random = np.random.default_rng(1)
    for length in (1, 2, 3, 4000):
        features = random.normal(size=(length, 4)).astype(np.float32)
        table, scores = predict_features(model, features, TimeGrid(0.5, 0.25))
        assert np.isfinite(table[["start", "end", "score"]].to_numpy()).all()
        assert table["score"].is_monotonic_decreasing
        assert scores is None or scores.shape == (length, 3)
    with pytest.raises(InputError, match="5 channels"):
        predict_features(model, np.zeros((9, 5)))


@names
def test_detections_don_t_depend_on_the_videos_beside(home, name):
    dataset = make_dataset(home)
    run = trained(home, name, dataset)
    whole, _ = predict_dataset(home, run, dataset.name)
    video = whole["video_id"].iloc[0]
    alone, _ = predict_features(run, dataset.features(video), dataset.grid(video), video_id=video)
    together = whole[whole["video_id"] == video].reset_index(drop=True)
    assert len(alone) == len(together)
    assert np.allclose(alone[["start", "end", "score"]], together[["start", "end", "score"]], atol=1e-4)
