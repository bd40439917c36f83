import numpy as np
import pytest

from tal_core.evaluation import matching
from tal_core.evaluation.matching import Pairs, greedy_match, overlapping_pairs
from tal_core.segments import temporal_iou


def plain_greedy(pairs, num_detections, num_ground_truth, threshold):
    """The protocol word by word: a loop over detections in order of rank."""
    taken, matched = np.zeros(num_ground_truth, bool), np.full(num_detections, -1)
    for detection in range(num_detections):
        mine = np.flatnonzero(pairs.detection == detection)
        for i in mine[np.argsort(-pairs.tiou[mine], kind="stable")]:
            if pairs.tiou[i] >= threshold and not taken[pairs.ground_truth[i]]:
                taken[pairs.ground_truth[i]] = True
                matched[detection] = pairs.ground_truth[i]
                break
    return matched


def random_segments(rng, num, span, whole):
    start = rng.uniform(0, span, num)
    segments = np.stack([start, start + rng.uniform(0, 6, num)], axis=1)
    return np.round(segments) if whole else segments  # whole seconds make many equal tIoUs and 0/0


@pytest.mark.parametrize("seed", range(12))
def test_matching_equals_the_plain_loop(seed, monkeypatch):
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 50)  # several blocks
    rng = np.random.default_rng(seed)
    num_groups, num_detections, num_truth = 3, 120, 40
    truth = random_segments(rng, num_truth, 20, seed % 2)
    detections = random_segments(rng, num_detections, 20, seed % 2)
    truth_group = rng.integers(0, num_groups, num_truth)
    group = rng.integers(-1, num_groups, num_detections)
    thresholds = [0.5, 0.1, 0.3]
    pairs = overlapping_pairs(group, detections, truth_group, truth, min(thresholds))

    every = temporal_iou(truth[None], detections[:, None])
    wanted = (group[:, None] == truth_group[None]) & (every >= 0.1)
    assert list(zip(pairs.detection, pairs.ground_truth, strict=True)) == list(
        zip(*np.nonzero(wanted), strict=True)
    )
    matched = greedy_match(pairs, num_detections, num_truth, thresholds)
    for row, threshold in zip(matched, thresholds, strict=True):
        np.testing.assert_array_equal(row, plain_greedy(pairs, num_detections, num_truth, threshold))


def test_equal_overlap_takes_the_earlier_annotation():
    pairs = Pairs(np.array([0, 0, 1, 1]), np.array([3, 5, 3, 5]), np.array([0.6, 0.6, 0.6, 0.6]))
    assert greedy_match(pairs, 2, 6, [0.5]).tolist() == [[3, 5]]


def test_a_long_chain_of_refusals():
    """Detection i wants annotation i - 1 first: each loses to the one before and displaces the one after."""
    num = 60
    detection = np.repeat(np.arange(num), 2)
    annotation = np.stack([np.maximum(np.arange(num) - 1, 0), np.arange(num)], axis=1).ravel()
    pairs = Pairs(detection, annotation, np.tile([0.9, 0.6], num))
    assert greedy_match(pairs, num, num, [0.5])[0].tolist() == list(range(num))


def test_tiou_formula_and_empty_unions():
    annotation = np.array([[10.0, 20.0], [30.0, 30.0], [10.0, 20.0], [0.0, 1.0]])
    detection = np.array([[15.0, 25.0], [30.0, 30.0], [20.0, 10.0], [1.0, 2.0]])
    np.testing.assert_array_equal(temporal_iou(annotation, detection), [5 / 15, 0, 0, 0])


def test_nothing_to_match():
    nothing = np.empty(0, int)
    pairs = overlapping_pairs(nothing, np.empty((0, 2)), nothing, np.empty((0, 2)), 0.1)
    assert len(pairs.tiou) == 0
    assert greedy_match(pairs, 0, 0, [0.5]).shape == (1, 0)
    assert greedy_match(pairs, 3, 2, [0.5, 0.7]).tolist() == [[-1, -1, -1]] * 2
