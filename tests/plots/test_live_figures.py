import numpy as np
import pytest

from tal_core.plots.colors import class_colors
from tal_core.plots.live import MOST_CLASSES, MOST_POINTS, gaps_of, scores_chart, segments_chart, segments_of


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


def rows_of(chart, column):
    """The rows of the chart's data that have this column."""
    sets = chart.to_dict()["datasets"].values()
    return next((rows for rows in sets if rows and column in rows[0]), [])


LABELS = [f"class {number:02d}" for number in range(20)]


def test_the_chart_shows_the_window_and_the_highest_classes():
    seconds = np.arange(2000) * 0.2
    scores = np.zeros((2000, 20), np.float32)
    scores[1990, 3] = 0.9
    scores[10, 15] = 0.8  # long ago
    chart = scores_chart(seconds, scores, LABELS, gaps_of([], 0.0), (340.0, 400.0))
    lines = rows_of(chart, "score")
    assert {row["class"] for row in lines} == set(LABELS[:MOST_CLASSES])
    assert max((row["score"], row["class"]) for row in lines) == (pytest.approx(0.9), LABELS[3])
    assert min(row["seconds"] for row in lines) == pytest.approx(340)
    scale = chart.to_dict()["layer"][1]["encoding"]["color"]["scale"]
    drawn = dict(zip(scale["domain"], scale["range"], strict=True))
    assert drawn.items() <= class_colors(LABELS).items()


def test_segments_are_cut_at_the_window():
    events = [event("end", 0, LABELS[19], 300.0, 345.0), event("start", 1, LABELS[3], 395.0)]
    chart = segments_chart(segments_of(events, 399.8), LABELS, (340.0, 400.0))
    bars = rows_of(chart, "segment")
    assert [(row["start"], row["end"], row["open"]) for row in bars] == [
        (340, 345, False),
        (395, 399.8, True),
    ]
    assert chart.to_dict()["encoding"]["color"]["scale"]["domain"] == [LABELS[3], LABELS[19]]


def test_long_windows_are_thinned_without_losing_a_peak():
    seconds = np.arange(5000) * 0.2
    scores = np.zeros((5000, 1), np.float32)
    scores[1234] = 1
    lines = rows_of(scores_chart(seconds, scores, ["run"], gaps_of([], 0.0), (0, 1000)), "score")
    assert len(lines) == MOST_POINTS and max(row["score"] for row in lines) == 1


def test_a_stream_that_has_said_nothing_yet():
    assert scores_chart(np.empty(0), np.empty((0, 2)), ["a", "b"], gaps_of([], 0.0), (0, 60)).to_dict()
    assert segments_chart(segments_of([], 0.0), ["a", "b"], (0, 60)).to_dict()
