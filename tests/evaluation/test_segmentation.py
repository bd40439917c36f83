"""Segmentation metrics against plain definitions written out loop by loop."""

import math

import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation import segmentation
from tal_core.evaluation.segmentation import BACKGROUND, compare_frames, edit_distance, segmentation_scores
from tal_core.types import InputError

COLUMNS = ["video_id", "start", "end", "label"]


def truth_of(*rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def detections_of(*rows):
    return pd.DataFrame(rows, columns=[*COLUMNS, "score"])


def plain_runs(frames):
    found = []
    for place, label in enumerate(frames):
        if found and found[-1][2] == label and found[-1][1] == place:
            found[-1][1] = place + 1
        elif label != BACKGROUND:
            found.append([place, place + 1, label])
    return found


def plain_distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            swap = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, swap)
    return table[-1][-1]


def plain_f1(actual, predicted, overlap):
    hit, right = [False] * len(actual), 0
    for begin, stop, label in predicted:
        ious = [
            (min(stop, y) - max(begin, x)) / (max(stop, y) - min(begin, x)) if kind == label else 0
            for x, y, kind in actual
        ]
        if ious and max(ious) >= overlap and not hit[ious.index(max(ious))]:
            hit[ious.index(max(ious))] = True
            right += 1
    precision = right / len(predicted) if predicted else 0
    recall = right / len(actual) if actual else 0
    return 200 * precision * recall / (precision + recall) if right else 0.0


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_compared_as_defined(seed):
    rng = np.random.default_rng(seed)

    def draw():
        return np.repeat(rng.integers(-1, 3, 12), rng.integers(1, 9, 12))[:50]

    actual = draw()
    predicted = np.where(rng.random(len(actual)) < 0.8, actual, np.resize(draw(), len(actual)))
    accuracy, edit, *scores = compare_frames(actual, predicted)
    assert accuracy == pytest.approx(
        100 * sum(a == b for a, b in zip(actual, predicted, strict=True)) / len(actual)
    )
    first, second = plain_runs(actual.tolist()), plain_runs(predicted.tolist())
    labels = [[run[2] for run in one] for one in (first, second)]
    longer = max(map(len, labels))
    assert edit == pytest.approx(100 * (1 - plain_distance(*labels) / longer))
    assert scores == pytest.approx([plain_f1(first, second, overlap / 100) for overlap in (10, 25, 50)])


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)],
)
def test_edit_distance(a, b, distance):
    assert edit_distance([*map(ord, a)], [*map(ord, b)]) == distance


def test_overlaps_and_gaps_become_one_label_a_frame():
    truth = truth_of(("v", 0.0, 4.0, "cut"), ("v", 3.0, 6.0, "stir"))
    found = detections_of(
        ("v", 0.0, 10.0, "cut", 0.2), ("v", 3.0, 6.0, "stir", 0.9), ("v", 4.0, 5.0, "pour", 0.5)
    )
    scores = segmentation_scores(truth, found, {"v": 10.0}, 1.0)
    assert scores.means() == pytest.approx(
        {"accuracy": 60, "edit": 100 * (1 - 1 / 3), "F1@10": 80, "F1@25": 80, "F1@50": 80}
    )
    strict = segmentation_scores(truth, found, {"v": 10.0}, 1.0, min_score=0.5).means()
    assert strict["accuracy"] == pytest.approx(70) and strict["F1@50"] == pytest.approx(100 * 2 / 3)


def test_every_video_counts_alike():
    truth = truth_of(("long", 0.0, 90.0, "cut"), ("short", 0.0, 1.0, "cut"))
    found = detections_of(("long", 0.0, 90.0, "cut", 0.5))
    scores = segmentation_scores(truth, found, {"long": 100.0, "short": 1.0, "empty": 5.0}, 0.1)
    assert scores.per_video["accuracy"].tolist() == pytest.approx([100, 0, 100])
    assert scores.means()["F1@10"] == pytest.approx(200 / 3)


def test_a_missing_duration_ends_with_the_annotations():
    truth = truth_of(("v", 0.0, 4.0, "cut"))
    found = detections_of(("v", 0.0, 40.0, "cut", 1.0))
    assert segmentation_scores(truth, found, {"v": math.nan, "w": math.nan}, 0.5).means()["edit"] == 100


def test_equal_scores_go_to_the_first():
    found = detections_of(("v", 0.0, 4.0, "cut", 0.5), ("v", 0.0, 4.0, "stir", 0.5))
    truth = truth_of(("v", 0.0, 4.0, "cut"))
    assert segmentation_scores(truth, found, {"v": 4.0}, 1.0).means()["accuracy"] == 100


@pytest.mark.parametrize("step", [0, -1, math.nan, math.inf])
def test_a_step_that_makes_no_sense(step):
    with pytest.raises(InputError, match=r"step of .* is out of range"):
        segmentation_scores(truth_of(), detections_of(), {"v": 4.0}, step)


def test_too_many_frames_and_no_videos():
    with pytest.raises(InputError, match=r"a step of 1e-07 s makes more than 100,000,000 frames"):
        segmentation_scores(truth_of(), detections_of(), {"v": 40.0}, 1e-7)
    with pytest.raises(InputError, match="no videos"):
        segmentation_scores(truth_of(), detections_of(), {}, 1.0)
    assert segmentation.OVERLAPS == (10, 25, 50)
