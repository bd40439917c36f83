"""The real thing: nginx with its RTMP module, fed by ffmpeg, watched by a session."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tal_core.streaming.live.rtmp_demo import Publisher, RtmpServer, check_programs, free_port
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Calls
from tal_core.streaming.live.sources import Patience, open_source
from tal_core.types import InputError
from tests.streaming.doubles import BrightDetector, Brightness
from tests.video.films import write_film

PATIENCE = 30


@pytest.fixture(scope="module", autouse=True)
def programs():
    try:
        check_programs()
    except InputError as error:
        if os.environ.get("TAL_REQUIRE_SERVERS"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Half a second dark, half a second bright, and so on."""
    pictures = [np.full((48, 64, 3), 230 if (i // 13) % 2 else 10, np.uint8) for i in range(26 * 8)]
    return write_film(tmp_path_factory.mktemp("rtmp") / "blink.mp4", pictures)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_stream_is_watched_killed_and_found_again(film):
    records = []
    with RtmpServer() as server:
        address = server.address("demo")
        source = open_source(address, patience=Patience(first=PATIENCE))
        session = Session(
            BrightDetector(), source, Brightness(), [Calls(lambda r: records.extend(r.records))]
        )
        session.start()
        assert session.state == "connecting", "the sender isn't there yet"
        with Publisher(film, address) as sender:
            until(lambda: sum(record["kind"] == "end" for record in records) >= 2)
            assert session.state == "running"
            sender.process.kill()
        until(lambda: session.state == "reconnecting" and records[-1]["kind"] == "gap")
        with Publisher(film, address):
            restarted = time.monotonic()
            until(lambda: session.state == "running")
            recovered = time.monotonic() - restarted
            after = len(records)
            until(lambda: any(record["kind"] == "end" for record in records[after + 1 :]))
            session.stop()
        connections = psutil.Process().net_connections()
        assert not [c for c in connections if c.raddr and c.raddr.port == server.port], "no socket is left"
        processes = [server.process, sender.process]
    assert recovered < 5
    assert all(process.poll() is not None for process in processes)
    gaps = [record for record in records if record["kind"] == "gap"]
    assert [gap["end"] is None for gap in gaps] == [True, False]
    assert gaps[1]["end"] > gaps[1]["start"] and session.stats()["reconnects"] == 1
    ends = [record for record in records if record["kind"] == "end"]
    assert [end["segment"] for end in ends] == list(range(len(ends))), "none is lost or doubled"
    times = [time for end in ends for time in (end["start"], end["end"])]
    assert times == sorted(times)
    assert not any(gaps[1]["start"] + 0.2 < time < gaps[1]["end"] for time in times)


def test_the_demonstration_plays_until_it_is_stopped(film):
    port = free_port()
    command = [sys.executable, "-m", "tal_core", "stream-demo", "--video", str(film), "--port", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demonstration:
        assert demonstration.stdout.readline().strip().endswith(f"rtmp://127.0.0.1:{port}/live/demo")
        children = until(lambda: psutil.Process(demonstration.pid).children())
        source = open_source(f"rtmp://127.0.0.1:{port}/live/demo", patience=Patience(first=PATIENCE))
        session = Session(BrightDetector(), source, Brightness()).start()
        until(lambda: session.stats()["frames"])
        session.stop()
        os.killpg(demonstration.pid, signal.SIGINT)  # as a terminal does at Ctrl-C
        assert demonstration.wait(PATIENCE) == 0
    assert not any(child.is_running() for child in children)


def test_a_port_that_is_taken_is_told():
    with RtmpServer() as server, pytest.raises(InputError, match=f"port {server.port} is taken"):
        RtmpServer(server.port).__enter__()
