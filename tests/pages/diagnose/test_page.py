import json

import pandas as pd
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import entry_path, load_entry, save_entry
from tal_core.evaluation.diagnosis.diagnose import diagnose
from tal_core.workspace import write_json
from tests.pages.page_tools import finish, open_page, selectbox, small_dataset, small_run, table, texts

SECTIONS = [
    "What to mend",
    "False positives",
    "Sensitivity",
    "Missed",
    "Boundaries",
    "Scores",
    "Classes",
    "Videos",
]
ENTRIES = {
    "v4": [
        {"segment": [2.0, 6.0], "label": "jump", "score": 0.9},
        {"segment": [12.0, 16.5], "label": "jump", "score": 0.8},
        {"segment": [12.0, 18.5], "label": "run", "score": 0.7},
        {"segment": [18.0, 19.5], "label": "run", "score": 0.2},
    ],
    "v5": [{"segment": [2.0, 4.1], "label": "jump", "score": 0.6}],
}


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


@pytest.fixture
def run(home):
    made = small_run(home, "finished")
    finish(made)
    write_json(made.folder / "detections.json", {"version": "1", "results": ENTRIES})
    return made


def click(app, number: int, customdata: list):
    """What the browser sends when a bar or cell of the page's figure ``number`` is clicked."""
    key = app.get("plotly_chart")[number].proto.id.split("-", 2)[-1]
    app.session_state[key] = {"selection": {"points": [{"customdata": customdata}]}}
    return app.run()


CLICKS = {
    "What to mend": (0, ["wrong label"], "**wrong label**: 1 segment"),
    "False positives": (0, ["true positive", 0, 2], "**true positive in 1G**: 2 segments"),
    "Sensitivity": (0, ["length", 0], "missed ones first**: 4 segments"),
    "Missed": (0, ["length", 0], "**missed, length up to 4 s**: 1 segment"),
    "Boundaries": (0, ["end", 2.0, 3e7], "**ends off by +2 s and later**: 1 segment"),
    "Scores": (0, [0.8, 0.9], "**score 0.8 to 0.9, wrong ones first**: 1 segment"),
    "Classes": (0, ["run", "missed"], "**run: missed**: 1 segment"),
}


@pytest.mark.parametrize("section", CLICKS)
def test_a_click_lists_the_segments_behind_it(run, section):
    number, customdata, words = CLICKS[section]
    app = click(
        open_page("diagnose", dataset="small", section=section, buckets="quantiles"), number, customdata
    )
    assert not app.exception and not app.error
    assert words in texts(app)
    shown = table(app, "timeline")
    assert shown["timeline"].str.startswith("timeline?dataset=small&run=first&video=v").all()
    assert shown["timeline"].str.contains("&at=").all()


@pytest.mark.parametrize(
    ("section", "customdata", "words"),
    [
        ("Sensitivity", ["coverage", 0, "run"], ", run, missed ones first**: 2 segments"),
        ("Missed", ["coverage", 0, "length", 0], "**missed, coverage up to 20 % and length up to 4 s**"),
        ("Classes", ["run", "jump"], "**annotated run, detected jump**"),
    ],
)
def test_a_click_on_a_cell_lists_its_segments(run, section, customdata, words):
    app = click(open_page("diagnose", dataset="small", section=section, buckets="quantiles"), 1, customdata)
    assert not app.exception and not app.error
    assert words in texts(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_shows(run, section):
    app = open_page("diagnose", dataset="small", section=section)
    assert not app.exception and not app.error and not app.warning
    assert "Fixing this error would gain most" in texts(app)
    assert app.query_params["section"] == section


def test_shows_the_numbers_of_the_engine(run, home):
    app = open_page("diagnose", dataset="small", tiou="0.6")
    data = open_dataset(home, "small")
    durations = data.index.set_index("video_id")["duration"]
    found = diagnose(data.ground_truth("testing"), run.detections(), [0.6], durations=durations)
    assert f"mAP at tIoU 0.6: **{100 * found.average_map:.1f} %**" in texts(app)


def test_settings_live_in_the_address(run):
    app = open_page("diagnose", dataset="small", subset="all subsets", buckets="thumos14", section="Missed")
    assert not app.exception and not app.error
    assert selectbox(app, "Subset").value == "all subsets"
    assert selectbox(app, "Buckets").value == "thumos14"
    assert app.query_params["subset"] == "all subsets"


def test_videos_by_errors(run):
    app = open_page("diagnose", dataset="small", section="Videos", best="5G")
    shown = table(app, "errors").set_index("video_id")
    assert shown.loc["v4", "wrong label"] == 1
    assert shown.loc["v5", "localization error"] + shown.loc["v5", "true positive"] == 1
    assert shown["errors"].is_monotonic_decreasing


def test_without_runs_says_what_to_do():
    app = open_page("diagnose", dataset="small")
    assert not app.exception and "Choose a run or a detections file" in texts(app)


def test_a_subset_without_detections_is_still_diagnosed(run):
    app = open_page("diagnose", dataset="small", subset="training")
    assert not app.exception and not app.error
    assert "No detection lies in an annotated video" in texts(app)


def test_empty_detections_are_still_diagnosed(run):
    write_json(run.folder / "detections.json", {"version": "1", "results": {}})
    for section in SECTIONS:
        app = open_page("diagnose", dataset="small", section=section)
        assert not app.exception and not app.error, section
        assert "There are no detections" in texts(app)


def upload(app, name: str, text: str):
    app.file_uploader(key="diagnose_upload").upload(name, text.encode(), "application/json").run()
    return app


def test_an_uploaded_file_is_diagnosed_instead_of_the_run(run):
    perfect = {
        f"v{number}": [
            {"segment": [2.0, 6.0], "label": "jump", "score": 0.9},
            {"segment": [8.0 + number, 12.0 + number], "label": "run", "score": 0.8},
        ]
        for number in (4, 5)
    }
    app = upload(open_page("diagnose", dataset="small"), "mine.json", json.dumps({"results": perfect}))
    assert not app.exception and not app.error
    assert "file **mine.json**" in texts(app) and "Nothing would be gained" in texts(app)


def test_a_wrong_file_gets_a_box_and_the_run_stays_away(run):
    app = upload(open_page("diagnose", dataset="small"), "bad.json", "{")
    assert not app.exception
    assert "bad.json" in app.error[0].value


def test_a_subset_without_ground_truth_gets_a_box(tmp_path, home, run):
    annotations = tmp_path / "small.json"
    content = json.loads(annotations.read_text())
    content["database"]["v9"] = {"subset": "hidden", "duration": 20.0, "annotations": []}
    annotations.write_text(json.dumps(content))
    app = open_page("diagnose", dataset="small", subset="hidden")
    assert not app.exception
    assert "no ground truth" in app.error[0].value
    assert "See the detections on the timeline" in [link.proto.label for link in app.get("page_link")]


def test_an_uploaded_file_s_ids_are_fitted_and_blocked_videos_left_out(tmp_path, home, run):
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("v5")
    entry = load_entry(home, "small")
    save_entry(entry.model_copy(update={"blocked": blocked}), entry_path(home, "small"))
    rows = [{"segment": [2.0, 6.0], "label": "jump", "score": 0.9}]
    text = json.dumps({"results": {"v_v4": rows, "v5": rows}})
    app = upload(open_page("diagnose", dataset="small"), "mine.json", text)
    assert not app.exception and not app.error
    assert "1 of 2 video ids match only without 'v_' in front" in texts(app)
    assert "1 detections of blocked videos were left out" in texts(app)


def test_rows_lead_to_the_timeline_with_all_it_needs(run, home):
    from pages.diagnose.inputs import View

    data = open_dataset(home, "small")
    view = View(data, "first", run.detections(), "testing", 0.5, "auto")
    row = pd.Series(
        {"video_id": "v4", "start": 18.0, "end": 19.5, "outcome": "background error", "score": 0.20009}
    )
    expected = {"dataset": "small", "run": "first", "video": "v4", "tiou": "0.5", "at": "18.000-19.500"}
    assert view.timeline(row) == {**expected, "subset": "testing", "score": "0.2000"}
    row["outcome"] = "missed"
    assert view.timeline(row)["score"] == "best F1"


def test_a_stretch_in_the_address_reaches_the_timeline(run):
    app = open_page("timeline", dataset="small", run="first", video="v4", at="18.000-19.500", score="0.2000")
    assert not app.exception and not app.warning
    assert '"focus":[18.0,19.5]' in str(app.get("bidi_component")[0].proto).replace(" ", "").replace("\\", "")
