import json

import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.average_precision import clean_ground_truth, evaluate, precision_recall
from tal_core.types import InputError
from tests.evaluation.golden_tables import detection_table, ground_truth_table, load

EXACT = 1e-9
EDGE_CASES = load("map_edge_cases.json")["cases"]


def table(*rows):
    columns = ["video_id", "start", "end", "label", "score"][: len(rows[0])]
    return pd.DataFrame(list(rows), columns=columns)


JUMP = table(("a", 10.0, 20.0, "Jump"), ("a", 40.0, 50.0, "Jump"), ("b", 5.0, 9.0, "Run"))


def golden_inputs(case, predictions="predictions.json.gz"):
    expected = load(f"{case}/expected.json.gz")
    truth, videos = ground_truth_table(load(f"{case}/ground_truth.json.gz"), expected["subset"])
    return truth, videos, detection_table(load(f"{case}/{predictions}")), expected


def assert_equals(result, reference):
    assert result.labels == sorted(reference["ap"])
    for label, row in zip(result.labels, result.ap, strict=True):
        np.testing.assert_allclose(row, reference["ap"][label], rtol=0, atol=EXACT, err_msg=label)
    np.testing.assert_allclose(result.mAP, reference["mAP"], rtol=0, atol=EXACT)
    assert result.average_mAP == pytest.approx(reference["average_mAP"], abs=EXACT)
    assert result.num_ground_truth == reference["num_ground_truth"]


@pytest.mark.parametrize("case", ["map_thumos", "map_activitynet"])
@pytest.mark.parametrize(
    ("reference", "protocol"),
    [("activitynet_official", "official"), ("actionformer", "toolbox"), ("opentad", "toolbox")],
)
def test_equals_the_reference_programs(case, reference, protocol):
    truth, videos, detections, expected = golden_inputs(case)
    tiou = [float(t) for t in expected["tiou_as_float64"][reference]]
    result = evaluate(truth, detections, tiou, protocol=protocol, videos=videos)
    assert_equals(result, expected[reference])
    counts = expected["counts"]
    assert result.num_videos == counts["videos_in_subset"]
    assert result.num_detections == counts["predictions"]
    unknown = counts["predictions_with_label_outside_ground_truth"]
    assert result.ignored["detections_with_unknown_label"] == unknown
    dropped = result.ignored["duplicate_annotations"] + result.ignored["zero_length_annotations"]
    assert dropped == counts["annotations_as_written"] - result.num_ground_truth


def test_equal_scores_go_by_position_in_the_file():
    truth, _, detections, _ = golden_inputs("map_thumos", "predictions_ties.json.gz")
    expected = load("map_thumos/expected_ties.json.gz")["earlier_first"]
    result = evaluate(truth, detections, np.linspace(0.3, 0.7, 5), protocol="toolbox")
    assert_equals(result, {"num_ground_truth": len(truth), **(expected.get("actionformer", expected))})


# What the definition gives where golden/evaluation marks a reference's own value as a slip or an accident.
DEFINITION = {
    "class_of_other_subset_with_a_lower_id": {"Jump": [1.0]},
    "reversed_prediction_of_same_length": {"Jump": [0.5]},
    "zero_length_on_zero_length": {"Jump": [0.25]},
    "tie_true_first": {"Jump": [1.0]},
    "tie_false_first": {"Jump": [0.5]},
    "label_ids_with_a_gap": {"Jump": [1.0], "Run": [1.0]},
}


@pytest.mark.parametrize("case", EDGE_CASES, ids=[c["name"] for c in EDGE_CASES])
@pytest.mark.parametrize(
    ("reference", "protocol"),
    [("activitynet_official", "official"), ("actionformer", "toolbox"), ("opentad", "toolbox")],
)
def test_edge_cases(case, reference, protocol):
    if case["name"] == "very_short_annotation" and reference == "actionformer":
        reference = "opentad"  # the two differ here; ours keeps the annotation, as OpenTAD does
    expected = case["expected"][reference]
    truth, videos = ground_truth_table(case["ground_truth"], case["subset"])
    detections = detection_table(case["predictions"])
    result = evaluate(truth, detections, case["expected"]["tiou"], protocol=protocol, videos=videos)
    if reference in case["quirk_of"]:
        ap = DEFINITION[case["name"]]
    elif "stops_with" in expected:  # the official script stops on unknown labels, which are ignored here
        ap = case["expected"]["opentad"]["ap"]
    else:
        assert_equals(result, expected)
        return
    for label, row in zip(result.labels, result.ap, strict=True):
        np.testing.assert_allclose(row, ap[label], rtol=0, atol=EXACT)
    assert set(result.labels) == set(ap)


def test_all_39_edge_cases_are_there():
    assert len(EDGE_CASES) == 39
    assert {c["name"] for c in EDGE_CASES if c["quirk_of"]} == set(DEFINITION)


def test_ambiguous_is_neither_a_class_nor_a_positive():
    truth = pd.concat([JUMP, table(("a", 60.0, 70.0, "Ambiguous"))])
    detections = table(
        ("a", 10.0, 20.0, "Jump", 0.9), ("a", 60.0, 70.0, "Ambiguous", 0.8), ("a", 60.0, 70.0, "Jump", 0.95)
    )
    result = evaluate(truth, detections, [0.5])
    assert result.labels == ["Jump", "Run"]
    assert result.num_ground_truth == 3
    assert result.ap[0, 0] == pytest.approx(0.25)  # the false positive on the ambiguous segment counts
    assert result.ignored["ambiguous_annotations"] == result.ignored["ambiguous_detections"] == 1
    assert result.ignored["detections_with_unknown_label"] == 0


def test_ambiguous_table_excuses_what_touches_it_unless_matched():
    ambiguous = table(("a", 15.0, 70.0, "Ambiguous"), ("b", 0.0, 100.0, "Ambiguous"))
    detections = table(
        ("a", 69.0, 90.0, "Jump", 0.99),  # touches the ambiguous segment: excused
        ("a", 10.0, 20.0, "Jump", 0.9),  # touches it too, but is a match
        ("a", 70.0, 90.0, "Jump", 0.8),  # only meets its end: false positive
        ("a", 40.0, 50.0, "Jump", 0.7),
    )
    strict = evaluate(JUMP, detections, [0.5])
    excused = evaluate(JUMP, detections, [0.5], ambiguous=ambiguous)
    assert strict.ap[0, 0] == pytest.approx(0.5)  # precision 1/2, 2/4
    assert excused.ap[0, 0] == pytest.approx((1 + 2 / 3) / 2)
    assert excused.num_ground_truth == strict.num_ground_truth == 3


def test_toolbox_cleaning_is_counted():
    truth = table(
        ("a", 10.0, 20.0, "Jump"),
        ("a", 30.0, 30.0, "Jump"),
        ("a", 10.0005, 20.0, "Jump"),
        ("b", 10.0, 20.0, "Jump"),
        ("a", 10.0, 20.0, "Run"),
    )
    kept, ignored = clean_ground_truth(truth, "toolbox")
    assert kept.index.tolist() == [0, 3, 4]
    assert (ignored["zero_length_annotations"], ignored["duplicate_annotations"]) == (1, 1)
    assert len(clean_ground_truth(truth, "official")[0]) == 5


def test_precision_recall_curve_carries_the_ap():
    detections = table(
        ("a", 10.0, 20.0, "Jump", 0.9), ("c", 0.0, 5.0, "Jump", 0.8), ("a", 40.0, 50.0, "Jump", 0.7)
    )
    curve = precision_recall(JUMP, detections, [0.5, 0.9], labels=["Jump"])
    assert curve.columns.tolist() == ["label", "tiou", "score", "precision", "recall", "interpolated"]
    at_half = curve[curve["tiou"] == 0.5]
    assert at_half["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert at_half["recall"].tolist() == pytest.approx([0.5, 0.5, 1])
    assert at_half["interpolated"].tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    area = (np.diff(at_half["recall"], prepend=0.0) * at_half["interpolated"]).sum()
    assert area == pytest.approx(evaluate(JUMP, detections, [0.5]).ap[0, 0], abs=EXACT)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ground_truth": JUMP.iloc[:0]}, "no ground truth"),
        ({"tiou": []}, "no tIoU threshold"),
        ({"tiou": [0.5, 0.0]}, "0 is outside"),
        ({"tiou": [1.5]}, "1.5 is outside"),
        ({"tiou": [float("nan")]}, "outside"),
        ({"protocol": "coco"}, "coco"),
    ],
)
def test_wrong_arguments_get_one_clear_line(change, names):
    arguments = {
        "ground_truth": JUMP,
        "detections": table(("a", 1.0, 2.0, "Jump", 0.5)),
        "tiou": [0.5],
        **change,
    }
    with pytest.raises(InputError, match=names) as caught:
        evaluate(**arguments)
    assert "\n" not in str(caught.value)


def test_no_detections_give_zeros():
    empty = table(("a", 1.0, 2.0, "Jump", 0.5)).iloc[:0]
    result = evaluate(JUMP, empty, [0.3, 0.5], videos=["a", "b", "c"])
    assert (result.ap == 0).all()
    assert (result.num_videos, result.num_detections) == (3, 0)
    json.dumps(result.to_json())
