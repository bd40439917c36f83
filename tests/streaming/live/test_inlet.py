import threading
import time

import numpy as np
import pytest

from tal_core.streaming.live.inlet import Frame, Inlet, Interruption

PICTURE = np.zeros((2, 2, 3), np.uint8)


def frame(seconds: float, age: float = 0.0) -> Frame:
    return Frame(seconds, PICTURE, time.monotonic() - age)


def drain(inlet: Inlet) -> list:
    inlet.end()
    taken = []
    while (item := inlet.get(1)) is not None:
        taken.append(item.seconds if isinstance(item, Frame) else item.reason)
    return taken


def test_a_burst_that_is_fresh_loses_nothing():
    inlet = Inlet()
    for number in range(14):
        inlet.put(frame(number), wait=False)
    assert drain(inlet) == list(range(14)) and inlet.dropped == 0


def test_stale_frames_give_way_to_newer_ones_oldest_first():
    inlet = Inlet(stale=0.2)
    for number in range(5):
        inlet.put(frame(number, age=1 - 0.19 * number), wait=False)  # the last has waited for 0.24 s
    inlet.put(frame(5), wait=False)
    assert drain(inlet) == [5] and inlet.dropped == 5


def test_the_newest_frame_is_worked_on_however_old_it_is():
    inlet = Inlet()
    inlet.put(frame(0, age=9), wait=False)
    inlet.put(frame(1, age=8), wait=False)
    assert drain(inlet) == [1] and inlet.dropped == 1


def test_a_full_queue_drops_its_oldest_frame_and_never_a_gap():
    inlet = Inlet(room=3)
    inlet.put(Interruption("first"), wait=False)
    for number in range(6):
        inlet.put(frame(number), wait=False)
    assert drain(inlet) == ["first", 4, 5] and inlet.dropped == 4


def test_a_gap_between_stale_frames_stays():
    inlet = Inlet()
    inlet.put(frame(0, age=9), wait=False)
    inlet.put(Interruption("lost"), wait=False)
    inlet.put(frame(1, age=5), wait=False)
    inlet.put(frame(2), wait=False)
    assert drain(inlet) == [0, "lost", 2]


def test_one_who_may_wait_waits_for_room_and_loses_nothing():
    inlet = Inlet(room=2, stale=0.0)
    writer = threading.Thread(target=lambda: [inlet.put(frame(n, age=9), wait=True) for n in range(50)])
    writer.start()
    taken = [inlet.get(5).seconds for _ in range(50)]
    writer.join(5)
    assert taken == list(range(50)) and inlet.dropped == 0


def test_closing_wakes_up_both_sides():
    inlet = Inlet(room=1)
    inlet.put(frame(0), wait=True)
    answers = []
    writer = threading.Thread(target=lambda: answers.append(inlet.put(frame(1), wait=True)))
    writer.start()
    inlet.close()
    writer.join(5)
    assert answers == [False] and inlet.get(1) is None
    assert not inlet.put(frame(2), wait=False)


def test_waiting_for_an_item_has_an_end():
    with pytest.raises(TimeoutError):
        Inlet().get(0.01)
