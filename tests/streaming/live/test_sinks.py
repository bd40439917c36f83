import json
import threading

import numpy as np
import pytest

from tal_core.streaming.live.sinks import Calls, JsonLines, Report, Subscribers, describe
from tal_core.types import InputError

START = {
    "kind": "start",
    "segment": 0,
    "label": "wave",
    "start": 1.5,
    "end": None,
    "score": 0.7,
    "decided": 1.9,
}
END = {**START, "kind": "end", "end": 4.25, "score": 0.9}
GAP = {"kind": "gap", "start": 5.0, "end": None, "reason": "it ended"}


def report(number: int) -> Report:
    return Report([{"kind": "start", "segment": number}])


def test_lines_are_appended_and_there_at_once(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    sink = JsonLines(path)
    sink.take(Report([START, END]))
    sink.take(Report([], np.array([0.1]), np.array([[0.5]])))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [START, END], "before it is closed"
    sink.close()
    again = JsonLines(path)
    again.take(Report([GAP]))
    again.close()
    assert len(path.read_text().splitlines()) == 3


def test_a_file_that_cant_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"can't be written"):
        JsonLines(tmp_path)
    with pytest.raises(InputError, match=r"/dev/full"):
        from pathlib import Path

        JsonLines(Path("/dev/full")).take(Report([START]))


def test_records_read_well():
    assert describe(START).split() == ["1.50", "s", "begins", "wave"]
    assert describe(END).split() == ["1.50", "s", "-", "4.25", "s", "wave", "0.90"]
    assert "interrupted: it ended" in describe(GAP)
    assert "goes on after 2.5 s" in describe({**GAP, "end": 7.5})
    assert "finished" in describe({"kind": "over", "state": "finished", "seconds": 9.0, "error": None})


def test_subscribers_read_at_their_own_pace():
    hub = Subscribers()
    early, late = hub.subscribe(), None
    hub.take(report(0))
    late = hub.subscribe()
    hub.take(report(1))
    hub.close()
    assert [r.records[0]["segment"] for r in early] == [0, 1]
    assert [r.records[0]["segment"] for r in late] == [1]
    assert hub.subscribe().get(0) is None, "the stream is over"
    assert not early.cut and hub.cut == 0


def test_one_that_never_reads_is_cut_off_and_nobody_else_notices():
    hub = Subscribers()
    idle, reader = hub.subscribe(room=10), hub.subscribe(room=10)
    read = []
    thread = threading.Thread(target=lambda: read.extend(reader))
    thread.start()
    for number in range(1000):
        hub.take(report(number))
        while len(read) <= number:  # this one keeps up
            thread.join(0.0005)
    hub.close()
    thread.join(5)
    assert len(read) == 1000 and not reader.cut
    assert idle.cut and hub.cut == 1
    assert len(list(idle)) == 10, "what it was given it can still read, and then it ends"


def test_one_that_leaves_is_not_counted_as_slow():
    hub = Subscribers()
    hub.subscribe(room=1).close()
    hub.take(report(0))
    hub.take(report(1))
    assert hub.cut == 0


def test_waiting_for_a_report_has_an_end():
    with pytest.raises(TimeoutError):
        Subscribers().subscribe().get(0.01)


def test_functions_are_called():
    seen = []
    sink = Calls(seen.append)
    sink.take(report(3))
    sink.close()
    assert seen[0].records[0]["segment"] == 3
