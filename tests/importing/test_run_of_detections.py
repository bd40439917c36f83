import json

import numpy as np
import pandas as pd
import pytest

from tal_core.cli import main
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.importing.run_of_detections import import_detections, rename_videos
from tal_core.runs.run import list_runs
from tal_core.types import InputError


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    """Six videos of 20 s with the two annotations that ``perfect`` repeats; the last two are for testing."""
    features = tmp_path / "features"
    features.mkdir()
    database = {}
    for number in range(6):
        np.save(features / f"v{number}.npy", np.zeros((20, 3), np.float32))
        segments = [([2.0, 6.0], "jump"), ([8.0 + number, 12.0 + number], "run")]
        database[f"v{number}"] = {
            "subset": "training" if number < 4 else "testing",
            "duration": 20.0,
            "annotations": [{"segment": segment, "label": label} for segment, label in segments],
        }
    annotations = tmp_path / "small.json"
    annotations.write_text(json.dumps({"database": database}))
    add_dataset(home, "small", annotations=annotations, features=features, snippet_seconds=1.0)


def perfect(prefix: str = "") -> dict:
    """Every annotation of the two testing videos."""
    return {
        f"{prefix}v{number}": [
            {"segment": [2.0, 6.0], "label": "jump", "score": 0.9},
            {"segment": [8.0 + number, 12.0 + number], "label": "run", "score": 0.8},
        ]
        for number in (4, 5)
    }


def written(folder, results, name="results.json"):
    path = folder / name
    path.write_text(json.dumps({"version": "1", "results": results}))
    return path


def test_a_file_becomes_a_finished_run(tmp_path, home):
    run, notes = import_detections(home, "small", written(tmp_path, perfect()), run_id="theirs")
    assert notes == [] and list_runs(home)[0].run_id == "theirs"
    assert run.config() == {
        "dataset": "small", "model": "imported", "detections_file": "results.json", "video_prefix": "",
    }  # fmt: skip
    assert run.status()["state"] == "finished" and "100.00 %" in run.status()["message"]
    assert run.evaluation().average_mAP == 1.0 and run.metrics().empty
    assert len(run.detections()) == 4
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["dataset"]["fingerprint"] == open_dataset(home, "small").fingerprint()


def test_csv_is_taken_too(tmp_path, home):
    path = tmp_path / "mine.csv"
    path.write_text("video_id,start,end,label,score\nv4,2,6,jump,0.9\n")
    run, _ = import_detections(home, "small", path)
    assert run.evaluation().average_mAP == pytest.approx(0.25)


def test_a_prefix_too_much_is_recognised(tmp_path, home):
    run, notes = import_detections(home, "small", written(tmp_path, perfect("v_")))
    assert run.evaluation().average_mAP == 1.0
    assert notes == ["2 of 2 video ids match only without 'v_' in front, so they were renamed."]


def test_a_name_that_the_file_has_already_is_not_given_twice():
    table = pd.DataFrame({"video_id": ["v_a", "b", "v_b", "c"]})
    renamed, notes = rename_videos(table, ["v_a", "v_b", "v_c"])
    assert renamed["video_id"].tolist() == ["v_a", "b", "v_b", "v_c"]
    assert notes == ["1 of 4 video ids match only with 'v_' in front, so they were renamed."]


def test_a_missing_prefix_is_recognised_or_given(tmp_path, home):
    results = {video.removeprefix("v"): rows for video, rows in perfect().items()}
    with pytest.raises(InputError, match="give --prefix"):
        import_detections(home, "small", written(tmp_path, results))
    run, notes = import_detections(home, "small", written(tmp_path, results), prefix="v")
    assert run.evaluation().average_mAP == 1.0 and "'v' was put in front" in notes[0]


def test_strangers_are_counted(tmp_path, home):
    strange = {"other": [{"segment": [0, 1], "label": "fly", "score": 0.5}] * 2}
    run, notes = import_detections(home, "small", written(tmp_path, {**perfect(), **strange}))
    assert len(notes) == 2 and "2 detections are of 1 unknown videos (“other”)" in notes[0]
    assert "1 unknown labels (“fly”): they are ignored" in notes[1]
    assert all(note in run.log_tail() for note in notes)


def test_detections_of_other_subsets_and_proposals_have_no_map(tmp_path, home):
    training = {"v0": [{"segment": [2.0, 6.0], "label": "jump", "score": 0.9}]}
    run, _ = import_detections(home, "small", written(tmp_path, training))
    assert run.evaluation() is None and "no mAP" in run.status()["message"]
    proposals = {"v4": [{"segment": [2.0, 6.0], "score": 0.9}]}
    run, notes = import_detections(home, "small", written(tmp_path, proposals))
    assert run.evaluation() is None and "proposals" in run.status()["message"] and notes == []


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({}, "there are no detections"),
        ({"x": [{"segment": [0, 1], "label": "run", "score": 1}]}, "none of its 1 videos"),
        ({"v4": [{"segment": [0, 1], "label": "fly", "score": 1}]}, "none of its 1 labels.*“fly”.*“jump”"),
    ],
)
def test_what_does_not_belong_makes_no_run(tmp_path, home, results, words):
    before = len(list_runs(home))
    with pytest.raises(InputError, match=words):
        import_detections(home, "small", written(tmp_path, results))
    assert len(list_runs(home)) == before


@pytest.mark.parametrize("name", ["eval.pkl", "eval.pth", "scores.npy"])
def test_pickles_and_arrays_are_not_opened(tmp_path, home, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"never opened|isn't read") as error:
        import_detections(home, "small", tmp_path / name)
    assert "Save the results as JSON" in str(error.value)


def test_a_run_id_in_use_is_refused_and_kept(tmp_path, home):
    run, _ = import_detections(home, "small", written(tmp_path, perfect()), run_id="theirs")
    before = run.detections()
    with pytest.raises(InputError, match="already a run 'theirs'"):
        import_detections(home, "small", written(tmp_path, perfect("v_")), run_id="theirs")
    pd.testing.assert_frame_equal(run.detections(), before)


def test_the_command(tmp_path, home, capsys):
    path = written(tmp_path, perfect("v_"))
    asked = ["import-detections", "--dataset", "small", "--detections", str(path), "--run-id", "theirs"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "run theirs" in said and "note: 2 of 2 video ids" in said and "100.00" in said
    assert main(asked) == 2
    assert capsys.readouterr().err.count("\n") == 1
