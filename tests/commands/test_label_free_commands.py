"""The commands ``proposals`` and ``segmentation``: their JSON, and wrong input in one line."""

import json

import pytest

from tal_core.cli import main
from tests.evaluation.golden_tables import GOLDEN, load

TRUTH = GOLDEN / "map_activitynet" / "ground_truth.json.gz"
PROPOSALS = GOLDEN / "recall_activitynet" / "proposals.json.gz"


def write(path, value):
    path.write_text(json.dumps(value))
    return str(path)


@pytest.fixture
def truth(tmp_path):
    video = {
        "subset": "validation",
        "duration": 10,
        "annotations": [{"segment": [0, 5], "label": "cut"}, {"segment": [5, 8], "label": "stir"}],
    }
    return write(tmp_path / "truth.json", {"database": {"v_a": video}})


def found(tmp_path, **videos):
    return write(tmp_path / "found.json", {"results": videos})


def segment(start, end, label, score):
    return {"segment": [start, end], "label": label, "score": score}


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_proposals_writes_the_official_figures(tmp_path, capsys):
    out = tmp_path / "out.json"
    files = ("--ground-truth", str(TRUTH), "--detections", str(PROPOSALS))
    assert main(["proposals", *files, "--subset", "validation", "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    expected = load("recall_activitynet/expected.json.gz")["activitynet_official"]["max_100"]
    assert written["AUC"] == pytest.approx(100 * expected["AUC"], abs=1e-9)
    assert written["AR"]["100"] == pytest.approx(expected["AR@100"], abs=1e-12)
    assert written["average_recall"] == pytest.approx(expected["average_recall"], abs=1e-12)
    assert len(written["proposals_per_video"]) == 100
    assert "AUC       89.63 %" in capsys.readouterr().out


def test_segmentation_writes_percent(truth, tmp_path, capsys):
    weak = segment(8, 10, "cut", 0.1)
    detections = found(tmp_path, v_a=[segment(0, 5, "cut", 0.9), segment(5, 8, "stir", 0.8), weak])
    arguments = ["segmentation", "--ground-truth", truth, "--detections", detections, "--step", "0.5"]
    out = tmp_path / "out.json"
    assert main([*arguments, "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written == pytest.approx(
        {"accuracy": 80, "edit": 200 / 3, "F1@10": 80, "F1@25": 80, "F1@50": 80}, abs=1e-9
    )
    assert main([*arguments, "--min-score", "0.5", "--json", str(out)]) == 0
    assert set(json.loads(out.read_text()).values()) == {100.0}
    assert "mean over 1 videos, a frame each 0.5 s" in capsys.readouterr().out


def test_wrong_input_gets_one_line(truth, tmp_path, capsys):
    detections = found(tmp_path, a=[segment(0, 5, "cut", 0.9)])
    files = ("--ground-truth", truth, "--detections", detections)
    assert "Add 'v_' in front of the video names" in refused(capsys, "proposals", *files)
    assert "'test'" in refused(capsys, "segmentation", *files, "--subset", "test")
    assert "step of 0 s is out of range" in refused(capsys, "segmentation", *files, "--step", "0")
    assert "--max-proposals" in refused(capsys, "proposals", *files, "--max-proposals", "0")
    nothing = ("--ground-truth", truth, "--detections", found(tmp_path))
    assert "no proposal is in a video with annotations" in refused(capsys, "proposals", *nothing)
    assert main(["segmentation", *nothing]) == 0, "nothing found is a result"
    assert "accuracy    20.00 %" in capsys.readouterr().out
