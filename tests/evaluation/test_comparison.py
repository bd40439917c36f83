import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation import comparison
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.comparison import (
    best_f1,
    class_differences,
    found_by,
    match_side,
    paired_bootstrap,
    video_differences,
)
from tal_core.types import InputError

TIOU = [0.3, 0.5, 0.7]
VIDEOS = [f"v{k}" for k in range(8)]


def segments(rows: int, seed: int, videos=tuple(VIDEOS)) -> pd.DataFrame:
    """Random segments of three classes; every score is another one."""
    random = np.random.default_rng(seed)
    start = random.uniform(0, 20, rows).round(1)
    return pd.DataFrame(
        {
            "video_id": random.choice(videos, rows),
            "start": start,
            "end": start + random.uniform(1, 6, rows).round(1),
            "label": random.choice(["a", "b", "c"], rows),
            "score": random.permutation(rows) / rows,
        }
    )


@pytest.fixture(name="truth")
def make_truth():
    return segments(40, 0).drop(columns="score")


def near(truth: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Shifted annotations among noise, some of it in a video outside the subset."""
    random = np.random.default_rng(seed)
    good = truth.assign(score=random.uniform(0.3, 1, len(truth)))
    good[["start", "end"]] += random.normal(0, 0.7, (len(truth), 1))
    return pd.concat([good, segments(60, seed, (*VIDEOS, "elsewhere"))], ignore_index=True)


def copied(table: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    """The table with every video written out as often as it counts."""
    parts = [
        table[table["video_id"] == video].assign(video_id=f"{video}.{copy}")
        for video, count in counts.items()
        for copy in range(count)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("cells", [1, 1 << 20])
def test_weighting_a_video_is_writing_it_out_again(truth, monkeypatch, cells):
    monkeypatch.setattr(comparison, "_CELLS_AT_ONCE", cells)
    detections = near(truth, 1)
    side = match_side(truth, detections, TIOU, VIDEOS)
    weights = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), size=5).T.astype(np.int32)
    found = comparison._resampled(side, weights)
    for draw in range(5):
        counts = dict(zip(VIDEOS, weights[:, draw].tolist(), strict=True))
        expected = evaluate(copied(truth, counts), copied(detections, {**counts, "elsewhere": 1}), TIOU)
        assert found[draw] == pytest.approx(expected.average_mAP, abs=1e-12)


def test_interval_holds_the_difference_and_turns_with_the_order(truth):
    first, second = (match_side(truth, near(truth, seed), TIOU, VIDEOS) for seed in (1, 2))
    found = paired_bootstrap(first, second, draws=400)
    assert found.first == pytest.approx(evaluate(truth, near(truth, 1), TIOU).average_mAP)
    assert found.low < found.difference < found.high and found.videos == 8 and found.draws == 400
    turned = paired_bootstrap(second, first, draws=400)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert found == paired_bootstrap(first, second, draws=400), "the same draws every time"


def test_equal_runs_differ_by_nothing(truth):
    side = match_side(truth, near(truth, 1), TIOU, VIDEOS)
    found = paired_bootstrap(side, side, draws=50)
    assert (found.low, found.high, found.difference, found.share) == (0, 0, 0, 0) and not found.clear


def test_a_run_that_finds_all_is_clearly_better(truth):
    perfect = truth.assign(score=1.0)
    nothing = perfect.assign(start=100.0, end=101.0)
    found = paired_bootstrap(
        *(match_side(truth, table, TIOU, VIDEOS) for table in (nothing, perfect)), draws=50
    )
    assert found.clear and found.low == found.high == found.share == 1.0


def test_one_video_says_nothing(truth):
    one = truth[truth["video_id"] == "v0"]
    side = match_side(one, near(one, 1), TIOU, ["v0"])
    with pytest.raises(InputError, match="one video alone"):
        paired_bootstrap(side, side)


def test_best_f1_keeps_equal_scores_together():
    score = np.array([0.9, 0.5, 0.5, 0.1])
    assert best_f1(score, np.array([True, True, False, False]), 2) == pytest.approx((0.5, 0.8))
    assert best_f1(score[:0], np.zeros(0, bool), 2) == (0.0, 0.0)


def by_hand() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """v0: both find the first, only B the second. v1: only A finds it. v2: nothing there; B claims one."""
    columns = ["video_id", "start", "end", "label"]
    truth = pd.DataFrame(
        [("v0", 0.0, 10.0, "a"), ("v0", 20.0, 30.0, "a"), ("v1", 0.0, 10.0, "b")], columns=columns
    )
    first = pd.DataFrame(
        [("v0", 0.0, 10.0, "a", 0.9), ("v1", 0.0, 8.0, "b", 0.8)], columns=[*columns, "score"]
    )
    rows = [("v0", 0.0, 10.0, "a", 0.9), ("v0", 20.0, 30.0, "a", 0.8), ("v2", 0.0, 5.0, "b", 0.85)]
    return truth, first, pd.DataFrame(rows, columns=[*columns, "score"])


def test_videos_and_annotations_by_hand():
    truth, a, b = by_hand()
    first, second = (match_side(truth, table, [0.5], ["v0", "v1", "v2"]) for table in (a, b))
    videos = video_differences(first, second).set_index("video_id")
    assert videos["first"].to_dict() == pytest.approx({"v0": 2 / 3, "v1": 1.0, "v2": 1.0})
    assert videos["second"].to_dict() == pytest.approx({"v0": 1.0, "v1": 0.0, "v2": 0.0})
    assert videos.index[0] == "v0" and videos["annotations"].to_dict() == {"v0": 2, "v1": 1, "v2": 0}
    found = found_by(first, second, 0)
    assert found["found"].tolist() == ["both", "second", "first"]
    assert found["tiou"].iloc[1:].tolist() == pytest.approx([1.0, 0.8])
    assert found["score"].iloc[1:].tolist() == pytest.approx([0.8, 0.8]) and np.isnan(found["score"].iloc[0])


def test_classes_are_sorted_by_gain():
    truth, a, b = by_hand()
    table = class_differences(evaluate(truth, a, [0.5]), evaluate(truth, b, [0.5]))
    assert table["label"].tolist() == ["a", "b"]
    assert table["difference"].tolist() == pytest.approx([0.5, -1.0])
