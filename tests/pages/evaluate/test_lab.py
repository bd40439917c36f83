"""The post-processing lab on the Evaluate page."""

import json

import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.formats.detections import write_detections
from tal_core.evaluation.average_precision import evaluate
from tal_core.models.method import Candidates
from tal_core.postprocessing.candidates import post_process_predictions, save_candidates, suppression
from tal_core.runs.run import open_run
from tal_core.training.postprocessed_run import changed_config, provenance_of
from tests.pages.page_tools import button, open_page, small_dataset, small_run, table, texts

LABELS = ["jump", "run"]


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


def with_candidates(run, labels=tuple(LABELS), videos=("v4", "v5")):
    """Candidates around the annotations: the best of each is off, and a worse one exact."""
    candidates = {}
    for number, video in enumerate(videos, start=4):
        rows = [
            (2.0, 5.0, 0.9, 0),
            (2.0, 6.0, 0.8, 0),
            (7.0 + number, 11.0 + number, 0.7, 1),
            (8.0 + number, 12.0 + number, 0.6, 1),
            (0.0, 1.0, 0.02, 1),
        ]
        array = np.array(rows)
        classes = array[:, 3].astype(int)
        candidates[video] = Candidates(array[:, :2].astype("f4"), array[:, 2].astype("f4"), classes, 20.0)
    save_candidates(run.folder / "candidates.npz", candidates, list(labels))
    found = post_process_predictions(candidates, list(labels), suppression(changed_config(run, {})))
    write_detections(found, run.folder / "detections.json")
    return candidates


@pytest.fixture
def run(home):
    made = small_run(home, "finished")
    with_candidates(made)
    return made


def shown(app):
    return table(app, "settings").set_index("settings")


def slider(app, label: str):
    return next(one for one in [*app.slider, *app.select_slider] if one.label == label)


def errors(app) -> str:
    return "\n".join(box.value for box in app.error)


def test_untouched_the_lab_is_the_run_as_it_is(run):
    app = open_page("evaluate", dataset="small")
    assert not app.exception and not app.error
    rows = shown(app)
    assert rows.loc["lab", "average"] == pytest.approx(rows.loc["as it is", "average"])
    assert rows.loc["difference"].abs().max() == pytest.approx(0)
    assert "lab" not in app.query_params


def test_moving_the_controls_changes_the_numbers_and_the_address(run, home):
    app = open_page("evaluate", dataset="small", thresholds="0.7,0.9")
    before = shown(app).loc["lab", "average"]
    app.button_group(key="lab:first:nms").set_value("hard").run()
    slider(app, "NMS tIoU").set_value(0.3).run()
    slider(app, "Score threshold").set_value(0.1).run()
    assert not app.exception and not app.error
    data = open_dataset(home, "small")
    config = changed_config(run, {"nms": "hard", "nms_threshold": 0.3, "min_score": 0.1})
    candidates = with_candidates(run)
    found = post_process_predictions(candidates, LABELS, suppression(config))
    want = evaluate(data.ground_truth("testing"), found, [0.7, 0.9])
    rows = shown(app)
    assert rows.loc["lab", "average"] == pytest.approx(100 * want.average_mAP)
    assert rows.loc["lab", "average"] != pytest.approx(before)
    assert rows.loc["difference", "average"] == pytest.approx(rows.loc["lab", "average"] - before)
    assert set(app.query_params["lab"]) == {"nms=hard", "nms_threshold=0.3", "min_score=0.1"}
    button(app, "Reset to the run's own settings").click().run()
    assert not app.exception and shown(app).loc["lab", "average"] == pytest.approx(before)


def test_a_link_brings_its_settings_and_hard_nms_changes_them(run):
    link = ["nms=hard", "nms_threshold=0.5", "nms_per_class=false", "voting_threshold=0.7"]
    app = open_page("evaluate", dataset="small", thresholds="0.8", lab=link)
    assert not app.exception and not app.error
    assert slider(app, "NMS tIoU").value == 0.5
    assert slider(app, "Segment voting tIoU").value == 0.7
    voted = shown(app).loc["lab", "average"]
    slider(app, "Segment voting tIoU").set_value(0.0).run()
    assert not app.exception and shown(app).loc["lab", "average"] != pytest.approx(voted)


@pytest.mark.parametrize("link", ["nms_sigma=0", "nms=hardest", "epochs=3", "nonsense"])
def test_a_link_with_nonsense_gets_a_box_and_the_runs_own_settings(run, link):
    app = open_page("evaluate", dataset="small", lab=[link])
    assert not app.exception and link.split("=")[0] in errors(app)
    assert shown(app).loc["difference", "average"] == pytest.approx(0)


def test_keeping_writes_a_run_and_nothing_else(run, home):
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    app = open_page("evaluate", dataset="small", lab=["nms=hard", "nms_threshold=0.3"])
    app.button(key="lab:keep").click().run()
    assert not app.exception and not app.error
    assert "Kept as **first-lab1**" in texts(app)
    made = open_run(home, "first-lab1")
    assert made.config()["nms"] == "hard" and provenance_of(made)["source"] == "first"
    assert len(made.detections()) == 6
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()} == before
    app.button(key="lab:keep").click().run()
    assert "Kept as **first-lab2**" in texts(app), "the next name is free again"
    both = open_page("evaluate", dataset="small", run=["first", "first-lab1"], lab_run="first-lab1")
    assert not both.exception and not both.error
    assert table(both, "average")["run"].tolist() == ["first", "first-lab1"]
    assert "was kept from **first**: nms soft → hard" in texts(both)
    timeline = open_page("timeline", dataset="small", run="first-lab1")
    assert not timeline.exception and not timeline.error


def test_a_name_that_is_taken_gets_a_box(run):
    app = open_page("evaluate", dataset="small")
    next(box for box in app.text_input if box.label == "Name of the new run").set_value("first").run()
    app.button(key="lab:keep").click().run()
    assert not app.exception and "already a run 'first'" in errors(app)


def test_suggestions_come_with_a_fair_figure_or_a_warning(run):
    app = open_page("evaluate", dataset="small", thresholds="0.9")
    app.button(key="lab:search").click().run()
    assert not app.exception and not app.error
    assert "on the 1 videos held back" in texts(app) and "held back" in table(app, "chosen on")
    assert "flatter" not in texts(app)
    app.radio(key="lab:split").set_value(False).run()
    assert "flatter the figure" in texts(app)
    app.button(key="lab:search").click().run()
    best = table(app, "chosen on")["chosen on"].iloc[0]
    button(app, "Take the best settings").click().run()
    assert not app.exception and not app.error
    assert shown(app).loc["lab", "average"] == pytest.approx(best)


def upload_scores(app, content: dict | list):
    app.selectbox(key="lab:source").set_value("file").run()
    app.file_uploader(key="lab:file").upload("scores.json", json.dumps(content).encode()).run()
    return app


def test_class_scores_of_a_file_are_fused(run):
    app = open_page("evaluate", dataset="small")
    upload_scores(app, {"class": LABELS, "results": {"v4": [0.9, 0.1], "v5": [0.8, 0.2]}})
    app.number_input(key="lab:top_k").set_value(1).run()
    assert not app.exception and not app.error
    changes = table(app, "change").set_index("label")
    assert changes.loc["run", "lab"] == 0 and changes.loc["jump", "lab"] > 0
    app.selectbox(key="lab:mode").set_value("classes").run()
    assert not app.exception and not app.error
    app.button(key="lab:keep").click().run()
    assert not app.exception and "first-lab1" in texts(app)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"class": ["sit", "stand"], "results": {"v4": [1, 0]}}, "classes have no score"),
        ({"class": LABELS, "results": {"v4": [0.5, 0.5]}}, "1 of 2 videos have no class scores"),
        ({"class": LABELS, "results": {"v4": [-1, 0.5], "v5": [1, 2]}}, "negative"),
        ([], "unknown form"),
    ],
)
def test_class_scores_that_do_not_fit_get_a_box_and_the_lab_goes_on(run, content, words):
    app = upload_scores(open_page("evaluate", dataset="small"), content)
    assert not app.exception and words in errors(app) and "scores.json" in errors(app)
    assert "without these class scores" in texts(app)
    assert shown(app).loc["difference", "average"] == pytest.approx(0)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other videos", "other classes", "some classes"])
def test_candidates_that_do_not_fit_leave_the_page_useful(run, damage):
    path = run.folder / "candidates.npz"
    detections = (run.folder / "detections.json").read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "other videos":
        with_candidates(run, videos=("x1", "x2"))
    else:
        with_candidates(run, labels=("sit", "stand") if damage == "other classes" else ("jump", "stand"))
    (run.folder / "detections.json").write_bytes(detections)
    app = open_page("evaluate", dataset="small")
    assert not app.exception
    assert table(app, "average")["run"].tolist() == ["first"], "the other tabs still work"
    words = {
        "missing": "needs a run that keeps its candidates",
        "truncated": "can't be read",
        "other videos": "none of its 2 videos is here",
        "other classes": "none of its 2 classes is here",
        "some classes": "1 of its 2 classes are unknown here (first: 'stand')",
    }[damage]
    assert words in texts(app) + errors(app)


def test_a_dataset_brings_its_class_scores(run, home, tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"class": LABELS, "results": {"v4": [0.9, 0.1], "v5": [0.8, 0.2]}}))
    entry = home / "datasets" / "small.toml"
    entry.write_text(entry.read_text() + f'\nclass_scores = "{path}"\n')
    app = open_page("evaluate", dataset="small")
    app.selectbox(key="lab:source").set_value("dataset").run()
    assert not app.exception and not app.error
    app.number_input(key="lab:top_k").set_value(1).run()
    assert table(app, "change").set_index("label").loc["run", "lab"] == 0
