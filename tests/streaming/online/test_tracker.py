"""Segments from scores that come one by one."""

import numpy as np
import pytest

from tal_core.streaming.online.tracker import Hysteresis, SegmentTracker
from tal_core.types import TimeGrid

RULE = Hysteresis(high=0.6, low=0.3)


def track(scores, rule=RULE, patience=0):
    """Events of one class's scores, and of the end of the stream."""
    tracker = SegmentTracker(["a"], TimeGrid(1.0, 0.5), rule, patience)
    return [e for score in scores for e in tracker.update(np.array([score]))], tracker


def test_a_segment_begins_at_low_is_told_at_high_and_ends_below_low():
    events, tracker = track([0.0, 0.4, 0.8, 0.6, 0.0])
    begin, end = events
    assert (begin.kind, begin.end, begin.segment, begin.label) == ("start", None, 0, "a")
    assert begin.start == end.start == pytest.approx(1.25)  # 0 to 0.4 crosses 0.3 a quarter before 1.5
    assert begin.decided == 2.5 and end.decided == 4.5
    assert end.end == pytest.approx(4.0) and end.score == pytest.approx(0.6)
    assert tracker.finish() == []


def test_what_never_reaches_high_or_is_too_short_is_not_told():
    assert track([0.0, 0.5, 0.5, 0.0])[0] == []
    assert track([0.0, 0.9, 0.0, 0.0], Hysteresis(0.6, 0.3, min_length=2))[0] == []
    events, _ = track([0.0, 0.9, 0.9, 0.9, 0.0], Hysteresis(0.6, 0.3, min_length=2))
    assert [e.kind for e in events] == ["start", "end"] and events[0].decided == 3.5


def test_patience_bridges_a_pause_and_delays_the_end():
    scores = [0.9, 0.9, 0.1, 0.9, 0.0, 0.0, 0.0]
    assert [e.kind for e in track(scores)[0]] == ["start", "end", "start", "end"]
    begin, end = track(scores, patience=1)[0]
    assert begin.start == 0 and end.end == pytest.approx(3.5 + 2 / 3)
    assert end.decided == 5.5
    assert end.score == pytest.approx((0.9 * 3 + 0.1) / 4)  # the pause counts, what follows doesn't


def test_the_end_of_the_stream_closes_half_a_snippet_after_its_last_centre():
    events, tracker = track([0.9, 0.9])
    assert [e.kind for e in events] == ["start"]
    (end,) = tracker.finish()
    assert (end.start, end.end, end.decided) == (0.0, 2.0, 2.0)


def test_after_a_restart_time_goes_on_where_told():
    events, tracker = track([0.9, 0.9])
    (end,) = tracker.restart(100.0)
    assert end.end == 2.0
    events = [e for score in (0.9, 0.0) for e in tracker.update(np.array([score]))]
    assert [(e.kind, e.segment) for e in events] == [("start", 1), ("end", 1)]
    assert events[0].start == pytest.approx(99.5) and events[0].decided == 100.0
    assert events[1].end == pytest.approx(100 + 2 / 3)


def test_classes_don_t_touch_each_other():
    tracker = SegmentTracker(["a", "b"], TimeGrid(1.0), RULE)
    events = [e for row in ([0.9, 0], [0.9, 0.9], [0, 0.9], [0, 0]) for e in tracker.update(np.array(row))]
    assert [(e.kind, e.label, e.segment) for e in events] == [
        ("start", "a", 0), ("start", "b", 1), ("end", "a", 0), ("end", "b", 1),
    ]  # fmt: skip


def test_every_start_has_one_end():
    scores = np.random.default_rng(0).random((500, 6))
    tracker = SegmentTracker(list("abcdef"), TimeGrid(0.4), Hysteresis(0.7, 0.4, 1.0), 1)
    events = [e for row in scores for e in tracker.update(row)] + tracker.finish()
    starts, ends = ([e for e in events if e.kind == kind] for kind in ("start", "end"))
    assert len(starts) > 50
    assert [e.segment for e in starts] == list(range(len(starts)))
    assert sorted(e.segment for e in ends) == list(range(len(starts)))
    for begin in starts:
        (end,) = (e for e in ends if e.segment == begin.segment)
        assert end.label == begin.label and end.start == begin.start < end.end <= end.decided
        assert begin.decided <= end.decided
