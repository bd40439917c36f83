import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tal_core.streaming.live.inlet import Frame, Interruption
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Calls, JsonLines
from tal_core.streaming.live.sources import Patience, open_source
from tal_core.types import InputError, TimeGrid
from tests.streaming.doubles import BrightDetector, Brightness
from tests.video.films import write_film

DARK, LIGHT = np.full((12, 16, 3), 10, np.uint8), np.full((12, 16, 3), 240, np.uint8)


class Scripted:
    """A source that gives what a test wrote down; a number is a pause in seconds."""

    shown, state = "script", "running"
    decoded = broken = reconnects = 0

    def __init__(self, script, live=False):
        self.script, self.live = script, live

    def items(self, stop):
        for item in self.script:
            if isinstance(item, float):
                stop.wait(item)
            elif isinstance(item, Exception):
                raise item
            elif stop.is_set():
                return
            else:
                if isinstance(item, Frame):
                    item = Frame(item.seconds, item.image, time.monotonic())
                    self.decoded += 1
                yield item


def frames(pictures, start=0.0, fps=25) -> list[Frame]:
    return [Frame(start + number / fps, picture, 0.0) for number, picture in enumerate(pictures)]


def detect(source, extractor=None, **settings):
    """The session after it has run, and every record."""
    records = []
    sink = Calls(lambda report: records.extend(report.records))
    session = Session(BrightDetector(), source, extractor or Brightness(), [sink], **settings)
    session.run()
    return session, records


def segments(records) -> list[tuple[float, float]]:
    return [(round(r["start"], 3), round(r["end"], 3)) for r in records if r["kind"] == "end"]


def test_a_stream_from_its_header_to_its_end():
    script = frames([DARK] * 25 + [LIGHT] * 25 + [DARK] * 25)
    session, records = detect(Scripted(script), about={"run": "r", "source": "s"})
    assert [record["kind"] for record in records] == ["stream", "start", "end", "over"]
    assert records[0]["run"] == "r" and records[0]["labels"] == ["bright"] and records[0]["began"] > 1e9
    assert segments(records) == [(1.0, 2.0)] and records[2]["segment"] == 0
    assert records[-1]["state"] == session.state == "finished" and records[-1]["error"] is None
    stats = session.stats()
    assert stats["frames"] == 75 and stats["snippets"] == 15 and stats["events"] == 2
    assert stats["dropped"] == 0 and 0 < stats["latency_ms"]["p50"] <= stats["latency_ms"]["p99"]


def test_what_is_open_at_the_end_is_closed():
    assert segments(detect(Scripted(frames([DARK] * 25 + [LIGHT] * 25)))[1]) == [(1.0, 2.0)]


def test_a_gap_closes_what_is_open_is_marked_and_starts_the_features_anew():
    made = []

    class Watched(Brightness):
        def fresh(self):
            made.append(Watched())
            return made[-1]

    script = [
        *frames([LIGHT] * 25),
        Interruption("it ended"),
        *frames([LIGHT] * 25, start=10.0),
        Interruption("again"),
        Interruption("and again"),
    ]
    session, records = detect(Scripted(script), Watched())
    kinds = [(record["kind"], record.get("start"), record.get("end")) for record in records]
    last = 24 / 25
    assert kinds[1:] == [
        ("start", 0.0, None),
        ("end", 0.0, pytest.approx(1.0)),
        ("gap", last, None),
        ("gap", last, 10.0),
        ("start", pytest.approx(10.0), None),
        ("end", pytest.approx(10.0), pytest.approx(11.0)),
        ("gap", 10 + last, None),
        ("over", None, None),
    ]
    assert records[3]["reason"] == records[4]["reason"] == "it ended"
    assert len(made) == 1 and session.stats()["gaps"] == 2


class Slow(Brightness):
    """Takes longer for a picture than the next one needs to come."""

    def push(self, seconds, frame):
        time.sleep(0.02)
        return super().push(seconds, frame)


def test_a_live_stream_that_is_too_fast_loses_frames_and_stays_recent():
    script = [item for frame in frames([DARK] * 150, fps=200) for item in (frame, 0.004)]
    session, _ = detect(Scripted(script, live=True), Slow())
    stats = session.stats()
    assert stats["dropped"] > 40 and stats["frames"] == 150
    assert stats["latency_ms"]["p99"] < 600, "about the time a frame may wait, not that of all before it"


def test_a_file_that_is_too_fast_waits_and_loses_nothing():
    session, _ = detect(Scripted(frames([DARK] * 60)), Slow())
    assert session.stats()["dropped"] == 0 and session.stats()["snippets"] == 12


def test_a_source_that_fails_ends_the_stream_and_says_why(tmp_path):
    path = tmp_path / "events.jsonl"
    script = [*frames([LIGHT] * 30), InputError("is lost", where="rtmp://x")]
    session = Session(BrightDetector(), Scripted(script), Brightness(), [JsonLines(path)])
    with pytest.raises(InputError, match="is lost"):
        session.run()
    assert session.state == "failed"
    lines = path.read_text().splitlines()
    assert '"kind": "end"' in lines[-2] and "rtmp://x: is lost" in lines[-1]


def test_a_sink_that_fails_ends_the_stream_and_the_others_are_told(tmp_path):
    told = []
    sinks = [JsonLines(Path("/dev/full")), Calls(lambda report: told.extend(report.records))]
    session = Session(BrightDetector(), Scripted(frames([DARK] * 9999)), Brightness(), sinks)
    with pytest.raises(InputError, match="/dev/full"):
        session.run()
    assert told[-1]["kind"] == "over" and told[-1]["state"] == "failed"


def test_a_fault_in_the_detector_is_raised_not_swallowed():
    class Faulty(Brightness):
        def push(self, seconds, frame):
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        detect(Scripted(frames([DARK] * 5)), Faulty())


def test_stop_closes_what_is_open_and_leaves_no_thread():
    before = set(threading.enumerate())
    records = []
    sink = Calls(lambda report: records.extend(report.records))
    script = [item for frame in frames([LIGHT] * 10_000) for item in (frame, 0.002)]
    session = Session(BrightDetector(), Scripted(script, live=True), Brightness(), [sink]).start()
    while session.stats()["snippets"] < 3:
        time.sleep(0.005)
    assert session.state == "running"
    began = time.monotonic()
    session.stop()
    assert time.monotonic() - began < 1
    assert session.state == "stopped" and [r["kind"] for r in records[-2:]] == ["end", "over"]
    assert set(threading.enumerate()) == before
    session.stop()  # twice is no harm


def test_stop_does_not_wait_for_a_source_that_hangs():
    leave = threading.Event()

    class Hanging(Scripted):
        def items(self, stop):
            yield from frames([LIGHT] * 30)
            leave.wait(20)

    session = Session(BrightDetector(), Hanging([], live=True), Brightness()).start()
    while session.stats()["snippets"] < 3:
        time.sleep(0.005)
    began = time.monotonic()
    session.stop(timeout=0.3)
    assert time.monotonic() - began < 1 and session.state == "stopped"
    leave.set()


def test_stop_while_an_address_hangs():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        source = open_source(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/x", patience=Patience(open=3))
        session = Session(BrightDetector(), source, Brightness()).start()
        time.sleep(0.1)
        began = time.monotonic()
        session.stop(timeout=0.5)
        assert time.monotonic() - began < 2 and session.wait(1) and session.state == "stopped"
    # With its socket gone, or at the latest after its time limit, the thread has ended, too.
    for thread in threading.enumerate():
        if thread.name == "stream-read":
            thread.join(5)
            assert not thread.is_alive()


def test_an_extractor_that_does_not_fit_the_run_is_refused():
    class Wide(Brightness):
        num_features = 7

    class Sparse(Brightness):
        grid = TimeGrid(stride=0.5, offset=0.25)

    with pytest.raises(InputError, match="7 channels, but the run was trained on 1"):
        Session(BrightDetector(), Scripted([]), Wide())
    with pytest.raises(InputError, match=r"every 0.5 s from 0.25 s, but .* every 0.2 s from 0.1 s"):
        Session(BrightDetector(), Scripted([]), Sparse())


def test_a_paced_file_gives_the_events_of_the_file(tmp_path):
    path = write_film(
        tmp_path / "blink.mp4", [LIGHT.repeat(4, 0).repeat(4, 1) * (i // 8 % 2) for i in range(40)]
    )
    found = [segments(detect(open_source(str(path), paced=paced))[1]) for paced in (False, True)]
    assert len(found[0]) == 2 and found[0] == found[1]
