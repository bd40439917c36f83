"""Per-frame average precision gives the numbers of the reference; tests/golden/miniroad/README.md."""

import json

import numpy as np
import pandas as pd
import pytest

from tal_core.cli import main
from tal_core.evaluation.frame_precision import evaluate_frames, frame_precision, stage_precision
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tests.training.synthetic import make_dataset, make_run


@pytest.fixture(scope="module", name="case")
def _case(golden):
    return dict(np.load(golden / "miniroad" / "case.npz"))


def compared(case, name, target, score):
    """Our figures beside the golden ones of all classes but background."""
    for calibrated, kind in ((False, "AP"), (True, "cAP")):
        found = frame_precision(target[:, 1:] == 1, score[:, 1:].astype(np.float64), calibrated=calibrated)
        valid = case[f"{name}_{kind}_per_class_valid"][1:]
        counted = np.isfinite(found)
        assert np.array_equal(counted, valid)
        assert found[counted] == pytest.approx(case[f"{name}_{kind}_per_class"][1:][valid], abs=1e-9)
        assert found[counted].mean() == pytest.approx(float(case[f"{name}_m{kind}"]), abs=1e-9)


def test_plain_scores(case):
    compared(case, "metric_plain", case["metric_plain_target"], case["metric_plain_score"])


@pytest.mark.parametrize("name", ["metric_thumos", "test"])
def test_thumos_leaves_ambiguous_frames_out(case, name):
    score = case["metric_thumos_score" if name == "metric_thumos" else "test_probability"]
    target = case[f"{name}_target"]
    kept = target[:, 21] != 1
    if name == "metric_thumos":
        assert np.array_equal(np.flatnonzero(kept), case["metric_thumos_kept_frame"])
    compared(case, name, target[kept], score[kept])


def test_stages(case):
    target, score = case["metric_plain_target"][:, 1:] == 1, case["metric_plain_score"][:, 1:]
    assert stage_precision(target, score.astype(float)) == pytest.approx(
        case["metric_plain_stage_mcAP"], abs=1e-9
    )


def test_an_action_ends_with_its_video():
    positive = np.ones((4, 1), bool)
    positive[0] = False
    scores = np.array([[0.5], [0.1], [0.9], [0.9]])
    # Two actions begin, one of them below the negative, which counts double; or one does.
    assert stage_precision(positive, scores, [2, 2])[0] == pytest.approx((1 + 2 / (2 + 1 / 0.5)) / 2)
    assert stage_precision(positive, scores)[0] == pytest.approx(0.5)


def test_equal_scores_count_together():
    positive = np.array([[True], [False], [False], [True]])
    equal = np.ones((4, 1))
    assert frame_precision(positive, equal) == pytest.approx([0.5])
    assert frame_precision(positive[::-1], equal) == pytest.approx([0.5])


def test_segments_become_labels_and_ambiguous_ones_are_left_out():
    grid = TimeGrid(1.0, 0.5)
    scores = {"a": (np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.3], [0.6, 0.9]]), grid)}
    rows = [("a", 0.0, 2.0, "run"), ("a", 2.6, 2.9, "jump"), ("a", 0, 4, "unknown")]
    truth = pd.DataFrame(rows, columns=["video_id", "start", "end", "label"])
    found = evaluate_frames(scores, ["run", "jump"], truth)
    assert found.average_precision == pytest.approx([1, 0.5])
    last = pd.DataFrame([("a", 3.0, 4.0, "Ambiguous")], columns=truth.columns)
    found = evaluate_frames(scores, ["run", "jump"], truth, last)
    assert found.average_precision == pytest.approx([1, 1]) and found.num_frames == 3
    assert found.to_json()["mAP"] == 1
    with pytest.raises(InputError, match="no snippet scores"):
        evaluate_frames({}, ["run"], truth)


def test_the_command(home, tmp_path, capsys):
    make_dataset(home)
    run = make_run(home, epochs=4)
    train(home, run)
    assert main(["frames", "--run", "run", "--json", str(tmp_path / "frames.json")]) == 0
    written = json.loads((tmp_path / "frames.json").read_text())
    assert 0.5 < written["mAP"] <= 1 and len(written["stages"]) == 10 and written["num_videos"] == 2
    assert f"{100 * written['mAP']:.2f}" in capsys.readouterr().out
    (run.folder / "snippet_scores.npz").unlink()
    assert main(["frames", "--run", "run"]) == 2
    assert "snippet_scores.npz" in capsys.readouterr().err
