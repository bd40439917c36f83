import json
import shutil

import numpy as np
import pytest

from tal_core.data.dataset.registry import add_dataset
from tal_core.workspace import write_json
from tests.pages.page_tools import button, open_page, selectbox, small_dataset, small_run, table, texts


def detect(run, *entries) -> None:
    results = {}
    for video, start, end, label, score in entries:
        results.setdefault(video, []).append({"segment": [start, end], "label": label, "score": score})
    write_json(run.folder / "detections.json", {"version": "1", "results": results})


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


@pytest.fixture
def run(home):
    """Video v5 (test) is all wrong, v4 half right."""
    made = small_run(home, "finished")
    detect(
        made,
        ("v4", 2.0, 6.0, "jump", 0.9),
        ("v4", 2.5, 6.0, "jump", 0.8),
        ("v5", 15.0, 19.0, "jump", 0.7),
        ("v5", 0.0, 1.0, "run", 0.6),
        ("v5", 2.0, 3.0, "jump", 0.4),
    )
    return made


def test_the_most_wrong_video_comes_first(run):
    app = open_page("timeline", dataset="small", score="0")
    assert not app.exception and not app.error
    assert selectbox(app, "Video (most wrong first)").value == "v5"
    assert table(app, "errors")["errors"].tolist() == [5, 2]
    assert app.query_params["video"] == "v5" and app.query_params["run"] == "first"


def test_a_link_restores_the_whole_view(run, home):
    detect(small_run(home, "finished", "second"), ("v4", 8.0, 16.0, "run", 0.3))
    query = {"dataset": "small", "run": ["first", "second"], "video": "v4", "tiou": "0.7", "score": "0.85"}
    app = open_page("timeline", **query, classes="jump")
    assert not app.exception and not app.warning
    for key, value in {**query, "classes": "jump"}.items():
        assert app.query_params[key] == value
    segments = table(app, "outcome")
    assert segments["label"].unique().tolist() == ["jump"]
    assert segments["row"].tolist() == ["Ground truth", "first"]
    assert "score ≥ 0.85" in texts(app)


def test_a_filter_keeps_video_and_runs(run):
    app = open_page("timeline", dataset="small", video="v4")
    app.select_slider(key="pick:tiou").set_value("0.9").run()
    assert app.query_params["video"] == "v4" and app.query_params["run"] == "first"
    assert app.query_params["tiou"] == "0.9" and not app.warning


def test_the_score_threshold_is_chosen_and_named(run):
    app = open_page("timeline", dataset="small", video="v4")
    assert "score ≥ 0.9 (best F1, 0.40, over the subset at tIoU 0.5)" in texts(app)
    assert (table(app, "outcome")["row"] == "first").sum() == 1


def test_steps_through_the_videos(run):
    app = open_page("timeline", dataset="small", score="0")
    assert button(app, "Previous").disabled
    button(app, "Next").click().run()
    assert app.query_params["video"] == "v4" and button(app, "Next").disabled


def test_a_link_to_a_training_video_shows_its_subset():
    app = open_page("timeline", dataset="small", video="v0")
    assert app.query_params["subset"] == "training" and app.query_params["video"] == "v0"
    assert not app.warning


def test_without_runs_the_ground_truth_shows_and_training_is_offered():
    app = open_page("timeline", dataset="small")
    assert not app.exception and len(table(app, "outcome")) == 2
    assert "There are no runs on **small** yet" in texts(app)


def test_a_run_still_training_is_named(home):
    small_run(home, "stopped", "young")
    app = open_page("timeline", dataset="small")
    assert not app.exception
    assert "**young**, is stopped" in texts(app)


def test_a_deleted_run_leaves_the_rest(run, home):
    app = open_page("timeline", dataset="small", video="v4")
    shutil.rmtree(run.folder)
    app.run()
    assert not app.exception and "`first`, which isn't here" in texts(app)
    assert table(app, "outcome")["row"].tolist() == ["Ground truth"] * 2


def test_faulty_detections_get_a_box(run):
    (run.folder / "detections.json").write_text('{"results": {"v4": [')
    app = open_page("timeline", dataset="small")
    assert not app.exception and "detections.json" in app.error[0].value


def test_a_video_without_annotations(tmp_path, home, run):
    path = tmp_path / "small.json"
    content = json.loads(path.read_text())
    content["database"]["v5"]["annotations"] = []
    path.write_text(json.dumps(content))
    app = open_page("timeline", dataset="small", video="v5", score="0")
    assert not app.exception and not app.error
    assert set(table(app, "outcome")["outcome"]) == {"background"}


def test_a_class_name_with_a_comma_survives_the_address_bar(home, tmp_path):
    features, database = tmp_path / "comma-features", {}
    features.mkdir()
    for number in range(2):
        np.save(features / f"v{number}.npy", np.zeros((20 + number, 4), np.float32))
        segments = [{"segment": [1.0, 5.0], "label": label} for label in ("clean, jerk", "run")]
        subset = ("training", "testing")[number]
        database[f"v{number}"] = {"subset": subset, "duration": 20.0, "annotations": segments}
    annotations = tmp_path / "comma.json"
    write_json(annotations, {"database": database})
    add_dataset(home, "comma", annotations=annotations, features=features, snippet_seconds=1.0)
    app = open_page("timeline", dataset="comma")
    app.multiselect(key="pick:classes").set_value(["clean, jerk"]).run()
    app.run()
    assert not app.warning
    assert app.multiselect(key="pick:classes").value == ["clean, jerk"]
    assert table(app, "outcome")["label"].tolist() == ["clean, jerk"]


def test_a_run_that_never_saw_a_subset_has_missed_nothing_there(run):
    app = open_page("timeline", dataset="small", subset="training", run="first")
    assert not app.exception
    assert "**first** has no detections in videos of this subset" in texts(app)
    assert "missed" not in str(table(app, "outcome")["outcome"].tolist())
