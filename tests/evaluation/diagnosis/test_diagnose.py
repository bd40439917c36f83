import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.diagnosis.diagnose import diagnose
from tal_core.evaluation.diagnosis.gains import FIXABLE
from tal_core.evaluation.diagnosis.report import KEYS, format_report, to_json
from tal_core.evaluation.diagnosis.segment_errors import class_confusion, errors_per_class, video_errors
from tal_core.evaluation.outcomes import label_detections
from tal_core.types import InputError
from tests.evaluation.golden_tables import detection_table, ground_truth_table, load

EXPECTED = load("detad_thumos/expected.json.gz")
EDGE_CASES = load("detad_thumos/edge_cases.json")["cases"]
PARTS = {
    "false_positive": "false_positives",
    "sensitivity": "sensitivity",
    "false_negative": "false_negatives",
}
NOT_OURS = {"num_false_negatives_with_minimum_normalized_precision_0", "per_prediction"}


@pytest.fixture(scope="module")
def thumos():
    content = load("map_thumos/ground_truth.json.gz")
    truth, videos = ground_truth_table(content, EXPECTED["subset"])
    durations = pd.Series({video: content["database"][video]["duration"] for video in videos})
    return truth, detection_table(load("map_thumos/predictions.json.gz")), durations


@pytest.fixture(scope="module")
def diagnosis(thumos):
    truth, detections, durations = thumos
    return diagnose(truth, detections, [0.5], durations=durations)


def differences(ours, reference, where):
    """Every number of the reference beside ours."""
    for key, value in reference.items():
        if key in NOT_OURS:
            continue
        if isinstance(value, dict):
            yield from differences(ours[key], value, f"{where}/{key}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one, other in zip(ours[key], value, strict=True):
                yield from differences(one, other, f"{where}/{key}/{other['band']}")
        elif isinstance(value, str) or value is None:
            yield f"{where}/{key}", float(ours[key] != value)
        else:
            gap = np.abs(np.asarray(ours[key], float) - np.asarray(value, float))
            yield f"{where}/{key}", float(gap.max())


@pytest.mark.parametrize("setting", ["tiou_0.5", "tiou_0.3_to_0.7"])
def test_equals_detad(thumos, setting):
    truth, detections, durations = thumos
    reference = EXPECTED[setting]
    ours = to_json(diagnose(truth, detections, reference["tiou"], durations=durations))
    gaps = [gap for theirs, mine in PARTS.items() for gap in differences(ours[mine], reference[theirs], mine)]
    assert len(gaps) > 300
    assert [gap for gap in gaps if not gap[1] <= 1e-9] == []


def test_equals_detad_with_a_stricter_minimum_precision(thumos):
    truth, detections, durations = thumos
    reference = EXPECTED["tiou_0.5"]["false_negative_stricter"]
    found = diagnose(truth, detections, [0.5], durations=durations, minimum_precision=0.3)
    gaps = list(differences(to_json(found)["false_negatives"], reference, ""))
    assert [gap for gap in gaps if not gap[1] <= 1e-9] == []


def test_every_detection_has_detads_outcome(diagnosis):
    reference = EXPECTED["tiou_0.5"]["per_prediction"]
    table = diagnosis.labelled[diagnosis.best(10)].sort_index()
    assert table.index.tolist() == reference["position"]
    kinds = [list(KEYS)[code] for code in reference["error"]]
    assert table["outcome"].tolist() == kinds
    assert table["matched"].tolist() == reference["matched_ground_truth"]


def test_buckets_have_detads_edges(diagnosis):
    for name, bucket in EXPECTED["bucket_edges"].items():
        ours = diagnosis.characteristics[name]
        assert ours.names == bucket["names"]
        assert ours.edges == [np.inf if edge is None else edge for edge in bucket["edges"]]


STOPPED = {"foreign_video_first", "label_not_in_ground_truth"}  # DETAD stops with an exception on these


@pytest.mark.parametrize(
    "case",
    [case for case in EDGE_CASES if case["name"] not in STOPPED],
    ids=lambda case: case["name"],
)
def test_detad_edge_cases(case):
    subset = next(iter(case["ground_truth"]["database"].values()))["subset"]
    truth, _ = ground_truth_table(case["ground_truth"], subset)
    found = diagnose(truth, detection_table(case["predictions"]), [case["tiou"]], limit=case["limit_factor"])
    expected = case["expected"]
    ours = to_json(found)["false_positives"]
    assert ours["average_num_instances_per_class"] == expected["average_num_instances_per_class"]
    assert {k: v[0] for k, v in ours["ap_N"].items()} == pytest.approx(expected["ap_N"], abs=1e-9)
    assert ours["average_mAP_N"] == pytest.approx(expected["average_mAP_N"], abs=1e-9)
    assert ours["average_mAP_N_gain_when_removed"] == pytest.approx(expected["gain_when_removed"], abs=1e-9)


@pytest.mark.parametrize("name", sorted(STOPPED))
def test_goes_on_where_detad_stops(name):
    case = next(case for case in EDGE_CASES if case["name"] == name)
    subset = next(iter(case["ground_truth"]["database"].values()))["subset"]
    truth, _ = ground_truth_table(case["ground_truth"], subset)
    assert diagnose(truth, detection_table(case["predictions"]), [0.5]).false_positives.average_map == 1.0


def test_base_map_is_that_of_evaluate(thumos, diagnosis):
    truth, detections, _ = thumos
    assert diagnosis.base_map.mean() == pytest.approx(
        evaluate(truth, detections, [0.5]).average_mAP, abs=1e-12
    )


def mended_by_hand(truth, detections, tiou, kind):
    """The detections with every error of a kind fixed, straight from the definition."""
    table, missed = label_detections(truth, detections, tiou)
    wrong = table["outcome"] == kind
    repaired = table[~wrong]
    if kind in ("wrong label", "localization error", "confusion error"):
        candidates = table[wrong & table["nearest"].isin(missed.index)]
        candidates = candidates.sort_values("score", ascending=False, kind="stable")
        chosen = candidates.drop_duplicates("nearest").copy()
        target = truth.loc[chosen["nearest"]]
        if kind != "localization error":
            chosen["label"] = target["label"].to_numpy()
        if kind != "wrong label":
            chosen["start"], chosen["end"] = target["start"].to_numpy(), target["end"].to_numpy()
        repaired = pd.concat([repaired, chosen])
    return repaired


@pytest.mark.parametrize("kind", [kind for kind in FIXABLE if kind != "missed"])
def test_mending_an_error_equals_evaluating_the_mended_file(kind):
    random = np.random.default_rng(3)
    # Annotations far apart and of one class per video: nothing that is fixed can take another's match.
    truth = pd.DataFrame(
        {
            "video_id": [f"v{i // 6}" for i in range(120)],
            "start": [100.0 * (i % 6) for i in range(120)],
            "end": [100.0 * (i % 6) + 20 for i in range(120)],
            "label": [f"c{i // 6 % 4}" for i in range(120)],
        }
    )
    base = truth.iloc[random.integers(0, 120, 500)]
    shift = random.choice([0.0, 3.0, 12.0, 50.0], 500, p=[0.4, 0.2, 0.3, 0.1])
    label = np.where(
        random.random(500) < 0.3, "c" + pd.Series(random.integers(0, 4, 500)).astype(str), base["label"]
    )
    detections = pd.DataFrame(
        {
            "video_id": base["video_id"].to_numpy(),
            "start": base["start"].to_numpy() + shift,
            "end": base["end"].to_numpy() + shift,
            "label": label,
            "score": random.permutation(500) / 500,
        }
    )
    found = diagnose(truth, detections, [0.5])
    repaired = mended_by_hand(truth, detections, 0.5, kind)
    expected = evaluate(truth, repaired, [0.5]).average_mAP
    assert found.fixed_map[kind][0] == pytest.approx(expected, abs=1e-12)
    assert found.fix_gain[kind] > 0.005


def rows(*values):
    return pd.DataFrame(
        list(values), columns=["video_id", "start", "end", "label", "score"][: len(values[0])]
    )


TRUTH = rows(
    ("a", 10.0, 20.0, "Jump"), ("a", 40.0, 50.0, "Run"), ("b", 5.0, 9.0, "Run"), ("b", 20.0, 30.0, "Jump")
)
NONE = rows(("a", 1.0, 2.0, "Jump", 0.5)).iloc[:0]


def test_missed_annotations_are_found_as_precisely_as_the_rest():
    found = diagnose(TRUTH, rows(("a", 10.0, 20.0, "Jump", 0.9)))
    assert found.base_map.tolist() == [0.25]
    assert found.fixed_map["missed"].tolist() == [1.0]


def test_boundary_offsets_are_signed():
    found = diagnose(TRUTH, rows(("a", 9.0, 22.0, "Jump", 0.9), ("b", 5.5, 9.0, "Run", 0.8)))
    table = found.boundaries.sort_values("annotation")
    assert table["annotation"].tolist() == [0, 2]
    assert table["detection"].tolist() == [0, 1]
    assert table["start"].tolist() == [-1.0, 0.5]
    assert table["end"].tolist() == [2.0, 0.0]


def test_calibration_of_a_bin():
    found = diagnose(
        TRUTH,
        rows(("a", 10.0, 20.0, "Jump", 0.95), ("a", 60.0, 70.0, "Jump", 0.93), ("b", 0.0, 1.0, "Run", 0.2)),
    )
    table = found.calibration.table
    assert table["count"].tolist() == [1, 2]
    assert table["low"].tolist() == pytest.approx([0.1, 0.9])
    assert table["precision"].tolist() == [0.0, 0.5]
    assert table["score"].tolist() == pytest.approx([0.2, 0.94])
    assert found.calibration.error == pytest.approx((0.2 + 2 * 0.44) / 3)


def test_scores_that_are_no_probabilities_have_no_calibration_error():
    found = diagnose(TRUTH, rows(("a", 10.0, 20.0, "Jump", 7.0), ("b", 0.0, 1.0, "Run", -2.0)))
    assert found.calibration.error is None
    assert found.calibration.table["count"].sum() == 2


def test_class_confusion_matches_regardless_of_class():
    detections = rows(
        ("a", 10.0, 20.0, "Run", 0.9),  # on a Jump
        ("a", 10.0, 19.0, "Jump", 0.8),  # nothing left to match: background
        ("b", 5.0, 9.0, "Run", 0.7),
        ("b", 50.0, 60.0, "Jump", 0.6),
    )
    found = diagnose(TRUTH, detections)
    confusion = class_confusion(found.ranked, detections, found.best(2))
    assert confusion.labels == ["Jump", "Run"]
    assert confusion.counts.tolist() == [[0, 1, 1], [0, 1, 1], [2, 0, 0]]


def test_counts_per_class_and_video_are_of_the_best_detections():
    detections = rows(
        ("a", 10.0, 20.0, "Jump", 0.9),
        ("a", 41.0, 50.0, "Jump", 0.8),
        ("a", 60.0, 61.0, "Jump", 0.7),  # beyond 1G
        ("b", 7.0, 9.0, "Run", 0.7),
    )
    found = diagnose(TRUTH, detections)
    classes = errors_per_class(found.ranked, found.best()).set_index("label")
    assert classes.loc["Jump", ["true positive", "wrong label", "missed", "errors"]].tolist() == [1, 1, 1, 2]
    assert classes.loc["Run", ["true positive", "missed", "errors"]].tolist() == [1, 1, 1]
    videos = video_errors(found.ranked, detections, found.best()).set_index("video_id")
    assert videos.loc["a", ["true positive", "wrong label", "background error", "missed"]].tolist() == [
        1,
        1,
        0,
        1,
    ]
    assert videos.loc["b", "errors"] == 1


def test_annotations_that_detad_drops_are_counted():
    truth = pd.concat([TRUTH, rows(("b", 3.0, 3.0, "Run"), ("b", 0.0, 200.0, "Run"))], ignore_index=True)
    found = diagnose(truth, NONE, durations=pd.Series({"a": 100.0, "b": 100.0}))
    assert len(found.ranked.truth) == 4
    assert "Left out: 1 annotations without length." in found.notes
    assert "Left out: 1 annotations longer than their video." in found.notes


def test_quantile_buckets_hold_equal_shares():
    truth = rows(*[(f"v{i}", 0.0, 1.0 + i, "Jump") for i in range(50)])
    length = diagnose(truth, NONE, buckets="quantiles").characteristics["length"]
    assert np.bincount(length.bucket).tolist() == [10, 10, 10, 10, 10]
    assert length.names == ["XS", "S", "M", "L", "XL"]
    same = diagnose(truth, NONE, buckets="quantiles").characteristics["num-instances"]
    assert same.names == ["all"] and set(same.bucket) == {0}


@pytest.mark.parametrize(
    ("ids", "scheme_edge"),
    [
        (["video_test_0000004"], 3.0),
        (["v_--0edUL8zmA", "v_zzz_3yWpTXo"], 30.0),
        (["rgb-01-1"], 10.0),
    ],
)
def test_buckets_follow_the_benchmark_that_the_ids_tell(ids, scheme_edge):
    truth = rows(*[(video, 10.0, 20.0, "Jump") for video in ids])
    assert diagnose(truth, NONE).characteristics["length"].edges[1] == scheme_edge


# ---------------------------------------------------------------- input that says little


def usable(found):
    """Every number that people see is one, and the report can be written."""
    text = format_report(found)
    content = to_json(found)
    assert "nan" not in text.lower() and np.isfinite(content["mended"]["average_mAP"])
    return content


def test_empty_detections():
    found = diagnose(TRUTH, NONE)
    content = usable(found)
    assert any("no detections" in note for note in found.notes)
    assert content["mended"]["average_mAP_gain"]["missed"] == 1.0
    assert content["false_negatives"]["false_negative_rate"] == [1.0]
    assert content["false_positives"]["num_predictions_after_limit"] == 0


def test_equal_scores():
    found = diagnose(TRUTH, TRUTH.assign(score=0.5))
    assert usable(found)["mended"]["average_mAP"] == 1.0
    assert any("scores are equal" in note for note in found.notes)


def test_a_class_never_predicted_and_one_with_one_instance():
    truth = pd.concat([TRUTH, rows(("a", 70.0, 80.0, "Throw"))], ignore_index=True)
    found = diagnose(truth, TRUTH.assign(score=[0.9, 0.8, 0.7, 0.6]))
    assert usable(found)["false_positives"]["ap_N"]["Throw"] == [0.0]
    assert "Never detected, AP 0: Throw." in found.notes
    assert "Only one annotation, so AP says little: Throw." in found.notes


def test_one_video_only():
    found = diagnose(TRUTH[TRUTH["video_id"] == "a"], TRUTH.assign(score=0.5))
    usable(found)
    assert any("Only one video" in note for note in found.notes)


def test_no_detection_in_the_subset():
    found = diagnose(TRUTH, rows(("z", 1.0, 2.0, "Jump", 0.5), ("y", 1.0, 2.0, "Jump", 0.6)))
    assert usable(found)["false_positives"]["error_counts"]["background"] == [2]
    assert any("No detection lies in an annotated video" in note for note in found.notes)


def test_unknown_durations():
    found = diagnose(TRUTH, NONE, durations=pd.Series({"a": np.nan}))
    assert set(usable(found)["sensitivity"]["buckets"]) == {"length", "num-instances"}
    assert any("duration" in note for note in found.notes)


def test_no_ground_truth_is_refused():
    with pytest.raises(InputError, match="no ground truth"):
        diagnose(TRUTH.iloc[:0], NONE)


@pytest.mark.parametrize("tiou", [[], [0.0], [0.5, 1.2]])
def test_thresholds_out_of_range_are_refused(tiou):
    with pytest.raises(InputError, match="tIoU"):
        diagnose(TRUTH, NONE, tiou)


def test_unknown_buckets_are_refused():
    with pytest.raises(InputError, match="buckets"):
        diagnose(TRUTH, NONE, buckets="coffee")


def test_the_report_names_the_largest_gain(diagnosis):
    text = format_report(diagnosis, title="subset test")
    assert text.startswith("subset test\nmAP 54.13 %")
    assert "Fixing this error would gain most: missed (+13.86 mAP)" in text
    assert "median" in text and "Left out: 24 detections with unknown label" in text
