"""``--blocked`` of the commands that compare detections with ground truth, and ``datasets add --preset``."""

import json

import numpy as np
import pytest

from tal_core.cli import main
from tal_core.data.dataset.entry import load_entry


@pytest.fixture
def files(tmp_path):
    """Ground truth and detections of two videos; the detections of the second, ``gone``, are all wrong."""

    def video(subset, *segments):
        annotations = [{"segment": segment, "label": "run"} for segment in segments]
        return {"subset": subset, "duration": 32.0, "annotations": annotations}

    database = {
        "t": video("training", [2, 8]),
        "here": video("validation", [10, 20]),
        "gone": video("validation", [1, 5], [8, 9]),
    }
    results = {
        "here": [{"segment": [10, 20], "label": "run", "score": 0.5}],
        "v_gone": [{"segment": [22, 24], "label": "run", "score": 0.9}],
    }
    paths = {name: tmp_path / f"{name}.json" for name in ("truth", "found", "blocked", "out")}
    paths["truth"].write_text(json.dumps({"database": database}))
    paths["found"].write_text(json.dumps({"results": results}))
    paths["blocked"].write_text('["gone", "never annotated"]')
    return paths


@pytest.mark.parametrize(
    ("command", "figure", "whole", "rest"),
    [
        ("evaluate", lambda out: out["average_mAP"], 1 / 6, 1.0),
        ("proposals", lambda out: out["average_recall"][-1], 1 / 3, 1.0),
        ("segmentation", lambda out: out["F1@50"], 50.0, 100.0),
        ("diagnose", lambda out: out["false_negatives"]["num_false_negatives"][0], 2, 0),
    ],
)
def test_blocked_videos_count_nowhere(files, capsys, command, figure, whole, rest):
    arguments = [command, "--ground-truth", str(files["truth"]), "--detections", str(files["found"])]
    arguments += ["--json", str(files["out"])]
    assert main(arguments) == 0
    assert figure(json.loads(files["out"].read_text())) == pytest.approx(whole)
    capsys.readouterr()
    assert main([*arguments, "--blocked", str(files["blocked"])]) == 0
    assert figure(json.loads(files["out"].read_text())) == pytest.approx(rest)
    assert "1 videos with 2 annotations are left out (blocked.json)" in capsys.readouterr().out


def test_a_list_that_fits_nothing_is_one_line(files, capsys):
    files["blocked"].write_text('["elsewhere"]')
    arguments = ["--ground-truth", str(files["truth"]), "--detections", str(files["found"])]
    assert main(["evaluate", *arguments, "--blocked", str(files["blocked"])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none of its 1 videos is in the annotations" in line and "blocked.json" in line


def test_a_dataset_is_added_by_preset_and_blocked_list(home, files, tmp_path, capsys):
    for video in ("t", "here", "gone"):
        np.save(tmp_path / f"{video}.npy", np.zeros((30, 4), np.float16))
    arguments = ["--annotations", str(files["truth"]), "--features", str(tmp_path)]
    arguments += ["--preset", "activitynet", "--blocked", str(files["blocked"])]
    assert main(["datasets", "add", "anet", *arguments]) == 0
    out = capsys.readouterr().out
    assert "1 videos with 2 annotations are left out" in out
    assert "train --dataset anet --model actionformer --preset activitynet" in out
    entry = load_entry(home, "anet")
    assert entry.blocked == files["blocked"] and entry.stride == 16 and entry.fps == 15
    assert main(["datasets", "add", "other", *arguments[:4], "--preset", "imagenet"]) == 2
    assert "no benchmark 'imagenet'" in capsys.readouterr().err


def test_the_presets_are_listed_with_sources(capsys):
    assert main(["datasets", "presets"]) == 0
    out = capsys.readouterr().out
    assert "ego4d-mq-egovlp\tEgoVLP" in out
    assert out.count("source: ") >= 9
