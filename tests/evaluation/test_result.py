import json

import numpy as np
import pytest

from tal_core.evaluation.result import Evaluation, format_table, parse_tiou
from tal_core.types import InputError

RESULT = Evaluation(
    tiou=[0.5, 0.75],
    labels=["Jump", "Run fast"],
    ap=np.array([[0.5, 0.25], [1.0, 0.75]]),
    num_videos=3,
    num_ground_truth=7,
    num_detections=40,
    ignored={"detections_with_unknown_label": 2, "ambiguous_detections": 0},
)


def test_json_form_and_back():
    written = json.loads(json.dumps(RESULT.to_json()))
    assert written == {
        "tiou": [0.5, 0.75],
        "mAP": [0.75, 0.5],
        "average_mAP": 0.625,
        "per_class": {"Jump": [0.5, 0.25], "Run fast": [1.0, 0.75]},
        "num_videos": 3,
        "num_ground_truth": 7,
        "num_detections": 40,
        "ignored": {"detections_with_unknown_label": 2, "ambiguous_detections": 0},
    }
    again = Evaluation.from_json(written)
    assert again.to_json() == written
    assert again.per_class().loc["Run fast"].tolist() == [1.0, 0.75, 0.875]


@pytest.mark.parametrize(
    "change",
    [
        {"per_class": {"Jump": [0.5]}},
        {"per_class": {}},
        {"per_class": [1, 2]},
        {"tiou": None},
        {"num_videos": "many"},
        {"ignored": 5},
    ],
)
def test_broken_json_names_the_file(change):
    with pytest.raises(InputError, match=r"run/evaluation\.json"):
        Evaluation.from_json({**RESULT.to_json(), **change}, where="run/evaluation.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", [0.5]),
        ("0.5,0.75", [0.5, 0.75]),
        (" 0.5 , 0.75 ", [0.5, 0.75]),
        ("0.3:0.7:0.1", [0.3, 0.39999999999999997, 0.5, 0.6, 0.7]),
        ("0.5:0.95:0.05", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95]),
        ("0.5:0.5:0.1", [0.5]),
    ],
)
def test_thresholds_as_people_write_them(text, expected):
    assert parse_tiou(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "half",
        "0.5,",
        "0",
        "1.2",
        "-0.5",
        "nan",
        "0.5,0.5",
        "0.3:0.7",
        "0.7:0.3:0.1",
        "0.3:0.7:0",
        "0.3:0.75:0.1",
        "0.3:inf:0.1",
        "0.3:0.7:nan",
        "0.1:0.2:1e-300",
        "1:2:3:4",
    ],
)
def test_unreadable_thresholds(text):
    with pytest.raises(InputError, match="tIoU thresholds") as caught:
        parse_tiou(text)
    assert "\n" not in str(caught.value)


def test_text_table():
    text = format_table(RESULT, title="demo, subset testing")
    lines = text.splitlines()
    assert lines[0] == "demo, subset testing"
    assert lines[1].split() == ["AP", "in", "%", "at", "tIoU", "0.50", "0.75", "average"]
    assert lines[3].split() == ["Run", "fast", "100.00", "75.00", "87.50"]
    assert lines[4].split() == ["mAP", "75.00", "50.00", "62.50"]
    assert "7 annotations" in text
    assert lines[-1] == "Left out: 2 detections with unknown label"
    assert "Jump" not in format_table(RESULT, per_class=False)
