import json

import numpy as np
import pytest

from tal_core.postprocessing import nms
from tal_core.postprocessing.nms import Suppression, suppress
from tal_core.types import InputError
from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "nms"
SETTINGS = json.loads((GOLDEN / "settings.json").read_text())
CASES = [
    *((case, name, SETTINGS[case][name]) for case in ("small", "large", "ties") for name in SETTINGS[case]),
    *(
        (f"edge_{case}", name, SETTINGS["edge"][name])
        for case in SETTINGS["edge_cases"]
        for name in SETTINGS["edge"]
    ),
]


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "nms.npz", allow_pickle=False) as content:
        return dict(content)


def in_order(segments, scores, labels):
    """By falling score; scores that differ by rounding only count as equal and go by class and start."""
    order = np.argsort(-scores, kind="stable")
    level = np.empty(len(order), int)
    level[order] = np.cumsum(np.r_[0, -np.diff(scores[order]) > 2e-6]) if len(order) else 0
    order = np.lexsort((segments[:, 1], segments[:, 0], labels, level))
    return segments[order], scores[order], labels[order]


@pytest.mark.parametrize(("case", "name", "setting"), CASES, ids=[f"{c}-{n}" for c, n, _ in CASES])
def test_equals_the_reference(arrays, case, name, setting):
    settings = Suppression(
        nms="soft" if setting["soft"] else "hard",
        nms_threshold=setting["iou_threshold"],
        nms_sigma=setting["sigma"],
        min_score=setting["min_score"],
        max_detections=setting["max_seg_num"],
        nms_per_class=setting["multiclass"],
        voting_threshold=setting["voting_threshold"],
        voting_weights=setting["voting_weights"],
    )
    labels = arrays[f"{case}_in_labels"]
    kept = suppress(arrays[f"{case}_in_segments"], arrays[f"{case}_in_scores"], labels, settings)
    assert (np.diff(kept.scores) <= 0).all()
    got = in_order(kept.segments, kept.scores, labels[kept.index])
    prefix = f"{case}__{name}__"
    want = in_order(*(arrays[prefix + part] for part in ("segments", "scores", "labels")))
    np.testing.assert_array_equal(got[2], want[2])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=2e-6)
    voted = setting["voting_threshold"] > 0 and not setting["multiclass"]
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5 if voted else 0, atol=1e-3 if voted else 0)


def candidates(seed, num, num_classes=3, num_videos=1, span=60):
    rng = np.random.default_rng(seed)
    start = rng.uniform(-5, span, num)
    segments = np.stack([start, start + rng.gamma(2, 4, num)], axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0.0002, 0.98, num)).astype(np.float32)
    return segments, scores, rng.integers(0, num_classes, num), rng.integers(0, num_videos, num)


def plain(segments, scores, settings):
    """The definition as a loop over picks of one group; rows and scores."""
    left, scores, picked = list(range(len(scores))), scores.copy(), []
    if settings.nms == "hard":
        left = [i for i in left if scores[i] > np.float32(settings.min_score)]
    while left:
        best = max(left, key=lambda i: scores[i])
        picked.append((best, scores[best]))
        left.remove(best)
        for other in list(left):
            shared = max(
                0, min(segments[best, 1], segments[other, 1]) - max(segments[best, 0], segments[other, 0])
            )
            area = np.float32(1e-6) + segments[[best, other], 1] - segments[[best, other], 0]
            iou = shared / (area.sum() - shared)
            if settings.nms == "soft":
                scores[other] *= np.exp(-(iou**2) / settings.nms_sigma)
            elif iou >= settings.nms_threshold:
                scores[other] *= 1 - iou if settings.nms == "linear" else 0
            if scores[other] < settings.min_score:
                left.remove(other)
    return picked


@pytest.mark.parametrize("kind", ["hard", "soft", "linear"])
@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("max_detections", [0, 7])
def test_many_videos_at_once_equal_the_plain_loop(kind, per_class, max_detections):
    segments, scores, labels, videos = candidates(3, 400, num_videos=4)
    settings = Suppression(
        nms=kind, nms_threshold=0.3, min_score=0.01, max_detections=max_detections, nms_per_class=per_class
    )
    want = []
    for video in range(4):
        picked = []
        for label in range(3) if per_class else [None]:
            rows = np.flatnonzero((videos == video) & (labels == label if per_class else True))
            picked += [(rows[i], s) for i, s in plain(segments[rows], scores[rows], settings)]
        picked.sort(key=lambda pick: -pick[1])
        want += picked[:max_detections] if max_detections else picked
    kept = suppress(segments, scores, labels, settings, videos=videos)
    assert kept.index.tolist() == [row for row, _ in want]
    np.testing.assert_allclose(kept.scores, [s for _, s in want], rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(kept.segments, segments[kept.index])


def test_leaving_early_changes_nothing():
    segments, scores, labels, videos = candidates(5, 4000, num_classes=6, num_videos=3, span=300)
    for kind in ("hard", "soft", "linear"):
        everything = suppress(segments, scores, labels, Suppression(nms=kind, max_detections=0), videos)
        best = suppress(segments, scores, labels, Suppression(nms=kind, max_detections=50), videos)
        first = np.concatenate([np.flatnonzero(videos[everything.index] == v)[:50] for v in range(3)])
        assert best.index.tolist() == everything.index[first].tolist()
        assert best.scores.tolist() == everything.scores[first].tolist()


@pytest.mark.parametrize("kind", ["hard", "soft", "linear"])
def test_equal_scores_go_by_row(kind):
    segments, _, labels, _ = candidates(8, 300, span=100)
    scores = np.full(300, 0.5, np.float32)
    settings = Suppression(nms=kind, nms_threshold=0.3, min_score=0.01, max_detections=0, nms_per_class=False)
    want = plain(segments, scores, settings)
    kept = suppress(segments, scores, labels, settings)
    assert sorted(kept.index) == sorted(row for row, _ in want)
    untouched = kept.scores == 0.5
    by_class_and_row = sorted(kept.index[untouched], key=lambda row: (labels[row], row))
    assert kept.index[untouched].tolist() == by_class_and_row


@pytest.mark.parametrize("kind", ["hard", "soft", "linear"])
def test_working_in_blocks_of_videos_changes_nothing(kind, monkeypatch):
    segments, scores, labels, videos = candidates(9, 600, num_videos=5)
    settings = Suppression(nms=kind, nms_threshold=0.3)
    together = suppress(segments, scores, labels, settings, videos)
    monkeypatch.setattr(nms, "_BLOCK_PAIRS", 100)
    apart = suppress(segments, scores, labels, settings, videos)
    assert apart.index.tolist() == together.index.tolist()
    assert apart.scores.tolist() == together.scores.tolist()


def test_proposals_without_a_class_stay_apart_by_video():
    segments, scores = [[0, 10], [0, 10]], [0.9, 0.8]
    kept = suppress(segments, scores, [-1, -1], Suppression("hard"), videos=[0, 1])
    assert kept.index.tolist() == [0, 1]


def test_hard_nms_takes_scores_of_any_sign():
    segments = [[0, 10], [0, 9], [20, 30], [20, 29]]
    settings = Suppression("hard", min_score=0, nms_per_class=False)
    assert suppress(segments, [0.2, 0.1, 0.05, 0.4], [0] * 4, settings).index.tolist() == [3, 0]
    settings = Suppression("hard", min_score=-5, nms_per_class=False)
    assert suppress(segments, [-1, -2, 0, -0.5], [0] * 4, settings).index.tolist() == [2, 0]


def test_none_only_filters_sorts_and_cuts():
    segments, scores, labels, videos = candidates(1, 30, num_videos=2)
    kept = suppress(segments, scores, labels, Suppression("none", min_score=0.5, max_detections=4), videos)
    assert videos[kept.index].tolist() == [0] * 4 + [1] * 4
    for video in range(2):
        of_video = np.sort(scores[(videos == video) & (scores > 0.5)])[::-1][:4]
        assert kept.scores[videos[kept.index] == video].tolist() == of_video.tolist()


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("weights", ["score", "score_times_iou"])
def test_votes_of_many_videos_equal_the_definition(threshold, weights, monkeypatch):
    segments, scores, labels, videos = candidates(11, 300, num_videos=3)
    settings = Suppression(
        "hard",
        0.6,
        nms_per_class=False,
        voting_threshold=threshold,
        voting_weights=weights,
        max_detections=40,
    )
    monkeypatch.setattr(nms, "_BLOCK_PAIRS", 500)
    kept = suppress(segments, scores, labels, settings, videos)
    for row, moved in zip(kept.index, kept.segments, strict=True):
        others = videos == videos[row]
        low = np.maximum(segments[row, 0], segments[others, 0])
        shared = np.maximum(np.minimum(segments[row, 1], segments[others, 1]) - low, 0)
        lengths = np.diff(segments, axis=1)[:, 0]
        iou = shared / (lengths[row] + lengths[others] - shared)
        weight = np.where(iou >= threshold, scores[others], 0) * (iou if weights != "score" else 1)
        np.testing.assert_allclose(moved, weight @ segments[others] / weight.sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft", "linear"])
def test_a_crowd_of_good_scores_changes_only_the_pace(kind, monkeypatch):
    segments, _, labels, videos = candidates(12, 1500, num_videos=2, span=40)
    scores = np.random.default_rng(0).permutation(np.linspace(0.5, 0.9, 1500)).astype(np.float32)
    settings = Suppression(nms=kind, nms_threshold=0.3, max_detections=0)
    usual = suppress(segments, scores, labels, settings, videos)
    monkeypatch.setattr(nms, "_MANY_PAIRS", 10)
    crowded = suppress(segments, scores, labels, settings, videos)
    assert crowded.index.tolist() == usual.index.tolist()
    np.testing.assert_allclose(crowded.scores, usual.scores, rtol=1e-5)


def test_voting_stays_within_a_video():
    segments = np.array([[0, 10], [0, 10.5], [0, 9]], np.float32)
    scores, labels = np.array([0.9, 0.6, 0.3], np.float32), np.zeros(3, int)
    settings = Suppression("hard", nms_per_class=False, voting_threshold=0.8, voting_weights="score")
    together = suppress(segments, scores, labels, settings)
    np.testing.assert_allclose(together.segments, [[0, (9 + 6.3 + 2.7) / 1.8]], rtol=1e-6)
    apart = suppress(segments, scores, labels, settings, videos=np.array([7, 7, 2]))
    assert apart.index.tolist() == [2, 0]
    np.testing.assert_allclose(apart.segments, [[0, 9], [0, (9 + 6.3) / 1.5]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["none", "hard", "soft", "linear"])
def test_no_candidates_and_empty_videos(kind):
    kept = suppress(np.empty((0, 2)), np.empty(0), np.empty(0), Suppression(kind), videos=np.empty(0, int))
    assert kept.segments.shape == (0, 2)
    assert kept.segments.dtype == kept.scores.dtype == np.float32
    assert kept.index.shape == kept.scores.shape == (0,)


def test_zero_length_segments_survive_voting():
    settings = Suppression("soft", nms_per_class=False, voting_threshold=0.7)
    kept = suppress([[5, 5], [5, 5]], [0.5, 0.4], [0, 0], settings)
    assert np.isfinite(kept.segments).all()


def test_broken_candidates_and_settings_are_refused():
    with pytest.raises(InputError, match="NaN"):
        suppress([[0, 1]], [np.nan], [0], Suppression())
    with pytest.raises(InputError, match="NaN"):
        suppress([[0, np.inf]], [0.5], [0], Suppression())
    with pytest.raises(InputError, match="hardest"):
        Suppression(nms="hardest")
    with pytest.raises(InputError, match="sigma"):
        Suppression(nms_sigma=0)
