import numpy as np
import pandas as pd
import pytest

from tal_core.data.exploring import statistics

COLUMNS = ["video_id", "start", "end", "label"]


@pytest.fixture
def truth() -> pd.DataFrame:
    rows = [("a", 0.0, 2.0, "jump"), ("a", 1.0, 4.0, "run"), ("a", 1.5, 2.5, "jump"), ("b", 2.0, 9.0, "run")]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_per_class_lists_classes_without_segments_too(truth):
    table = statistics.per_class(truth, ["jump", "run", "wave"]).set_index("label")
    assert table["instances"].to_dict() == {"jump": 2, "run": 2, "wave": 0}
    assert table["videos"].to_dict() == {"jump": 1, "run": 2, "wave": 0}
    assert table.loc["run", "median"] == pytest.approx(5.0)
    assert np.isnan(table.loc["wave", "median"])


def test_coverage_counts_overlaps_once_and_stops_at_the_end(truth):
    table = statistics.per_video(truth, pd.Series({"a": 8.0, "b": 7.0, "c": np.nan})).set_index("video_id")
    assert table.loc["a", "coverage"] == pytest.approx(0.5)
    assert table.loc["b", "coverage"] == pytest.approx(5 / 7)
    assert np.isnan(table.loc["c", "coverage"]) and table.loc["c", "instances"] == 0
    assert table.loc["a", "classes"] == 2


def test_coverage_equals_counting_on_a_fine_grid():
    generator = np.random.default_rng(3)
    starts = generator.integers(0, 90, 60)
    ends = starts + generator.integers(0, 15, 60)
    truth = pd.DataFrame({"video_id": "v", "start": starts * 1.0, "end": ends * 1.0, "label": "x"})
    grid = np.zeros(100, bool)
    for start, end in zip(starts, ends, strict=True):
        grid[start:end] = True
    assert statistics.covered_seconds(truth, pd.Series({"v": 100.0}))["v"] == pytest.approx(grid.sum())


def test_main_class_has_the_most_seconds(truth):
    assert statistics.main_classes(truth).to_dict() == {"a": "jump", "b": "run"}
    longer = truth.assign(end=[2.0, 9.0, 2.5, 9.0])
    assert statistics.main_classes(longer)["a"] == "run"
    assert statistics.main_classes(truth.iloc[:0]).empty


def test_co_occurrence_is_of_the_rows_videos(truth):
    shares = statistics.co_occurrence(truth, ["jump", "run", "wave"])
    assert shares.loc["run", "jump"] == pytest.approx(0.5)
    assert shares.loc["jump", "run"] == 1.0
    assert shares.loc["wave"].tolist() == [0, 0, 0]


def test_change_point_where_the_features_jump():
    features = np.concatenate([np.zeros((20, 3)), np.ones((30, 3))])
    scores = statistics.change_scores(features)
    assert scores.shape == (50,) and int(scores.argmax()) == 20
    assert statistics.change_points(scores).tolist() == [20]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 9])
def test_short_videos_have_scores(length):
    scores = statistics.change_scores(np.random.default_rng(0).normal(size=(length, 4)))
    assert scores.shape == (length,) and np.isfinite(scores).all()
    statistics.change_points(scores)
