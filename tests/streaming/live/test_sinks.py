import json

import numpy as np
import pytest

from tal_core.streaming.live.sinks import Calls, JsonLines, Report, describe
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


def test_functions_are_called():
    seen = []
    sink = Calls(seen.append)
    sink.take(report(3))
    sink.close()
    assert seen[0].records[0]["segment"] == 3
