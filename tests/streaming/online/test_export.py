"""Networks written for other programs give the run's scores, or nothing is written."""

import json

import numpy as np
import pytest
import torch

from tal_core.cli import main
from tal_core.inference.predict import TrainedModel
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.models.shared.weights import WeightsInfo
from tal_core.streaming.online import export
from tal_core.streaming.online.export import FORMATS, export_run, why_not
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.training.synthetic import make_dataset, make_run

SMALL = {
    "miniroad": {"embed_dim": 8, "hidden_dim": 6, "layers": 2},
    "baseline": {"hidden_channels": 8, "window": 5, "scales": [1, 2]},
}


def model_of(name):
    """An untrained network with features of another mean."""
    torch.manual_seed(0)
    config = build_config(name, SMALL.get(name))
    network = METHODS[name].build(config, 5, 3).eval()
    if name in SMALL:
        network.mean += 0.7
    info = WeightsInfo(name, ["a", "b", "c"], 5, 1, TimeGrid(0.5, 0.25))
    return TrainedModel(network, config, info, torch.device("cpu"))


def some_features():
    random = np.random.default_rng(0)
    return [random.normal(size=(length, 5)).astype(np.float32) for length in (80, 1)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_exported_or_says_why_not(tmp_path, name, kind):
    if why_not(name, kind):
        with pytest.raises(InputError, match=f"{name} (lays out a video|pools)"):
            export_run(model_of(name), kind, tmp_path / "out", some_features())
        assert not list(tmp_path.iterdir())
        return
    said = export_run(model_of(name), kind, tmp_path / "out", some_features())
    assert said == json.loads((tmp_path / "out.json").read_text())
    assert said["largest_difference"] <= 1e-4 and said["labels"] == ["a", "b", "c"]
    assert said["grid"]["stride"] == 0.5 and said["inputs"]["features"][-1] == 5
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.json"}


def test_an_exported_stream_step_alone_is_the_network(tmp_path):
    """With nothing of ours: a TorchScript file and its state."""
    model = model_of("miniroad")
    export_run(model, "torchscript", tmp_path / "net.pt", some_features())
    loaded, state, found = torch.jit.load(str(tmp_path / "net.pt")), torch.zeros(2, 1, 6), []
    features = torch.from_numpy(some_features()[0])
    for row in features:
        scores, state = loaded(row.view(1, 1, -1), state)
        found.append(scores[0, 0])
    assert torch.allclose(torch.stack(found), model.network.snippet_scores(features), atol=1e-5)


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setitem(export._WRITERS, "onnx", wrong_writer)
    with pytest.raises(InputError, match="differ by up to"):
        export_run(model_of("baseline"), "onnx", tmp_path / "net.onnx", some_features())
    assert not list(tmp_path.iterdir())


def wrong_writer(module, example, path):
    """Writes something that gives other scores."""
    del example
    path.write_bytes(b"net")
    return lambda features: module(features) + 0.01


def test_the_command(home, tmp_path, capsys):
    make_dataset(home)
    assert train(home, make_run(home, epochs=1)) == "finished"
    out = tmp_path / "net.pt"
    assert main(["export", "--run", "run", "--format", "torchscript", "--out", str(out)]) == 0
    assert out.exists() and "largest difference" in capsys.readouterr().out
    assert main(["export", "--run", "absent", "--format", "onnx", "--out", str(out)]) == 2


def test_the_description_names_the_extractor_of_the_runs_features(home, tmp_path, capsys):
    out = tmp_path / "baseline.pt"
    assert main(["export", "--run", "demo-baseline", "--format", "torchscript", "--out", str(out)]) == 0
    said = json.loads((tmp_path / "baseline.pt.json").read_text())
    assert said["extractor"]["name"] == "motion" and said["inputs"]["features"] == ["T", 306]
    assert said["extractor"]["stride_seconds"] == said["grid"]["stride"]
    data = make_dataset(home, videos=4)
    run = make_run(home, run_id="foreign", epochs=1)
    assert data.entry.extractor is None and train(home, run) == "finished"
    assert main(["export", "--run", "foreign", "--format", "torchscript", "--out", str(out)]) == 0
    assert json.loads((tmp_path / "baseline.pt.json").read_text())["extractor"] is None
    capsys.readouterr()
