import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.outcomes import MISSED, OUTCOMES, errors_per_video, label_detections
from tal_core.types import InputError
from tests.evaluation.golden_tables import detection_table, ground_truth_table, load

DETAD_NAMES = ("true_positive", "double_detection", "wrong_label", "localization", "confusion", "background")
EDGE_CASES = load("detad_thumos/edge_cases.json")["cases"]
# Where DETAD stops or slips (see golden/evaluation/README.md): position and error by its definition.
DEFINITION = {
    "foreign_video_two_predictions": {
        "position": [0, 1, 2, 3],
        "error": ["double_detection", "true_positive", "background", "background"],
        "matched_ground_truth": [-1, 0, -1, -1],
    },
    "foreign_video_first": {
        "position": [0, 1, 2],
        "error": ["true_positive", "background", "background"],
        "matched_ground_truth": [0, -1, -1],
    },
    "label_not_in_ground_truth": {
        "position": [0],
        "error": ["true_positive"],
        "matched_ground_truth": [0],
    },
}


def limited(detections, truth, factor):
    """DETAD's limit: of a class with G annotations the best ``factor * G`` detections; unknown classes go."""
    limit = factor * truth["label"].value_counts()
    ranked = detections[detections["label"].isin(limit.index)]
    ranked = ranked.sort_values("score", ascending=False, kind="stable")
    rank = ranked.groupby("label").cumcount()
    return ranked[rank < ranked["label"].map(limit)].sort_index()


def test_equals_detad_on_thumos():
    expected = load("detad_thumos/expected.json.gz")
    truth, _ = ground_truth_table(load("map_thumos/ground_truth.json.gz"), expected["subset"])
    detections = limited(detection_table(load("map_thumos/predictions.json.gz")), truth, 10)
    reference = expected["tiou_0.5"]["per_prediction"]
    labelled, missed = label_detections(truth, detections, 0.5)
    assert labelled.index.tolist() == reference["position"]
    codes = labelled["outcome"].map({name: i for i, name in enumerate(OUTCOMES)})
    assert codes.tolist() == reference["error"]
    assert labelled["matched"].tolist() == reference["matched_ground_truth"]
    assert len(missed) == len(truth) - (codes == 0).sum()


def test_misses_as_many_as_detad_without_a_limit():
    expected = load("detad_thumos/expected.json.gz")
    truth, _ = ground_truth_table(load("map_thumos/ground_truth.json.gz"), expected["subset"])
    detections = detection_table(load("map_thumos/predictions.json.gz"))
    _, missed = label_detections(truth, detections, 0.5)
    assert missed.index.tolist() == sorted(
        expected["tiou_0.5"]["false_negative"]["false_negative_ground_truth"]
    )


@pytest.mark.parametrize("case", EDGE_CASES, ids=[c["name"] for c in EDGE_CASES])
def test_detad_edge_cases(case):
    expected = DEFINITION.get(case["name"], case["expected"])
    subset = next(iter(case["ground_truth"]["database"].values()))["subset"]
    truth, _ = ground_truth_table(case["ground_truth"], subset)
    detections = limited(detection_table(case["predictions"]), truth, case["limit_factor"])
    labelled, _ = label_detections(truth, detections, case["tiou"])
    assert labelled.index.tolist() == expected["position"]
    assert [DETAD_NAMES[OUTCOMES.index(o)] for o in labelled["outcome"]] == expected["error"]
    assert labelled["matched"].tolist() == expected["matched_ground_truth"]


def table(*rows):
    return pd.DataFrame(list(rows), columns=["video_id", "start", "end", "label", "score"][: len(rows[0])])


TRUTH = table(("a", 10.0, 20.0, "Jump"), ("a", 40.0, 50.0, "Run"), ("b", 5.0, 9.0, "Run"))


def test_tells_what_each_detection_was_compared_with():
    detections = table(
        ("a", 40.0, 50.0, "Jump", 0.3),
        ("a", 12.0, 20.0, "Jump", 0.9),
        ("a", 15.0, 25.0, "Jump", 0.2),
        ("a", 10.0, 20.0, "Jump", 0.8),
        ("c", 10.0, 20.0, "Jump", 0.7),
        ("b", 5.0, 9.0, "Swim", 0.6),
        ("b", 8.0, 9.5, "Swim", 0.5),
        ("a", 19.9, 30.0, "Jump", 0.1),
    )
    labelled, missed = label_detections(TRUTH, detections.set_index(np.arange(8) + 100), 0.5)
    assert labelled.index.tolist() == list(range(100, 108))
    assert labelled["outcome"].tolist() == [
        "wrong label",
        "true positive",
        "localization error",
        "double detection",
        "background error",
        "wrong label",
        "confusion error",
        "background error",
    ]
    assert labelled["matched"].tolist() == [-1, 0, -1, -1, -1, -1, -1, -1]
    assert labelled["nearest"].tolist() == [1, 0, 0, 0, -1, 2, 2, -1]
    assert labelled["tiou"].tolist() == pytest.approx([1, 0.8, 1 / 3, 1, 0, 1, 1 / 4.5, 0])
    assert missed.index.tolist() == [1, 2]

    worst = errors_per_video(labelled, missed, videos=["a", "b", "d"])
    assert worst["video_id"].tolist() == ["a", "b", "d"]
    assert worst["errors"].tolist() == [5, 3, 0]
    assert worst.columns.tolist() == ["video_id", *OUTCOMES, MISSED, "errors"]
    assert worst.loc[0, list(OUTCOMES)].tolist() == [1, 1, 1, 1, 0, 1]
    assert worst[MISSED].tolist() == [1, 1, 0]
    assert errors_per_video(labelled, missed)["video_id"].tolist() == ["a", "b", "c"]


def test_empty_sides():
    none = table(("a", 1.0, 2.0, "Jump", 0.5)).iloc[:0]
    labelled, missed = label_detections(TRUTH, none)
    assert labelled.empty
    assert len(missed) == 3
    labelled, missed = label_detections(TRUTH.iloc[:0], table(("a", 1.0, 2.0, "Jump", 0.5)))
    assert labelled["outcome"].tolist() == ["background error"]
    assert missed.empty
    assert errors_per_video(none.assign(outcome=""), missed).empty


@pytest.mark.parametrize("tiou", [0.0, 1.1, float("nan")])
def test_threshold_out_of_range(tiou):
    with pytest.raises(InputError, match="outside"):
        label_detections(TRUTH, table(("a", 1.0, 2.0, "Jump", 0.5)), tiou)
