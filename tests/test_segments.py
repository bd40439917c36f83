import numpy as np

from tal_core.segments import shared_length, temporal_iou


def test_shared_length_is_zero_for_segments_that_touch_or_lie_apart():
    first, second = (
        np.array([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]),
        np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 5.0]]),
    )
    assert shared_length(first, second).tolist() == [1, 0, 0]


def test_temporal_iou_broadcasts_and_takes_an_empty_union_for_no_overlap():
    first, second = np.array([[0, 4], [1, 1]]), np.array([[2, 6], [0, 4], [1, 1]])
    assert temporal_iou(first[:, None], second).tolist() == [[2 / 6, 1, 0], [0, 0, 0]]
