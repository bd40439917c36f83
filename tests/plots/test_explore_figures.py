import json

import numpy as np
import pandas as pd
import pytest

from tal_core.data.exploring import statistics
from tal_core.plots import explore
from tal_core.plots.colors import class_colors

LABELS = ["jump", "run", "wave"]


@pytest.fixture
def truth() -> pd.DataFrame:
    rows = [("a", 0.0, 2.0, "jump"), ("a", 1.0, 4.0, "run"), ("a", 6.0, 7.0, "jump"), ("b", 0.0, 5.0, "run")]
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "label"])


@pytest.fixture
def durations() -> pd.Series:
    return pd.Series({"a": 10.0, "b": 4.0, "c": 8.0})


def test_class_distribution_shows_every_class_least_frequent_below(truth):
    figure = explore.class_distribution(statistics.per_class(truth, LABELS), class_colors(LABELS))
    assert list(figure.data[0].y) == ["wave", "jump", "run"]
    assert list(figure.data[0].x) == [0, 2, 2]


def test_classes_beyond_what_can_be_drawn_are_left_to_the_table(truth):
    labels = [f"c{i:03d}" for i in range(200)]
    figure = explore.class_distribution(statistics.per_class(truth, labels), class_colors(labels))
    assert len(figure.data[0].y) == explore.MOST_CLASSES


def test_durations_by_class_leaves_out_classes_without_segments(truth):
    figure = explore.duration_by_class(statistics.per_class(truth, LABELS), class_colors(LABELS))
    assert [box.name for box in figure.data] == ["jump", "run"]
    assert figure.data[1].median[0] == pytest.approx(4.0)


def test_histograms_count_everything_once(truth, durations):
    assert sum(explore.duration_histogram(truth).data[0].y) == len(truth)
    videos = statistics.per_video(truth, durations)
    assert sum(explore.instances_histogram(videos).data[0].y) == 3
    assert sum(explore.coverage_histogram(videos).data[0].y) == 3


def test_histogram_of_many_instances_keeps_every_video():
    videos = pd.DataFrame({"instances": np.arange(500)})
    figure = explore.instances_histogram(videos)
    assert sum(figure.data[0].y) == 500 and len(figure.data[0].x) <= 41


def test_empty_ground_truth_gives_empty_figures(truth, durations):
    nothing = truth.iloc[:0]
    explore.duration_histogram(nothing)
    explore.class_distribution(statistics.per_class(nothing, LABELS), class_colors(LABELS))
    explore.instances_histogram(statistics.per_video(nothing, durations).iloc[:0])
    explore.coverage_histogram(statistics.per_video(nothing, durations * np.nan))


def test_co_occurrence_map_is_drawn_in_the_order_of_its_axes(truth):
    shares = statistics.co_occurrence(truth, LABELS)
    figure = explore.co_occurrence_map(shares, statistics.per_class(truth, LABELS))
    names = list(figure.data[0].x)
    assert figure.data[0].z[names.index("run")][names.index("jump")] == pytest.approx(0.5)


@pytest.mark.parametrize("length,dimension", [(1, 1), (7, 3), (5000, 300)])
def test_video_features_stays_small_and_finite(truth, length, dimension):
    features = np.random.default_rng(0).normal(size=(length, dimension)).astype(np.float16)
    features[:, 0] = 3  # a constant dimension must not divide by zero
    change = statistics.change_scores(features)
    figure = explore.video_features(
        features,
        np.arange(length) * 0.5,
        truth[truth["video_id"] == "a"],
        class_colors(LABELS),
        change,
        statistics.change_points(change),
    )
    heat = next(trace for trace in figure.data if trace.type == "heatmap")
    assert np.isfinite(heat.z).all()
    assert heat.z.shape[0] <= 128 and heat.z.shape[1] <= 800
    json.loads(figure.to_json())


@pytest.fixture
def snippets() -> pd.DataFrame:
    return pd.DataFrame(
        {"video_id": list("aab"), "seconds": [0.0, 1, 2], "label": ["jump", "background", "run"]}
    )


def test_snippet_map_has_a_trace_per_class_with_its_colour(snippets):
    colors = class_colors(LABELS)
    figure = explore.snippet_map(np.zeros((3, 2)), snippets, colors)
    assert [trace.name for trace in figure.data] == ["background", "jump", "run"]
    assert figure.data[1].marker.color == colors["jump"]
    assert list(figure.data[2].customdata[0]) == ["b", 2.0, "run"]


def test_snippet_map_greys_other_classes_and_circles_marks(snippets):
    colors = {"run": class_colors(LABELS)["run"]}
    marks = {"outliers": np.array([False, False, True]), "duplicate videos": np.zeros(3, bool)}
    figure = explore.snippet_map(np.zeros((3, 2)), snippets, colors, ("x", "y"), marks)
    names = [trace.name for trace in figure.data]
    assert names == ["background", "other classes", "run", "outliers (1)"]
    assert figure.layout.xaxis.title.text == "x"


def test_classes_of_one_hue_get_markers_of_their_own():
    labels = [f"c{k:02d}" for k in range(36)]
    table = pd.DataFrame({"video_id": "a", "seconds": 0.0, "label": labels})
    figure = explore.snippet_map(np.zeros((36, 2)), table, class_colors(labels))
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    same_hue = [figure.data[k].marker.symbol for k in (0, 12, 24)]
    assert len(looks) == 36 and len(set(same_hue)) == 3
