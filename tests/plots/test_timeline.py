import json

import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.outcomes import label_detections
from tal_core.plots import timeline
from tal_core.types import TimeGrid

LABELS = ["jump", "run"]


def table(*rows: tuple, columns=("video_id", "start", "end", "label", "score")) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)[: len(rows[0])])


@pytest.fixture
def ground_truth():
    return table(("a", 0.0, 4.0, "jump"), ("a", 10.0, 14.0, "run"), ("b", 2.0, 5.0, "run"))


@pytest.fixture
def run(ground_truth):
    """In video a: found, found again, too long, of the wrong class, nowhere; video b is missed."""
    detections = table(
        ("a", 0.0, 4.0, "jump", 0.9),
        ("a", 0.5, 4.0, "jump", 0.8),
        ("a", 10.0, 30.0, "run", 0.7),
        ("a", 10.0, 14.0, "jump", 0.6),
        ("a", 20.0, 21.0, "jump", 0.1),
        ("b", 20.0, 21.0, "run", 0.05),
    )
    return timeline.RunOutcomes("one", label_detections(ground_truth, detections, 0.5)[0], 0.0)


def test_best_f1_is_the_best_of_all_thresholds():
    random = np.random.default_rng(0)
    outcomes = np.where(random.random(200) < 0.4, "true positive", "background error")
    labelled = pd.DataFrame({"score": random.integers(0, 30, 200) / 30, "outcome": outcomes})
    threshold, f1 = timeline.best_f1(labelled, 90)

    def f1_at(cut):
        kept = labelled[labelled["score"] >= cut]
        return 2 * (kept["outcome"] == "true positive").sum() / (len(kept) + 90)

    every = {cut: f1_at(cut) for cut in labelled["score"].unique()}
    assert f1 == pytest.approx(max(every.values()))
    assert every[threshold] == pytest.approx(f1)


def test_best_f1_of_nothing_hides_nothing(run):
    assert timeline.best_f1(run.labelled.iloc[:0], 3) == (0.0, 0.0)
    assert timeline.best_f1(run.labelled, 0) == (0.0, 0.0)


def test_most_wrong_first_counts_errors_and_missed(ground_truth, run):
    found = timeline.most_wrong_first(["a", "b", "c"], ground_truth, [run])
    assert found["video_id"].tolist() == ["a", "b", "c"]
    assert found["errors"].tolist() == [5, 2, 0]  # a: four wrong detections, one missed; b: one and one
    assert found["missed"].tolist() == [1, 1, 0]
    assert found["instances"].tolist() == [2, 1, 0]
    assert found.loc[0, "double detection"] == found.loc[0, "wrong label"] == 1


def test_most_wrong_first_adds_runs_and_heeds_threshold_and_classes(ground_truth, run):
    strict = timeline.RunOutcomes("two", run.labelled, 0.95)
    found = timeline.most_wrong_first(["a", "b"], ground_truth, [run, strict]).set_index("video_id")
    assert found.loc["a", "missed"] == 1 + 2
    only = timeline.most_wrong_first(["a", "b"], ground_truth, [run], ["jump"]).set_index("video_id")
    assert only.loc["a", "missed"] == 0 and only.loc["b", "errors"] == 0


def test_without_runs_videos_come_by_segments(ground_truth):
    assert timeline.most_wrong_first(["b", "a"], ground_truth, [])["video_id"].tolist() == ["a", "b"]


def test_lanes_never_overlap_and_are_as_few_as_possible():
    random = np.random.default_rng(1)
    start = random.uniform(0, 100, 300)
    end = start + random.exponential(5, 300)
    lanes = timeline.stack_lanes(start, end)
    for lane in range(lanes.max() + 1):
        mine = np.flatnonzero(lanes == lane)
        mine = mine[np.argsort(start[mine])]
        assert (end[mine][:-1] <= start[mine][1:]).all()
    at_once = max(((start <= t) & (end > t)).sum() for t in start)
    assert lanes.max() + 1 == at_once


def test_touching_segments_share_a_lane_and_equal_empty_ones_do_not():
    assert timeline.stack_lanes([0.0, 1.0, 2.0], [1.0, 2.0, 3.0]).tolist() == [0, 0, 0]
    assert timeline.stack_lanes([1.0, 1.0], [1.0, 1.0]).tolist() == [0, 1]
    assert timeline.stack_lanes([], []).tolist() == []


def test_payload_tells_what_became_of_every_segment(ground_truth, run):
    drawn = timeline.payload("a", 20.0, LABELS, ground_truth, [run], tiou=0.5)
    json.dumps(drawn, allow_nan=False)
    truth, detections = drawn["rows"]
    assert truth["segments"]["outcomes"] == [["true positive"], ["missed"]]
    assert [one[0] for one in detections["segments"]["outcomes"]] == [
        "true positive",
        "double detection",
        "wrong label",
        "localization error",
        "background error",
    ]
    assert detections["segments"]["partner"] == [0, 0, 1, 1, -1]
    assert drawn["duration"] == 30.0, "the axis holds a segment beyond the stated end"
    counts = {entry["outcome"]: entry["counts"] for entry in drawn["legend"]}
    assert counts["true positive"] == [1] and counts["missed"] == [1] and counts["wrong label"] == [1]
    assert "tIoU 0.20" in detections["segments"]["text"][3]


def test_payload_filters_classes_but_matches_with_all(ground_truth, run):
    drawn = timeline.payload("a", 20.0, LABELS, ground_truth, [run], tiou=0.5, classes=["jump"])
    assert len(drawn["rows"][0]["segments"]["start"]) == 1
    outcomes = [one[0] for one in drawn["rows"][1]["segments"]["outcomes"]]
    assert "wrong label" in outcomes and "localization error" not in outcomes


def test_payload_of_a_video_without_segments_or_runs(ground_truth, run):
    assert timeline.payload("c", 9.0, LABELS, ground_truth, [run], tiou=0.5)["duration"] == 9.0
    drawn = timeline.payload("a", 20.0, LABELS, ground_truth, [], tiou=0.5)
    assert drawn["legend"] == [] and drawn["rows"][0]["segments"]["outcomes"] == [[], []]


def test_ground_truth_carries_one_state_per_run_and_ambiguous_segments(ground_truth, run):
    strict = timeline.RunOutcomes("two", run.labelled, 0.95)
    unsure = table(("a", 15.0, 16.0, "Ambiguous"))
    drawn = timeline.payload("a", 20.0, LABELS, ground_truth, [run, strict], tiou=0.5, ambiguous=unsure)
    assert drawn["rows"][0]["segments"]["outcomes"] == [
        ["true positive", "missed"],
        ["missed", "missed"],
        ["ambiguous"],
    ]
    assert drawn["labels"] == [*LABELS, "Ambiguous"]
    assert "ambiguous" in [entry["outcome"] for entry in drawn["legend"]]


def test_segment_table_is_what_is_shown(ground_truth, run):
    shown = timeline.segment_table("a", ground_truth, [run])
    assert (shown["row"] == timeline.TRUTH).sum() == 2 and len(shown) == 7
    assert shown["start"].is_monotonic_increasing
    first = shown[shown["row"] == "one"].iloc[0]
    assert first["outcome"] == "true positive / found" and first["tiou"] == 1.0


def test_score_curve_draws_the_classes_that_stand_out():
    scores = np.zeros((4, 3), np.float32)
    scores[1] = [0.05, 0.4, 0.3]
    grid = TimeGrid(0.5, 0.25)
    curve = timeline.score_curve("one", scores, grid, ["a", "b", "c"], [], {"b": "#123456"})
    assert [line["label"] for line in curve["lines"]] == ["b", "c"]
    assert curve["top"] == 0.5 and curve["stride"] == 0.5 and curve["offset"] == 0.25
    assert curve["lines"][0]["color"] == "#123456"
    chosen = timeline.score_curve("one", scores, grid, ["a", "b", "c"], ["a"], {})
    assert [line["label"] for line in chosen["lines"]] == ["a"]
    assert timeline.score_curve("one", scores[:0], grid, ["a", "b", "c"], [], {})["top"] > 0


def test_payload_of_detections_alone_is_coloured_by_class():
    detections = table(
        ("a", 5.0, 8.0, "run", 0.9), ("a", 1.0, 4.0, "jump", 0.8), ("a", 2.0, 3.0, "jump", 0.1)
    )
    drawn = timeline.payload("a", 10.0, LABELS, None, [timeline.RunOutcomes("one", detections, 0.5)])
    json.dumps(drawn, allow_nan=False)
    (row,) = drawn["rows"]
    assert row["note"] == "2 detections with score ≥ 0.5" and not row["truth"]
    assert row["segments"]["start"] == [1.0, 5.0] and row["segments"]["outcomes"] == [[], []]
    assert row["segments"]["text"] == ["score 0.800", "score 0.900"] and drawn["legend"] == []


def test_rows_are_in_order_of_start_with_all_that_belongs_to_a_segment(ground_truth, run):
    unsure = table(("a", 5.0, 6.0, "Ambiguous"))
    truth = timeline.payload("a", 20.0, LABELS, ground_truth, [run], tiou=0.5, ambiguous=unsure)["rows"][0]
    assert truth["segments"]["start"] == [0.0, 5.0, 10.0]
    assert truth["segments"]["id"] == [0, -2, 1]
    assert truth["segments"]["outcomes"][1] == ["ambiguous"]
