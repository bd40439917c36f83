import json

import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.segmentation import segmentation_scores
from tests.pages.page_tools import finish, open_page, selectbox, small_dataset, small_run, table, texts


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


@pytest.fixture
def run(home):
    made = small_run(home, "finished")
    finish(made)
    return made


def upload(app, name: str, text: str):
    app.file_uploader(key="evaluate_upload").upload(name, text.encode(), "application/json").run()
    return app


def test_shows_the_map_of_the_engine(run, home):
    app = open_page("evaluate", dataset="small")
    assert not app.exception and not app.error
    data = open_dataset(home, "small")
    expected = evaluate(data.ground_truth("testing"), run.detections(), data.tiou)
    shown = table(app, "average")
    assert shown["average"].iloc[0] == pytest.approx(100 * expected.average_mAP)
    assert "subset **testing** of **small**" in texts(app) and "official protocol" in texts(app)


def test_settings_live_in_the_address(run):
    app = open_page("evaluate", dataset="small", thresholds="0.5,0.75", protocol="toolbox", subset="training")
    assert not app.exception and not app.error
    assert table(app, "average").columns.tolist() == ["run", "mAP@0.5", "mAP@0.75", "average"]
    assert "toolbox protocol" in texts(app)
    assert "has no detections in these videos" in texts(app)
    selectbox(app, "Subset").set_value("all subsets").run()
    assert "**all subsets** of **small**" in texts(app) and app.query_params["protocol"] == "toolbox"


def test_wrong_thresholds_get_a_box(run):
    app = open_page("evaluate", dataset="small", thresholds="0.5:2")
    assert not app.exception and "0.5:2" in app.error[0].value


def test_several_runs_and_every_view(run, home):
    finish(small_run(home, "finished", "second"))
    app = open_page("evaluate", dataset="small", run=["first", "second"])
    assert not app.exception
    assert table(app, "average")["run"].tolist() == ["first", "second"]
    assert table(app, "what").columns.tolist() == ["what", "first", "second"]
    app.selectbox(key="evaluate_class").set_value("run").run()
    app.selectbox(key="evaluate_map_run").set_value("second").run()
    assert not app.exception and "run: 2 annotations" in texts(app)


def test_a_subset_without_ground_truth_leaves_the_detections(run, tmp_path):
    annotations = tmp_path / "small.json"
    content = json.loads(annotations.read_text())
    content["database"]["v9"] = {"subset": "hidden", "duration": 20.0, "annotations": []}
    annotations.write_text(json.dumps(content))
    app = open_page("evaluate", dataset="small", subset="hidden")
    assert not app.exception and "no ground truth" in app.error[0].value
    assert "See the detections on the timeline" in [link.proto.label for link in app.get("page_link")]
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels == ["ActivityNet JSON", "CSV"]


def test_without_runs_says_what_to_do():
    app = open_page("evaluate", dataset="small")
    assert not app.exception and "Choose a run or a detections file" in texts(app)


def test_an_uploaded_file_is_evaluated(run):
    perfect = {
        f"v{number}": [
            {"segment": [2.0, 6.0], "label": "jump", "score": 0.9},
            {"segment": [8.0 + number, 12.0 + number], "label": "run", "score": 0.8},
        ]
        for number in (4, 5)
    }
    app = upload(open_page("evaluate", dataset="small"), "mine.json", json.dumps({"results": perfect}))
    assert not app.exception and not app.error
    shown = table(app, "average").set_index("run")
    assert shown.loc["file mine.json", "average"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"results": {"v4": [{"segment": [1, 2], "score": "high"}]}}']
)
def test_a_wrong_file_gets_a_box_that_names_it(run, text):
    app = upload(open_page("evaluate", dataset="small"), "bad.json", text)
    assert not app.exception
    assert "bad.json" in app.error[0].value
    assert table(app, "average")["run"].tolist() == ["first"], "the rest of the page still works"


def test_unknown_videos_and_labels_of_a_file_are_named(run):
    entries = [{"segment": [2.0, 6.0], "label": "fly", "score": 0.9}]
    app = upload(
        open_page("evaluate", dataset="small"), "mine.json", json.dumps({"results": {"x4": entries}})
    )
    assert not app.exception and not app.error
    words = "\n".join(box.value for box in app.warning)
    assert "1 unknown videos (first: x4)" in words and "1 unknown labels (first: fly)" in words


def test_recall_and_frames_of_a_run(run, home):
    app = open_page("evaluate", dataset="small")
    assert not app.exception and not app.error
    recall = table(app, "AUC")
    assert recall["run"].tolist() == ["first"] and 0 < recall["AUC"][0] <= 99
    frames = table(app, "edit")
    assert frames["run"].tolist() == ["first"] and 0 < frames["accuracy"][0] <= 100
    app.select_slider(key="pick:frames").set_value("0.9").run()
    assert table(app, "edit")["score at least"].tolist() == [0.9]
    data = open_dataset(home, "small")
    durations = data.index.set_index("video_id")["duration"][data.videos("testing")].to_dict()
    step = app.number_input(key="frame_step:small").value
    truth = data.ground_truth("testing")
    expected = segmentation_scores(truth, run.detections(), durations, step, min_score=0.9).means()
    assert table(app, "edit").iloc[0, 2:].to_dict() == pytest.approx(expected)
    assert app.query_params["frames"] == "0.9"


def test_a_run_without_segments_here_has_nothing_to_recall(run):
    app = open_page("evaluate", dataset="small", subset="training")
    assert not app.exception and not app.error
    assert any("nothing to recall: **first**" in box.value for box in app.info)
