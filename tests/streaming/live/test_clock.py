import pytest

from tal_core.streaming.live.clock import TICK, StreamClock


def placed(stamps, arrivals):
    clock = StreamClock()
    return [clock.place(stamp, arrived) for stamp, arrived in zip(stamps, arrivals, strict=True)]


def test_stamps_lead_whatever_the_network_does_with_their_arrival():
    places = placed([100.0, 100.04, 100.08, 100.12], [7.0, 7.3, 7.3, 7.31])
    assert [seconds for seconds, _ in places] == pytest.approx([0, 0.04, 0.08, 0.12])
    assert all(odd is None for _, odd in places)


@pytest.mark.parametrize("stamp", [3600.0, 0.0], ids=["forward", "restarted"])
def test_a_jump_is_a_gap_after_which_the_wall_clock_leads(stamp):
    places = placed([100.0, 100.04, stamp, stamp + 0.04], [7.0, 7.04, 9.5, 9.54])
    assert [seconds for seconds, _ in places] == pytest.approx([0, 0.04, 2.5, 2.54])
    assert "jumped by" in places[2][1] and places[3][1] is None


def test_small_steps_back_and_repeated_stamps_never_turn_time_back():
    places = placed([1.0, 1.04, 1.04, 1.0, 1.08], [0.0, 0.04, 0.05, 0.06, 0.08])
    seconds = [seconds for seconds, _ in places]
    assert seconds == pytest.approx([0, 0.04, 0.04 + TICK, 0.04 + 2 * TICK, 0.08])
    assert all(odd is None for _, odd in places)


def test_frames_without_stamps_are_placed_by_their_arrival():
    places = placed([None, None, 50.0, 50.1], [3.0, 3.2, 3.3, 3.9])
    assert [seconds for seconds, _ in places] == pytest.approx([0, 0.2, 0.3, 0.4])


def test_a_new_connection_goes_on_where_the_wall_clock_is():
    clock = StreamClock()
    clock.place(10.0, 100.0)
    clock.place(12.0, 101.9)  # the sender's clock is fast
    clock.restart()
    assert clock.place(0.0, 101.95) == (pytest.approx(2.0 + TICK), None), "time never turns back"
    clock.restart()
    assert clock.place(77.0, 130.0) == (pytest.approx(30.0), None)
