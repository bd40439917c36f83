import json
import os
import shutil

import pytest

from tal_core.models.settings import build_config
from tal_core.runs import run as runs
from tal_core.runs.run import Run, create_run, list_runs, open_run
from tal_core.training.loop import train
from tal_core.types import InputError
from tests.training.synthetic import make_dataset, make_run


@pytest.fixture
def run(home) -> Run:
    make_dataset(home)
    return make_run(home)


def test_a_new_run_is_complete(home, run):
    assert run.status()["state"] == "created" and run.status()["epochs"] == 2
    config = run.config()
    assert config["dataset"] == "tiny" and config["model"] == "baseline"
    assert build_config("baseline", run.settings()) == build_config(
        "baseline", {**run.settings(), "epochs": "2"}
    )
    assert run.metrics().empty and run.evaluation() is None and run.log_tail() == ""
    with pytest.raises(InputError, match="no detections yet"):
        run.detections()
    assert open_run(home, "run") == run and os.fspath(run) == str(run.folder)


def test_ids(home, run):
    config = build_config("baseline")
    with pytest.raises(InputError, match="already a run 'run'"):
        create_run(home, "tiny", "baseline", config, "run")
    with pytest.raises(InputError, match="can't be the name of a run"):
        create_run(home, "tiny", "baseline", config, "../run")
    with pytest.raises(InputError, match="no dataset 'huge'"):
        create_run(home, "huge", "baseline", config)
    with pytest.raises(InputError, match=r"no run 'walk'. Known runs: .*run"):
        open_run(home, "walk")
    chosen = {create_run(home, "tiny", "baseline", config).run_id for _ in range(3)}
    assert len(chosen) == 3 and all(name.startswith("tiny-baseline-") for name in chosen)


def test_runs_are_listed_newest_first(home, run, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "DEMO", tmp_path / "shipped")
    make_run(home, run_id="a-later-one")
    shutil.copytree(run.folder, tmp_path / "shipped" / "runs" / "example")
    (home / "runs" / "no-run").mkdir()
    listed = list_runs(home)
    assert [one.run_id for one in listed] == ["a-later-one", "run", "example"]
    assert listed[2].shipped and not listed[0].shipped
    with pytest.raises(InputError, match="came with the program"):
        train(home, listed[2])


def test_metrics_forget_what_a_crash_repeated_or_cut_short(run):
    lines = [
        {"kind": "step", "epoch": 1, "step": 1, "loss": 3.0},
        {"kind": "step", "epoch": 1, "step": 2, "loss": 2.0},
        {"kind": "step", "epoch": 1, "step": 2, "loss": 1.0},
        {"kind": "validation", "epoch": 1, "step": 2, "tiou": [0.5], "mAP": [0.2], "average_mAP": 0.2},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "st'
    (run.folder / "metrics.jsonl").write_text(text)
    metrics = run.metrics()
    assert metrics.loc[metrics["kind"] == "step", "loss"].tolist() == [3.0, 1.0]
    assert metrics["average_mAP"].iloc[-1] == 0.2


def test_a_line_cut_short_does_not_swallow_the_next(home, run):
    (run.folder / "metrics.jsonl").write_text('{"kind": "st')
    train(home, run)
    metrics = run.metrics()
    assert metrics.loc[0, "kind"] == "step" and metrics.loc[0, "step"] == 1


def test_a_deleted_run_says_so(home, run):
    shutil.rmtree(run.folder)
    for read in (run.status, run.config, run.metrics, run.log_tail, run.detections):
        with pytest.raises(InputError, match="folder is gone"):
            read()
    assert list_runs(home) == [one for one in list_runs(home) if one.shipped]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model": "baseline"}', '{"dataset": 1}'])
def test_a_broken_config_says_so(home, run, content):
    (run.folder / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        run.config()
    assert "config.json" in str(error.value)
    with pytest.raises(InputError):
        train(home, run)


def test_a_config_edited_by_hand_is_validated(home, run):
    path = run.folder / "config.json"
    path.write_text(path.read_text().replace('"epochs": 2', '"epochs": -2'))
    with pytest.raises(InputError, match=r"config\.json: epochs can't be -2"):
        train(home, run)
