import json

import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.evaluation.average_precision import evaluate
from tal_core.inference.predict import predict_dataset
from tal_core.models.settings import build_config
from tal_core.runs.run import Run, create_run, list_runs
from tal_core.training.shipping import ship_run
from tal_core.types import InputError
from tal_core.workspace import DEMO


@pytest.fixture
def shipped(home) -> Run:
    return next(run for run in list_runs(home) if run.shipped)


def test_the_shipped_numbers_are_those_of_the_shipped_detections(home, shipped):
    demo = open_dataset(home, "demo")
    truth, videos = demo.ground_truth(demo.evaluation_subset), demo.videos(demo.evaluation_subset)
    result = evaluate(truth, shipped.detections(), demo.tiou, videos=videos)
    assert result.to_json() == shipped.evaluation().to_json()


def test_the_shipped_detections_are_those_of_the_shipped_weights(home, shipped):
    table, _ = predict_dataset(home, shipped, "demo")
    expected = shipped.detections()
    assert len(table) == pytest.approx(len(expected), rel=0.01)
    np.testing.assert_allclose(table["score"].nlargest(200), expected["score"].nlargest(200), atol=1e-3)


def test_a_shipped_run_says_nothing_of_the_machine_it_was_made_on(shipped):
    for path in shipped.folder.rglob("*.json*"):
        text = path.read_text()
        for word in ('"pid"', '"host"', '"platform"', "/home", "/tmp", "/root"):
            assert word not in text, path


def test_shipping_copies_a_finished_run(shipped, tmp_path):
    copy = ship_run(shipped, tmp_path)
    assert copy.evaluation().to_json() == shipped.evaluation().to_json()
    assert json.loads((copy.folder / "config.json").read_text()) == shipped.config()


def test_a_run_that_has_not_finished_is_not_shipped(home, tmp_path):
    run = create_run(home, "demo", "baseline", build_config("baseline"), "young")
    with pytest.raises(InputError, match=r"young.*hasn't finished"):
        ship_run(run, tmp_path)


def test_all_that_ships_fits():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 25e6
