"""Who needs class scores of whole videos and has none hears it before the first step."""

import json

import pytest

from tal_core.data.dataset.registry import add_dataset
from tal_core.inference.predict import load_model
from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.training.loop import train
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

SETTINGS = {
    "bmn": {"classifier": "video_scores"},
    "bsn": {"classifier": "video_scores"},
    "actionformer": {"classes": "agnostic"},
    "tridet": {"classes": "agnostic"},
    "temporalmaxer": {"classes": "agnostic"},
}
SMALL = {
    "classes": "agnostic",
    "score_fusion": "root",
    "epochs": 4,
    "warmup_epochs": 0,
    "learning_rate": 3e-3,
    "embed_dim": 16,
    "head_dim": 16,
    "levels": 3,
    "regression_bounds": [4, 8],
    "sequence_length": 64,
    "validate_every": 2,
    "device": "cpu",
    "initial_normaliser": 20,
}


@pytest.mark.parametrize("method", SETTINGS)
def test_training_without_class_scores_fails_at_once(home, method):
    make_dataset(home)
    run = create_run(home, "tiny", method, build_config(method, SETTINGS[method]), "r")
    with pytest.raises(InputError, match=r"no video-level class scores.*--class-scores") as raised:
        train(home, run)
    assert "\n" not in str(raised.value)
    assert run.status()["state"] == "failed" and run.metrics().empty


@pytest.mark.parametrize("method", ["actionformer", "tridet", "temporalmaxer"])
def test_a_pyramid_learns_proposals_and_takes_the_classes_of_the_video(home, method):
    dataset = make_dataset(home)
    scores = home.parent / "scores.json"
    named = {video: [0.2, 0.5, 0.3] for video in dataset.videos("testing")}
    scores.write_text(json.dumps({"class": ["wave", "kick", "jump"], "results": named}))
    entry = dataset.entry
    add_dataset(
        home,
        "scored",
        annotations=entry.annotations,
        features=entry.features,
        snippet_seconds=0.5,
        class_scores=scores,
    )
    run = create_run(home, "scored", method, build_config(method, SMALL), "r")
    assert train(home, run) == "finished"
    epochs = run.metrics().query("kind == 'epoch'")
    assert epochs["loss"].iloc[-1] < epochs["loss"].iloc[0]
    found = run.detections()
    assert set(found["label"]) == {"kick", "jump"} and run.evaluation() is not None
    # Root of the product: the two copies of a proposal differ by the root of 0.5 / 0.3.
    best = found[found["video_id"] == found["video_id"].iloc[0]].groupby("label")["score"].max()
    assert best["kick"] / best["jump"] == pytest.approx((5 / 3) ** 0.5, rel=1e-3)
    assert not (run.folder / "snippet_scores.npz").exists()
    network = load_model(run).network
    assert network.num_classes == 1 and len(load_model(run).info.labels) == 3
