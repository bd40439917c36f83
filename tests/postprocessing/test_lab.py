"""What other settings make of stored candidates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tal_core.data.formats.class_scores import ClassScores
from tal_core.evaluation.average_precision import evaluate
from tal_core.models.method import Candidates, VideoClasses
from tal_core.postprocessing.candidates import save_candidates
from tal_core.postprocessing.fusion import NO_CLASS, Fusion
from tal_core.postprocessing.lab import Bench, Stored, open_candidates, search_grid, suggest
from tal_core.postprocessing.nms import Suppression
from tal_core.types import InputError

LABELS = ["jump", "kick", "wave"]
TIOU = [0.3, 0.5, 0.7]
SETTINGS = [
    Suppression(
        nms=kind, nms_per_class=per_class, voting_threshold=voting, max_detections=most, min_score=0.05
    )
    for kind in ("none", "hard", "soft", "linear")
    for per_class, voting in ((True, 0.0), (False, 0.0), (False, 0.6))
    for most in (5, 1000)
]


def make(seed=0, videos=6, proposals=False):
    """Ground truth, and candidates around it whose first video has a second name for a class."""
    rng = np.random.default_rng(seed)
    rows, candidates = [], {}
    for number in range(videos):
        start = np.sort(rng.uniform(0, 90, 6))
        end, label = start + rng.uniform(2, 8, 6), rng.integers(0, 3, 6)
        rows += [(f"v{number}", s, e, LABELS[k]) for s, e, k in zip(start, end, label, strict=True)]
        of = rng.integers(0, 6, 80)
        segments = np.stack([start[of], end[of]], axis=1) + rng.normal(0, 1.2, (80, 2))
        scores = np.sort(rng.beta(1, 3, 80))[::-1].astype(np.float32)
        classes = np.where(rng.random(80) < 0.8, label[of], rng.integers(0, 4, 80))
        given = None
        if proposals:
            classes[:], given = NO_CLASS, VideoClasses(np.array([2, 0]), np.array([0.7, 0.2], np.float32))
        candidates[f"v{number}"] = Candidates(np.sort(segments, 1).astype("f4"), scores, classes, 95.0, given)
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "label"]), candidates


@pytest.mark.parametrize("proposals", [False, True], ids=["classes", "proposals"])
@pytest.mark.parametrize("protocol", ["official", "toolbox"])
def test_every_answer_is_the_evaluation_of_its_detections(proposals, protocol):
    truth, candidates = make(proposals=proposals)
    truth = pd.concat([truth, truth.iloc[:2]], ignore_index=True)  # repeated annotations
    truth = truth[truth["video_id"] != "v5"]  # a video without annotations
    labels = [*LABELS, "Ambiguous"]
    bench = Bench(candidates, labels, truth, TIOU, protocol=protocol, num_videos=6)
    for settings in SETTINGS:
        want = evaluate(truth, bench.detections(settings), TIOU, protocol=protocol, videos=list(candidates))
        got = bench.evaluate(settings)
        np.testing.assert_allclose(got.ap, want.ap, atol=1e-12)
        assert replace(got, ap=0) == replace(want, ap=0)
    assert got.average_mAP > 0


def test_a_class_without_annotations_and_no_ground_truth():
    truth, candidates = make()
    truth = truth[truth["label"] != "kick"]
    answer = Bench(candidates, [*LABELS, "x"], truth, TIOU).evaluate(Suppression())
    assert answer.labels == ["jump", "wave"] and answer.ignored["detections_with_unknown_label"] > 0
    with pytest.raises(InputError, match="no ground truth"):
        Bench(candidates, LABELS, truth[:0], TIOU)


def test_halves_share_no_video_and_do_not_depend_on_the_order():
    truth, candidates = make()
    bench = Bench(candidates, [*LABELS, "x"], truth, TIOU)
    first, second = bench.halves()
    assert len(first.joined.videos) == len(second.joined.videos) == 3
    assert set(first.joined.videos) | set(second.joined.videos) == set(candidates)
    assert set(first.ground_truth["video_id"]) <= set(first.joined.videos)
    backwards = Bench(dict(reversed(candidates.items())), [*LABELS, "x"], truth[::-1], TIOU).halves()[0]
    assert set(backwards.joined.videos) == set(first.joined.videos)
    alone = {"v0": candidates["v0"]}
    with pytest.raises(InputError, match="too few"):
        Bench(alone, [*LABELS, "x"], truth[truth["video_id"] == "v0"], TIOU).halves()


def test_suggestions_are_chosen_on_one_half_and_reported_on_the_other():
    truth, candidates = make(3, videos=8)
    bench = Bench(candidates, [*LABELS, "x"], truth, TIOU)
    present, seen = Suppression(nms_sigma=5.0), []
    found = suggest(bench, present, most=3, progress=lambda *report: seen.append(report))
    choose, report = bench.halves()
    assert found.num_tried == len(search_grid(present)) + 1 and (found.num_chosen, found.num_reported) == (
        4,
        4,
    )
    best = max(choose.evaluate(one).average_mAP for one in search_grid(present))
    assert found.best[0].chosen == best >= found.best[1].chosen >= found.best[2].chosen
    assert found.best[0].reported == report.evaluate(found.best[0].settings).average_mAP
    assert found.present.settings == present
    assert found.present.reported == report.evaluate(present).average_mAP
    assert seen[-1][0] == seen[-1][1] == found.num_tried
    flattered = suggest(bench, present, split=False)
    assert flattered.num_reported == 0 and flattered.best[0].reported is None
    assert flattered.best[0].chosen >= bench.evaluate(present).average_mAP


# Class scores


def class_scores(vectors) -> ClassScores:
    return ClassScores(Path("scores.json"), LABELS, {v: np.array(x, np.float32) for v, x in vectors.items()})


def stored() -> Stored:
    rows = np.array([[0, 4], [1, 5], [0, 4]], np.float32)
    found = Candidates(rows, np.array([0.9, 0.8, 0.6], np.float32), np.array([0, 1, 2]), 10.0)
    return Stored({"a": found}, LABELS, [])


def test_class_scores_weigh_candidates_and_drop_other_classes():
    fused = stored().fused(class_scores({"v_a": [0.25, 0.81, 0.5]}), Fusion("weigh", top_k=2, power=0.5))
    found = fused.candidates["a"]
    assert found.labels.tolist() == [1, 2] and found.segments.tolist() == [[1, 5], [0, 4]]
    np.testing.assert_allclose(found.scores, [0.8 * 0.9, 0.6 * 0.5**0.5], rtol=1e-6)
    everything = stored().fused(class_scores({"a": [0.25, 0.81, 0.5]}), Fusion("weigh", top_k=0))
    np.testing.assert_allclose(everything.candidates["a"].scores, [0.648, 0.3, 0.225], rtol=1e-6)
    assert stored().candidates["a"].labels.tolist() == [0, 1, 2], "the stored ones stay"


def test_class_scores_give_the_classes_after_nms():
    fused = stored().fused(class_scores({"a": [0.25, 0.81, 0.5]}), Fusion("classes", top_k=2, power=2.0))
    found = fused.candidates["a"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8]), "one proposal per segment, its best score"
    assert fused.classless and found.classes.labels.tolist() == [1, 2]
    truth = pd.DataFrame({"video_id": ["a"], "start": [0.0], "end": [4.0], "label": ["kick"]})
    table = Bench(fused.candidates, LABELS, truth, TIOU).detections(Suppression("none"))
    assert table["label"].tolist() == ["kick", "kick", "wave", "wave"]
    assert table["score"].to_numpy() == pytest.approx([0.9 * 0.6561, 0.8 * 0.6561, 0.9 * 0.25, 0.8 * 0.25])


def test_class_scores_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="1 of 1 videos have no class scores"):
        stored().fused(class_scores({"b": [0.2, 0.3, 0.5]}), Fusion())
    proposals = Stored({"a": make(proposals=True)[1]["v0"]}, LABELS, [])
    with pytest.raises(InputError, match="no classes that could be weighed"):
        proposals.fused(class_scores({"a": [0.2, 0.3, 0.5]}), Fusion("weigh"))
    for wrong in ({"mode": "add"}, {"top_k": -1}, {"power": 0}, {"power": float("nan")}):
        with pytest.raises(InputError):
            Fusion(**wrong)


# Opening a file


def test_candidates_are_checked_against_the_dataset(tmp_path):
    _, candidates = make(videos=3)
    path = tmp_path / "candidates.npz"
    save_candidates(path, candidates, [*LABELS, "x"])
    fits = open_candidates(path, [*LABELS, "x"], ["v0", "v1", "v2"])
    assert fits.notes == [] and not fits.classless and list(fits.candidates) == ["v0", "v1", "v2"]
    partly = open_candidates(path, LABELS, ["v1", "v2", "v3"]).notes
    assert "1 of its 3 videos are unknown here (first: 'v0')" in partly[0]
    assert "1 of its 4 classes are unknown here (first: 'x')" in partly[1]
    assert "1 of 3 videos have no candidates" in partly[2]
    with pytest.raises(InputError, match="none of its 3 videos is here"):
        open_candidates(path, LABELS, ["a", "b"])
    with pytest.raises(InputError, match="none of its 4 classes is here"):
        open_candidates(path, ["sit"], ["v0"])
    save_candidates(path, {}, LABELS)
    with pytest.raises(InputError, match="holds no candidates"):
        open_candidates(path, LABELS, ["v0"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", np.array([5, 0])),
        ("labels", np.array([0])),
        ("lengths", np.array([3])),
        ("lengths", np.array(["two"])),
        ("segments", np.zeros((2, 3))),
        ("ends", np.zeros(2)),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, name, value):
    path = tmp_path / "candidates.npz"
    found = Candidates(np.array([[0, 1], [1, 2]], "f4"), np.array([0.5, 0.4], "f4"), np.array([0, 1]), 5.0)
    save_candidates(path, {"v0": found}, LABELS)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {name: value}))
    with pytest.raises(InputError, match="don't fit each other"):
        open_candidates(path, LABELS, ["v0"])
