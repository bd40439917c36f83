import json
from urllib.parse import parse_qs, urlsplit

import pytest

from pages.compare import runs_and_verdict
from tal_core.data.dataset.dataset import open_dataset
from tal_core.evaluation.average_precision import evaluate
from tal_core.importing.run_of_detections import keep_detections
from tal_core.training.profile import Cost
from tal_core.training.run_table import recorded_cost
from tal_core.types import InputError
from tal_core.workspace import write_json
from tests.pages.page_tools import (
    button,
    finish,
    open_page,
    selectbox,
    small_dataset,
    small_run,
    table,
    texts,
)

SECTIONS = ["mAP", "Classes", "Videos", "Segments", "Training", "Settings and cost"]
MEASURED = Cost(1234, 2.5, 100.0, 4, 0.01, 0.1, 20.0, 20, 100, 30.0, "cpu", "float32")


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


@pytest.fixture
def runs(home):
    """``first`` finds one annotation; ``second`` all but one, and has other settings."""
    first, second = small_run(home, "finished"), small_run(home, "finished", "second")
    finish(first)
    finish(second)
    rows = [{"segment": [2.0, 6.0], "label": "jump", "score": 0.9}]
    wide = {"segment": [12.0, 16.0], "label": "run", "score": 0.8}
    write_json(second.folder / "detections.json", {"results": {"v4": [*rows, wide], "v5": rows}})
    write_json(second.folder / "config.json", {**second.config(), "batch_size": 7})
    return first, second


def test_the_table_shows_what_runs_recorded_and_where_they_differ(runs):
    write_json(runs[0].cost_file, MEASURED.__dict__)
    app = open_page("compare", dataset="small")
    assert not app.exception and not app.error
    shown = table(app, "parameters").set_index("run")
    assert set(shown.index) == {"first", "second"} and "dataset" not in shown
    assert shown.loc["first", ["parameters", "gflops_per_minute", "times_real_time"]].tolist() == [
        1234,
        2.5,
        200,
    ]
    assert shown.loc["second", ["gflops_per_minute", "times_real_time"]].isna().all()
    assert shown["batch_size"].to_dict() == {"first": "128", "second": "7"} and "epochs" not in shown
    app.text_input(key="compare_filter").set_value("sec").run()
    assert table(app, "parameters")["run"].tolist() == ["second"] and "batch_size" not in table(
        app, "parameters"
    )
    app.text_input(key="compare_filter").set_value("").run()
    app.toggle(key="compare_everywhere").set_value(True).run()
    assert "demo-baseline" in table(app, "parameters")["run"].tolist()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section(runs, home, section):
    app = open_page("compare", dataset="small", run=["first", "second"], comparison=section)
    assert not app.exception and not app.error
    data = open_dataset(home, "small")
    truth = data.ground_truth("testing")
    averages = [evaluate(truth, run.detections(), data.tiou).average_mAP for run in runs]
    assert [metric.value for metric in app.metric[:2]] == [f"{100 * a:.2f} %" for a in averages]
    assert "95 % interval of the difference" in texts(app) and "1000 times" in texts(app)


def test_rows_lead_to_the_timeline_with_both_runs(runs):
    app = open_page("compare", dataset="small", run=["first", "second"], comparison="Segments", match="0.5")
    shown = table(app, "timeline")
    assert shown[["video_id", "start", "label"]].to_numpy().tolist() in (
        [["v5", 2.0, "jump"], ["v4", 12.0, "run"]],
        [["v4", 12.0, "run"], ["v5", 2.0, "jump"]],
    )
    query = parse_qs(urlsplit(shown["timeline"].iloc[0]).query)
    assert query["run"] == ["first", "second"] and query["dataset"] == ["small"]
    app = open_page("timeline", **query)
    assert not app.exception and not app.error and not app.warning
    app = open_page("compare", dataset="small", run=["first", "second"], comparison="Videos")
    videos = table(app, "annotations").set_index("video_id")
    assert videos.loc["v5", "second"] > videos.loc["v5", "first"]
    assert "equal in **0**" in texts(app) or "equal in **1**" in texts(app)


def test_one_run_and_too_many_runs(runs, home):
    app = open_page("compare", dataset="small", run=["second", "first", "second"])
    assert not app.exception and app.query_params["run"] == ["second", "first"]
    app.multiselect[0].set_value(["second"]).run()
    assert not app.exception and "Choose two runs" in texts(app)
    assert "Choose two runs" in texts(open_page("compare", dataset="demo"))


def test_measuring_keeps_the_cost(runs, home, monkeypatch):
    def measure(_, run):
        write_json(run.cost_file, MEASURED.__dict__)

    monkeypatch.setattr(runs_and_verdict, "measure_run", measure)
    app = open_page("compare", dataset="small", run=["first", "second"], comparison="Settings and cost")
    button(app, "Measure first").click().run()
    assert not app.exception and recorded_cost(runs[0]) == MEASURED
    assert all(b.label != "Measure first" for b in app.button)

    def fail(*_):
        raise InputError("one step takes longer than 120 s here")

    monkeypatch.setattr(runs_and_verdict, "measure_run", fail)
    button(app, "Measure second").click().run()
    assert "takes longer" in app.error[0].value


@pytest.mark.parametrize("section", SECTIONS)
def test_imported_runs_need_no_special_code(runs, home, section):
    keep_detections(home, open_dataset(home, "small"), runs[1].detections(), "x.json", run_id="theirs")
    app = open_page("compare", dataset="small", run=["first", "theirs"], comparison=section)
    assert not app.exception and not app.error


@pytest.mark.parametrize("page", ["overview", "timeline", "evaluate", "diagnose", "train"])
def test_other_pages_take_imported_runs(runs, home, page):
    keep_detections(home, open_dataset(home, "small"), runs[1].detections(), "x.json", run_id="theirs")
    app = open_page(page, dataset="small", run="theirs", panel="Watch a run")
    assert not app.exception and not app.error


def test_published_results_are_marked_and_never_guessed(runs):
    app = open_page("compare", dataset="small", run=["first", "second"], comparison="mAP")
    assert selectbox(app, "Published results of").value == "none"
    selectbox(app, "Published results of").set_value("THUMOS14").run()
    assert "aren't those of THUMOS14" in texts(app)
    box = next(box for box in app.multiselect if box.label == "Results to draw")
    assert box.value == []
    box.set_value(["TriDet (I3D)"]).run()
    assert not app.exception
    drawn = json.loads(app.get("plotly_chart")[0].proto.spec)
    names = [trace["name"] for trace in drawn["data"]]
    assert names[-1] == "TriDet (I3D), average 69.27 %, published, not measured here"


def test_an_upload_is_kept_as_a_run(runs, home):
    app = open_page("evaluate", dataset="small", run="first")
    rows = [{"segment": [2.0, 6.0], "label": "jump", "score": 0.9}]
    content = json.dumps({"results": {"v_v4": rows}}).encode()
    app.file_uploader(key="evaluate_upload").upload("their results.json", content, "application/json").run()
    assert "1 of 1 video ids match only without 'v_'" in texts(app)
    button(app, "Keep as a run").click().run()
    assert not app.exception and not app.error
    assert "Kept as the run **their-results**" in texts(app)
    assert app.query_params["run"] == ["first", "their-results"]
    button(app, "Keep as a run").click().run()
    assert "already a run" in app.error[0].value


def test_an_uploaded_pickle_is_refused(runs):
    app = open_page("evaluate", dataset="small", run="first")
    app.file_uploader(key="evaluate_upload").upload("eval.pkl", b"\x80\x04.", "application/x").run()
    assert not app.exception and "never opened" in app.error[0].value and "eval.pkl" in app.error[0].value
