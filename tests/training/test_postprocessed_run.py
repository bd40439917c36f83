"""A run with other post-processing settings, made of another run's candidates."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tal_core.cli import main
from tal_core.data.formats.class_scores import ClassScores
from tal_core.inference.predict import predict_dataset
from tal_core.postprocessing.candidates import load_candidates, post_process_predictions, suppression
from tal_core.postprocessing.fusion import Fusion
from tal_core.postprocessing.lab import open_candidates
from tal_core.runs.run import list_runs, open_run
from tal_core.training.loop import train
from tal_core.training.postprocessed_run import changed_config, derive_run, free_name, provenance_of
from tal_core.types import InputError
from tests.training.synthetic import CLASSES, make_dataset, make_run


@pytest.fixture
def data(home):
    return make_dataset(home)


@pytest.fixture
def run(home, data):
    made = make_run(home, epochs=1)
    train(home, made)
    return made


def stored_of(run, data):
    return open_candidates(run.folder / "candidates.npz", data.labels, data.videos("testing"))


def content(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_new_run_is_whole_and_the_old_one_stays(home, data, run):
    before = content(run.folder)
    config = changed_config(run, {"nms": "hard", "nms_threshold": "0.3", "max_detections": 5})
    made = derive_run(home, run, data, stored_of(run, data), config, note="chosen on half of the videos")
    assert content(run.folder) == before
    assert made.run_id == "run-lab1" and open_run(home, "run-lab1").status()["state"] == "finished"
    assert made.config() == {**run.config(), "nms": "hard", "nms_threshold": 0.3, "max_detections": 5}
    candidates, labels = load_candidates(made.folder / "candidates.npz")
    want = post_process_predictions(candidates, labels, suppression(config))
    assert made.detections()[["start", "end", "label", "score"]].equals(want.drop(columns="video_id"))
    assert made.evaluation().average_mAP == made.status()["average_mAP"]
    provenance = provenance_of(made)
    assert provenance["source"] == "run" and provenance["note"] == "chosen on half of the videos"
    assert provenance["changed"] == {
        "nms": ["soft", "hard"],
        "nms_threshold": [0.5, 0.3],
        "max_detections": [200, 5],
    }
    assert provenance["candidates"]["segments"] == sum(map(len, candidates.values()))
    assert provenance["average_mAP"]["source"] == run.evaluation().average_mAP
    assert provenance_of(run) is None and {one.run_id for one in list_runs(home)} >= {"run", "run-lab1"}
    again, _ = predict_dataset(home, made, data.name, device="cpu")
    assert len(again) == len(made.detections()), "its weights and settings are its own"


def test_names_are_never_used_twice(home, data, run):
    stored, config = stored_of(run, data), changed_config(run, {})
    assert derive_run(home, run, data, stored, config).run_id == "run-lab1"
    assert free_name(home, "run") == "run-lab2" and free_name(home, "x" * 80) == "x" * 75 + "-lab1"
    with pytest.raises(InputError, match="already a run 'run'"):
        derive_run(home, run, data, stored, config, run_id="run")
    with pytest.raises(InputError, match="can't be the name"):
        derive_run(home, run, data, stored, config, run_id="../run")


def test_a_run_that_could_not_be_written_is_not_there(home, data, run, monkeypatch):
    def full(*_):
        raise InputError("no space left")

    monkeypatch.setattr("tal_core.training.postprocessed_run.write_detections", full)
    with pytest.raises(InputError, match="no space"):
        derive_run(home, run, data, stored_of(run, data), changed_config(run, {}))
    assert not (home / "runs" / "run-lab1").exists()


def test_files_are_copied_where_they_can_not_be_linked(home, data, run, monkeypatch):
    def refuse(*_):
        raise OSError("other disk")

    monkeypatch.setattr(os, "link", refuse)
    made = derive_run(home, run, data, stored_of(run, data), changed_config(run, {}))
    weights = "checkpoints/last.safetensors"
    assert (made.folder / weights).read_bytes() == (run.folder / weights).read_bytes()


def test_class_scores_become_part_of_its_candidates(home, data, run):
    stored = stored_of(run, data)
    vectors = {video: np.array([0.1, 0.9, 0.5], np.float32) for video in stored.candidates}
    scores = ClassScores(Path("mine.json"), list(CLASSES), vectors)
    config = changed_config(run, {})
    made = derive_run(
        home, run, data, stored, config, fusion=Fusion("weigh", top_k=1), class_scores=scores, run_id="f"
    )
    candidates, labels = load_candidates(made.folder / "candidates.npz")
    assert {int(label) for found in candidates.values() for label in found.labels} == {1}
    again = post_process_predictions(candidates, labels, suppression(config))
    assert made.detections()["score"].tolist() == again["score"].tolist()
    assert set(made.detections()["label"]) == {"kick"}
    fusion = provenance_of(made)["class_scores"]
    assert (fusion["file"], fusion["mode"], fusion["top_k"]) == ("mine.json", "weigh", 1)
    assert len(fusion["sha256"]) == 64


@pytest.mark.parametrize(
    "settings",
    [{"nms_sigma": "0"}, {"nms": "hardest"}, {"nms_threshold": "2"}, {"min_score": "-1"}, {"epochs": "3"}],
)
def test_nonsense_settings_are_refused(run, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        changed_config(run, settings)


def test_the_command(home, data, run, capsys, tmp_path):
    call = ["postprocess", "--run", "run"]
    assert main([*call, "--set", "nms=hard", "--set", "nms_threshold=0.3", "--run-id", "new"]) == 0
    words = capsys.readouterr().out
    assert "new" in words and "average mAP" in words and "as it was" in words
    assert open_run(home, "new").config()["nms"] == "hard"
    assert main([*call, "--set", "epochs=3"]) == 2
    assert "epochs is no setting of post-processing" in capsys.readouterr().err
    scores = tmp_path / "scores.json"
    videos = data.videos("testing")
    scores.write_text(json.dumps({"class": list(CLASSES), "results": {v: [0.2, 0.5, 0.3] for v in videos}}))
    assert main([*call, "--class-scores", str(scores), "--fusion", "classes", "--top-k", "1"]) == 0
    assert set(open_run(home, "run-lab1").detections()["label"]) == {"kick"}
    assert main([*call, "--class-scores", "dataset"]) == 2
    assert "no video-level class scores" in capsys.readouterr().err
    (run.folder / "candidates.npz").unlink()
    assert main(call) == 2
    assert "there is no such file" in capsys.readouterr().err
