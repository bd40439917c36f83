"""The page Live, on folders of streams as they are on disk."""

import json
import shutil
import time
from dataclasses import fields

import cv2
import numpy as np
import pytest

from tal_core.background.processes import this_process
from tal_core.models.shared.weights import WeightsInfo, save_weights
from tal_core.streaming.live import launch
from tal_core.streaming.live.choices import stream_runs
from tal_core.streaming.live.folder import create_stream, list_streams, open_stream, score_row
from tal_core.streaming.online.delay_tradeoff import Tradeoff
from tal_core.types import InputError, TimeGrid
from tal_core.workspace import DEMO, write_json
from tests.pages.page_tools import button, open_page, selectbox, small_dataset, small_run, table, texts

LABELS = ["jump", "run"]
STATS = {
    "seconds": 12.0,
    "frames": 300,
    "fps": 24.9,
    "dropped": 7,
    "events": 3,
    "gaps": 1,
    "reconnects": 2,
    "latency_ms": {"p50": 12.3, "p95": 45.6, "p99": 60.0},
}


def event(kind, segment, label, start, end, score=0.8):
    return {"kind": kind, "segment": segment, "label": label, "start": start, "end": end, "score": score}


def small_stream(home, state="running", stream_id="first", error=None, **stats):
    """A stream in any state, with scores, a picture, a closed and an open segment and a gap."""
    config = {"run": "demo-baseline", "source": "demo_001.mp4", "delay": None, "paced": True}
    stream = create_stream(home, config, stream_id)
    alive = this_process() if state not in ("finished", "stopped", "failed") else {}
    status = {"state": state, "error": error, "labels": LABELS, "heartbeat": time.time(), **alive}
    write_json(stream.folder / "status.json", {**status, "stats": {**STATS, **stats}})
    records = [
        {"kind": "stream", "run": "demo-baseline", "labels": LABELS},
        event("start", 0, "run", 1.0, None),
        event("end", 0, "run", 1.2, 3.4),
        {"kind": "gap", "start": 5.0, "end": 6.0, "reason": "it ended"},
        event("start", 1, "jump", 9.0, None),
    ]
    (stream.folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = np.zeros(60, score_row(2))
    rows["seconds"], rows["scores"] = 0.1 + 0.2 * np.arange(60), 0.4
    (stream.folder / "scores.bin").write_bytes(rows.tobytes())
    _, picture = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))
    (stream.folder / "latest.jpg").write_bytes(picture.tobytes())
    return stream


def metrics(app) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_a_running_stream(home):
    small_stream(home)
    app = open_page("live")
    assert not app.exception and not app.error
    assert app.query_params["stream"] == "first"
    assert "**running** · demo-baseline on demo_001.mp4" in texts(app)
    assert "### jump" in texts(app) and "since 9.0 s, for 3.0 s" in texts(app)
    assert metrics(app) == {
        "Latency p50 / p95": "12 / 46 ms",
        "Frame rate": "24.9 /s",
        "Dropped frames": "7 of 300",
        "Reconnects / gaps": "2 / 1",
    }
    assert table(app, "score")[["start", "end", "label"]].to_numpy().tolist() == [[1.2, 3.4, "run"]]
    assert len(app.get("vega_lite_chart")) == 2
    files = {item.proto.id.split("file:")[-1] for item in app.get("download_button")}
    assert files == {"first.jsonl", "first.csv", "first.vtt"}


def test_stop_asks_the_stream(home):
    stream = small_stream(home)
    app = open_page("live")
    button(app, "Stop").click().run()
    assert not app.exception
    assert (stream.folder / "stop").exists()
    assert "**stopping**" in texts(app)
    assert "Stop" not in [item.label for item in app.button]


@pytest.mark.parametrize(
    "state,words",
    [("finished", "The source has ended"), ("stopped", "by hand"), ("connecting", "first picture")],
)
def test_every_state_says_what_it_means(home, state, words):
    small_stream(home, state)
    app = open_page("live", stream="first")
    assert f"**{state}**" in texts(app) and words in texts(app)


def test_a_failed_and_a_killed_stream_say_why(home):
    small_stream(home, "failed", error="no picture came (Connection refused)")
    gone = small_stream(home, stream_id="gone")
    status = json.loads((gone.folder / "status.json").read_text())
    write_json(gone.folder / "status.json", {**status, "process_started": 1.0})
    app = open_page("live", stream="first")
    assert "Connection refused" in app.error[0].value
    app = open_page("live", stream="gone")
    assert "**killed**" in texts(app) and "is gone" in app.error[0].value


def test_a_stream_that_has_only_begun(home):
    stream = create_stream(home, {"run": "r", "source": "camera:0", "delay": None, "paced": True}, "new")
    write_json(stream.folder / "status.json", {"state": "starting", **this_process()})
    app = open_page("live", stream="new")
    assert not app.exception and not app.error
    assert "No picture yet" in texts(app) and "None is closed yet" in texts(app)
    assert metrics(app)["Latency p50 / p95"] == "–"


def test_links_to_streams_that_are_gone(home):
    small_stream(home)
    app = open_page("live", stream="other")
    assert not app.exception and "`other`" in app.warning[0].value


def test_the_list_of_streams(home):
    small_stream(home, "finished")
    small_stream(home, "running", "second")
    app = open_page("live", panel="All streams")
    assert not app.exception and not app.error
    shown = table(app, "source")
    assert set(shown["stream"]) == {"first", "second"} and set(shown["state"]) == {"finished", "running"}
    assert shown["events"].tolist() == [3, 3]


def test_a_past_stream_is_removed(home):
    small_stream(home, "finished")
    app = open_page("live", panel="All streams")
    button(app, "Remove it").click().run()
    assert not app.exception and not list_streams(home)


@pytest.fixture
def started(monkeypatch, home):
    """What the page asked to start."""
    asked = []

    def start(workspace, run, source, **settings):
        asked.append((run, source, settings))
        launch.read_address(source, launch.registered_folders(workspace))
        return small_stream(home, stream_id="begun")

    monkeypatch.setattr("pages.live.form.start_stream", start)
    return asked


def test_starting_the_demo_at_once(started):
    app = open_page("live")
    assert not app.exception and not app.error
    button(app, "Start").click().run()
    assert not app.exception and not app.error
    ((run, source, settings),) = started
    assert run.startswith("demo-") and source.endswith(".mp4") and settings == {"delay": None}
    assert app.query_params["stream"] == "begun" and "**running**" in texts(app)


def test_an_address_is_checked(started):
    app = open_page("live")
    app.segmented_control(key="live_source").set_value("Address").run()
    assert button(app, "Start").disabled
    app.text_input[0].set_value("ftp://somewhere/film").run()
    button(app, "Start").click().run()
    assert not app.exception and "not a kind of source" in app.error[0].value
    app.text_input[0].set_value("rtmp://127.0.0.1/live/demo").run()
    app.number_input[0].set_value(1.5).run()
    button(app, "Start").click().run()
    assert not app.error and started[-1][1:] == ("rtmp://127.0.0.1/live/demo", {"delay": 1.5})


def test_cameras_of_the_machine(started, monkeypatch):
    app = open_page("live")
    app.segmented_control(key="live_source").set_value("Camera").run()
    monkeypatch.setattr("pages.live.form.cameras", lambda: ["camera:0", "camera:2"])
    app.run()
    selectbox(app, "Camera of the machine that runs the studio").set_value("camera:2").run()
    button(app, "Start").click().run()
    assert started[-1][1] == "camera:2"


def test_a_stream_deleted_under_the_page(home):
    stream = small_stream(home)
    app = open_page("live", stream="first")
    for path in stream.folder.iterdir():
        path.unlink()
    stream.folder.rmdir()
    with pytest.raises(InputError):
        open_stream(home, "first")
    app.run()
    assert not app.exception


def test_the_trade_off_of_a_run_is_drawn_once_it_is_measured(tmp_path, home):
    run = shutil.copytree(DEMO / "runs" / "demo-baseline", home / "runs" / "mine")
    app = open_page("live", run="mine")
    assert "tal_core online --run mine" in texts(app) and not app.get("vega_lite_chart")
    row = {field.name: 0.5 * (number + 1) for number, field in enumerate(fields(Tradeoff))}
    write_json(run / "online.json", {"tradeoff": [row]})
    app = open_page("live", run="mine")
    assert not app.exception and not app.error
    assert "Delay against mAP" in texts(app) and len(app.get("vega_lite_chart")) == 1


def test_a_run_on_other_features_says_so_before_it_is_started(tmp_path, home):
    small_dataset(tmp_path, home)
    run = small_run(home, "finished")
    info = WeightsInfo("baseline", ["jump", "run"], 4, 1, TimeGrid(1.0, 0.5))
    save_weights(run.checkpoints / "last.safetensors", {}, info)
    app = open_page("live", run="first")
    assert not app.exception
    assert "4 features" in app.error[0].value and button(app, "Start").disabled


def test_runs_of_online_methods_come_first(home):
    shutil.copytree(DEMO / "runs" / "demo-baseline", home / "runs" / "offline")
    online = shutil.copytree(DEMO / "runs" / "demo-baseline", home / "runs" / "online")
    config = json.loads((online / "config.json").read_text())
    write_json(online / "config.json", {**config, "model": "miniroad"})
    assert stream_runs(home)[0].run.run_id == "online" and stream_runs(home)[0].online


def test_an_unwritable_workspace_gets_a_box(tmp_path, monkeypatch):
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("TAL_HOME", str(blocked))
    app = open_page("live")
    button(app, "Start").click().run()
    assert not app.exception
    assert "TAL_HOME" in app.error[0].value
