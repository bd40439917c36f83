import numpy as np
import pytest

from tal_core.plots.colors import class_colors
from tal_core.plots.live import MOST_CLASSES, MOST_POINTS, gaps_of, rolling_chart, segments_of

NO_GAPS = gaps_of([], 0.0)


def event(kind, segment, label="run", start=1.0, end=None, score=0.5):
    return {"kind": kind, "segment": segment, "label": label, "start": start, "end": end, "score": score}


def test_open_segments_last_until_now_and_closed_ones_are_final():
    events = [
        event("start", 0),
        event("end", 0, start=1.1, end=2.0, score=0.7),
        event("start", 1, "jump", 4.0),
    ]
    table = segments_of(events, now=6.5)
    assert table[["start", "end", "score"]].to_numpy().tolist() == [[1.1, 2.0, 0.7], [4.0, 6.5, 0.5]]
    assert table["open"].tolist() == [False, True]
    assert segments_of([], 0.0).empty


def test_gaps_last_until_the_stream_goes_on():
    lasting = {"kind": "gap", "start": 5.0, "end": None, "reason": "it ended"}
    assert gaps_of([event("start", 0), lasting], 9.0)[["start", "end"]].to_numpy().tolist() == [[5, 9]]
    over = [lasting, {**lasting, "end": 7.0}, {**lasting, "start": 8.0, "end": 8.5}]
    assert gaps_of(over, 9.0)[["start", "end"]].to_numpy().tolist() == [[5, 7], [8, 8.5]]
    assert segments_of(over, 9.0).empty


def drawn(chart):
    """The rows of the curves and of the bars."""
    sets = list(chart.to_dict()["datasets"].values())
    curves = next(rows for rows in sets if rows and "score" in rows[0] and "start" not in rows[0])
    bars = next((rows for rows in sets if rows and "segment" in rows[0]), [])
    return curves, bars


def test_the_chart_shows_the_window_and_the_highest_classes():
    labels = [f"class {number:02d}" for number in range(20)]
    seconds = np.arange(2000) * 0.2
    scores = np.zeros((2000, 20), np.float32)
    scores[1990, 3] = 0.9
    scores[10, 5] = 0.8  # long ago
    events = [event("end", 0, labels[19], 300.0, 345.0), event("start", 1, labels[3], 395.0)]
    chart = rolling_chart(seconds, scores, labels, segments_of(events, 399.8), NO_GAPS, (340.0, 400.0))
    curves, bars = drawn(chart)
    assert {row["class"] for row in curves} >= {labels[3]} and labels[5] not in {
        row["class"] for row in curves if row["score"] > 0
    }
    assert len({row["class"] for row in curves}) == MOST_CLASSES
    assert min(row["seconds"] for row in curves) == pytest.approx(340)
    assert [(row["start"], row["end"]) for row in bars] == [(340, 345), (395, 399.8)]
    scale = chart.to_dict()["vconcat"][0]["layer"][1]["encoding"]["color"]["scale"]
    assert (
        dict(zip(scale["domain"], scale["range"], strict=True))[labels[19]]
        == class_colors(labels)[labels[19]]
    )


def test_long_windows_are_thinned_without_losing_a_peak():
    seconds = np.arange(5000) * 0.2
    scores = np.zeros((5000, 1), np.float32)
    scores[1234] = 1
    curves, _ = drawn(rolling_chart(seconds, scores, ["run"], segments_of([], 0), NO_GAPS, (0, 1000)))
    assert len(curves) == MOST_POINTS and max(row["score"] for row in curves) == 1


def test_a_stream_that_has_said_nothing_yet():
    chart = rolling_chart(np.empty(0), np.empty((0, 2)), ["a", "b"], segments_of([], 0), NO_GAPS, (0, 60))
    assert chart.to_dict()["vconcat"]
