"""Places the frames of a stream in its time: second 0 is its first frame, and time only goes forward."""

from __future__ import annotations

TICK = 1e-4  # seconds; the least time between two frames
JUMP, BACK = 2.0, 0.5  # seconds; time stamps that leap further forward, or back, are a gap


class StreamClock:
    """Turns the time stamps of a live stream into seconds that only grow.

    Stamps lead as long as they are plausible. Where they leap forward by more than ``JUMP`` seconds or back
    by more than ``BACK``, or the connection was made anew, the time of arrival leads: the stream has then
    gone on for as long as the wall clock has. Frames without a stamp are placed by their arrival.
    """

    def __init__(self) -> None:
        self.last: float | None = None
        self._origin = 0.0  # arrival of second 0
        self._shift: float | None = None  # from stamps to seconds; None: not known yet

    def restart(self) -> None:
        """The next stamp has nothing to do with those before."""
        self._shift = None

    def place(self, stamp: float | None, arrived: float) -> tuple[float, str | None]:
        """Seconds of the next frame, and what is odd about its stamp if it can't be believed."""
        if self.last is None:
            self._origin = arrived
        by_arrival = max(arrived - self._origin, 0.0 if self.last is None else self.last + TICK)
        odd = None
        if stamp is None:
            self._shift, seconds = None, by_arrival
        else:
            if self._shift is not None and self.last is not None:
                step = stamp + self._shift - self.last
                if not -BACK <= step <= JUMP:
                    odd = f"time stamps jumped by {step:+.1f} s"
                    self._shift = None
            if self._shift is None:
                self._shift = by_arrival - stamp
            seconds = stamp + self._shift
        if self.last is not None:
            seconds = max(seconds, self.last + TICK)
        self.last = seconds
        return seconds, odd
