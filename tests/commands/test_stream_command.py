import json
import signal
import subprocess
import sys
import threading
import time

import av
import pytest

from tal_core.cli import main
from tal_core.commands.stream import StatusLine, summary
from tal_core.workspace import DEMO
from tests.streaming.live.test_webhook import keep
from tests.streaming.web import web_server

FILM = DEMO / "videos" / "demo_001.mp4"


def cut(path, seconds):
    """The first seconds of the demo's film."""
    with av.open(str(FILM)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.dts * packet.time_base > seconds:
                break
            packet.stream = copy
            target.mux(packet)
    return path


def test_a_file_into_events(tmp_path, capsys):
    bodies = []
    film = cut(tmp_path / "film.mp4", 12)
    out = tmp_path / "events.jsonl"
    with web_server({"/hook": keep(bodies)}) as server:
        arguments = ["--source", str(film), "--out", str(out), "--webhook", server.url("/hook")]
        assert main(["stream", "--run", "demo-baseline", *arguments]) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0]["run"] == "demo-baseline" and lines[0]["source"] == str(film)
    assert lines[-1]["kind"] == "over" and lines[-1]["state"] == "finished"
    events = [line for line in lines if line["kind"] == "end"]
    assert events and all(0 <= event["start"] < event["end"] for event in events)
    assert len(said.out.splitlines()) == len(lines) and events[0]["label"] in said.out
    assert "finished" in said.err and f"{len([x for x in lines if 'label' in x])} events" in said.err
    assert bodies == lines
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream-")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "gopher://x"], "is not a kind of source"),
        (["--source", "no-such.mp4"], "there is no such file"),
        (["--source", str(FILM), "--delay", "-3"], "--delay"),
        (["--source", str(FILM), "--webhook", "ftp://x"], "not a web address"),
        (["--source", str(FILM), "--out", "/dev/null/x"], "can't be written"),
        (["--source", "rtmp://127.0.0.1:1/live/x", "--wait", "0"], "no picture came"),
    ],
)
def test_wrong_input_is_answered_in_one_line(arguments, says, capsys):
    assert main(["stream", "--run", "demo-baseline", *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tal_core:")]
    assert len(error) == 1 and says in error[0]


def test_ctrl_c_ends_it_cleanly(tmp_path):
    out = tmp_path / "events.jsonl"
    command = ["stream", "--run", "demo-baseline", "--source", str(FILM), "--paced", "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, "-m", "tal_core", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("demo-baseline on ")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and time.monotonic() - began < 10
        assert "Traceback" not in process.stderr.read()
    assert json.loads(out.read_text().splitlines()[-1])["state"] == "stopped"


def test_the_status_line_stays_under_what_is_said(capsys):
    stats = {
        "state": "running", "seconds": 3.0, "frames": 75, "fps": 25.0, "dropped": 1, "events": 2, "broken": 0,
        "gaps": 1, "latency_ms": {"p95": 12.3},
    }  # fmt: skip
    line = StatusLine(True)
    line.show(stats)
    line.say("an event")
    line.clear()
    said = capsys.readouterr()
    assert said.out == "an event\n" and said.err.count("\r") == 3 and "\n" not in said.err
    assert summary(stats) == (
        "running | 3.0 s | 75 frames (25.0 a second, 1 dropped) | 2 events | p95 12 ms | 1 gaps"
    )
