import io
import json
import os
import signal
import time

import cv2
import numpy as np
import psutil
import pytest

from tal_core.background.processes import this_process
from tal_core.streaming.live import launch
from tal_core.streaming.live import recorder as recording
from tal_core.streaming.live.folder import (
    ACTIVE,
    StreamFolder,
    create_stream,
    list_streams,
    open_stream,
)
from tal_core.streaming.live.launch import start_stream
from tal_core.streaming.live.recorder import Scores, StreamRecorder
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Report
from tal_core.types import InputError
from tal_core.workspace import DEMO
from tests.streaming.doubles import BrightDetector, Brightness, OpenEnd
from tests.streaming.web import answer, web_server

FILM = DEMO / "videos" / "demo_001.mp4"
PATIENCE = 180  # a process loads torch first, on a machine that may be busy


def until(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.fixture
def stream(home) -> StreamFolder:
    return create_stream(home, {"run": "demo-baseline", "source": "film.mp4"})


def recorded(stream, extractor=None, pictures=()):
    """A session on pictures that stays open until it is stopped or its source is ended, and its recorder."""
    recorder = StreamRecorder(stream, list(BrightDetector.labels))
    session = Session(BrightDetector(), OpenEnd(pictures), extractor or Brightness(), recorder.sinks)
    return session, recorder.watch(session)


def test_everyone_who_looks_sees_scores_events_and_picture(stream, monkeypatch):
    monkeypatch.setattr(recording, "PICTURE_SECONDS", 0.01)
    black, white = (np.full((600, 800, 3), value, np.uint8) for value in (0, 255))
    session, recorder = recorded(stream, pictures=[black] * 30 + [white] * 30)
    assert stream.records() == [] and stream.picture() is None and stream.log_tail() == ""
    with recorder:
        session.start()
        until(lambda: len(stream.scores()[0]) >= 11 and stream.picture() is not None)
        assert until(lambda: stream.status()["state"] == "running" and stream.active)
        session.source.ended.set()
        session.wait(5)
    status = stream.status()
    assert status["state"] == "finished" and status["labels"] == ["bright"] and status["error"] is None
    assert status["stats"]["snippets"] == 12 and not stream.active
    assert [record["kind"] for record in stream.records()] == ["stream", "start", "end", "over"]
    assert [record["kind"] for record in stream.records(last=2)] == ["end", "over"]
    seconds, scores = stream.scores()
    assert seconds == pytest.approx(0.1 + 0.2 * np.arange(12)) and scores.shape == (12, 1)
    assert (scores[:5] < 0.1).all() and (scores[-5:] > 0.9).all()
    assert len(stream.scores(last=1.0)[0]) == 6
    shown = cv2.imdecode(np.frombuffer(stream.picture(), np.uint8), cv2.IMREAD_COLOR)
    assert shown.mean() > 250 and shown.shape[0] <= 600
    assert sorted(path.name for path in stream.folder.iterdir()) == [
        "config.json", "events.jsonl", "latest.jpg", "scores.bin", "status.json"
    ]  # fmt: skip


def test_a_stop_file_stops_the_session(stream, monkeypatch):
    monkeypatch.setattr(recording, "PICTURE_SECONDS", 0.01)
    session, recorder = recorded(stream)
    with recorder:
        session.start()
        until(lambda: stream.status()["state"] == "running")
        stream.request_stop()
        assert stream.status()["state"] in ("stopping", "stopped")
        assert session.wait(5)
    assert stream.status()["state"] == "stopped"
    with pytest.raises(InputError, match="isn't running"):
        stream.request_stop()


def test_a_folder_that_is_deleted_ends_the_stream(stream, monkeypatch):
    monkeypatch.setattr(recording, "PICTURE_SECONDS", 0.01)
    session, recorder = recorded(stream)
    with pytest.raises(InputError, match="was deleted while it was at work"), recorder:
        session.start()
        until(lambda: stream.status()["state"] == "running")
        stream.folder.rename(stream.folder.with_name(".deleted"))
        assert session.wait(5)
    assert not stream.folder.exists()
    with pytest.raises(InputError, match="folder is gone"):
        stream.status()


def test_only_the_last_minutes_of_scores_are_kept(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(recording, "SCORES_SECONDS", 10.0)
    sink = Scores(stream.folder / "scores.bin", 3)
    for start in range(0, 200, 2):
        seconds = start + np.arange(10) * 0.2
        sink.take(Report([], seconds, np.tile(seconds[:, None], (1, 3)).astype(np.float32)))
    status = {"state": "finished", "labels": ["a", "b", "c"]}
    (stream.folder / "status.json").write_text(json.dumps(status))
    seconds, scores = stream.scores(last=1e9)
    assert seconds[-1] == pytest.approx(199.8) and 10 <= seconds[-1] - seconds[0] <= 22
    assert scores[:, 1] == pytest.approx(seconds, rel=1e-6) and np.diff(seconds) == pytest.approx(0.2)
    with (stream.folder / "scores.bin").open("ab") as file:
        file.write(b"half a row")
    assert len(stream.scores(last=1e9)[0]) == len(seconds)


def test_the_end_of_a_long_list_of_events_is_read_alone(stream):
    lines = [json.dumps({"kind": "start", "segment": number}) for number in range(20_000)]
    path = stream.folder / "events.jsonl"
    path.write_text("\n".join(lines) + '\n{"kind": "sta')  # the last is still being written
    assert [record["segment"] for record in stream.records(last=3)] == [19_997, 19_998, 19_999]
    assert len(stream.records(last=10**6)) == 20_000


def test_streams_are_listed_opened_and_removed(home, stream):
    second = create_stream(home, {"run": "demo-baseline", "source": "b"})
    assert [one.name for one in list_streams(home)] == [second.name, stream.name]
    assert open_stream(home, stream.name).request()["source"] == "film.mp4"
    stream.remove()
    assert list_streams(home) == [second]
    with pytest.raises(InputError, match="there is no stream"):
        open_stream(home, stream.name)
    with pytest.raises(InputError, match="can't be the name"):
        open_stream(home, "../runs/x")
    with pytest.raises(InputError, match="already a stream"):
        create_stream(home, {"run": "r", "source": "b"}, second.name)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"run": "no-such-run"}, "there is no run"),
        ({"source": "/etc/passwd"}, "outside the registered folders"),
        ({"source": "file:///etc/passwd"}, "not opened"),
        ({"delay": -1.0}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"webhook": "ftp://host"}, "not a web address"),
    ],
)
def test_what_cant_start_leaves_nothing_behind(home, settings, says):
    with pytest.raises(InputError, match=says):
        start_stream(home, **{"run": "demo-baseline", "source": str(FILM), **settings})
    assert list_streams(home) == []


def test_in_the_background_two_watch_one_stops_and_a_kill_is_noticed(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # nothing depends on where the app was started
    stopped = start_stream(home, "demo-baseline", str(FILM))
    killed = start_stream(home, "demo-baseline", str(FILM), stream_id="second")
    pids = [one.status()["pid"] for one in (stopped, killed)]
    assert stopped.status()["state"] in ACTIVE and os.getsid(pids[0]) == pids[0], "a session of its own"
    for one in (stopped, killed):
        until(lambda one=one: one.status().get("stats", {}).get("snippets", 0) >= 2)
    with pytest.raises(InputError, match="Stop it first"):
        stopped.remove()
    other = open_stream(home, stopped.name)
    assert other.picture() and len(other.scores()[0]) and other.records()[0]["source"] == FILM.name

    other.request_stop()
    os.kill(pids[1], signal.SIGKILL)
    assert until(lambda: not stopped.active) and stopped.status()["state"] == "stopped"
    assert stopped.records()[-1]["kind"] == "over"
    until(lambda: not killed.active)
    assert killed.status()["state"] == "killed" and "is gone" in killed.status()["error"]
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not any(psutil.pid_exists(pid) for pid in pids), "no process is left behind"


def test_what_fails_is_told_without_the_password(home, monkeypatch, capsys):
    stream = create_stream(
        home, {"run": "demo-baseline", "source": "cam", "paced": True, "delay": None, "device": "cpu"}
    )
    with web_server({"/cam": answer(b"", status=401)}) as server:
        url = server.url("/cam?key=hush").replace("http://", "http://me:secret@")
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"source": url, "webhook": None})))
        assert launch.main(str(stream.folder)) == 2
    status = stream.status()
    assert status["state"] == "failed" and "user and password" in status["error"]
    everything = b"".join(path.read_bytes() for path in stream.folder.iterdir()).decode("utf-8", "replace")
    for text in (everything, *capsys.readouterr()):
        assert "secret" not in text and "hush" not in text


def test_what_fails_before_it_begins_is_told(home, monkeypatch):
    stream = create_stream(
        home, {"run": "gone", "source": "cam", "paced": True, "delay": None, "device": "cpu"}
    )
    (stream.folder / "status.json").write_text(json.dumps({"state": "starting", **this_process()}))
    monkeypatch.setattr("sys.stdin", io.StringIO('{"source": "camera:0", "webhook": null}'))
    assert launch.main(str(stream.folder)) == 2
    assert stream.status()["state"] == "failed" and "there is no run 'gone'" in stream.status()["error"]
