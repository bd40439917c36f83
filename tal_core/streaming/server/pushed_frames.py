"""Pictures that a client pushes become snippet features, whatever their times do."""

from __future__ import annotations

import numpy as np

from tal_core.streaming.server.jpeg import decode_jpeg
from tal_core.types import InputError
from tal_core.video.extractors.extractor import Extractor

GAP_SECONDS = 2.0
"""Pictures further apart are not of one piece: what is open is closed, and a new piece begins."""
RESTART_SECONDS = 1.0
"""A clock that jumps back by more has started anew; by less, the picture comes too late."""
STEP = 0.04
"""Seconds between the last picture before a restart and the first after it."""

Step = tuple[float | None, np.ndarray]
"""When the stream was interrupted (the centre of the next snippet) or None, and then features (N, D)."""


class PushedPictures:
    """One stream's pictures. Stream time is 0 at the first, whatever the client's clock says there."""

    def __init__(self, extractor: Extractor):
        self._extractor = extractor
        self._origin: float | None = None  # the client's time at the stream's second 0
        self._base = self._last = 0.0  # stream times of the piece's first picture and of the last

    def add(self, seconds: float, jpeg: bytes, most_pixels: int) -> list[Step]:
        """Add a picture at the client's ``seconds``; what it completes. It is decoded only if it is needed.

        Raises:
            InputError: if it is not after the one before, damaged or too large; the stream may go on.
        """
        origin, now, joins = self._place(seconds)
        if joins and not self._extractor.wants(now - self._base):
            self._origin, self._last = origin, now
            return []
        picture = decode_jpeg(jpeg, most_pixels)
        self._origin, self._last = origin, now
        steps = [] if joins else self._begin_anew(now)
        return steps + _steps(self._extractor.push(now - self._base, picture))

    def finish(self) -> list[Step]:
        """What the end of the stream completes."""
        return _steps(self._extractor.finish())

    def _place(self, seconds: float) -> tuple[float, float, bool]:
        """The client's time at second 0, the stream's time of a picture, whether it joins on to the last."""
        if self._origin is None:
            return seconds, 0.0, True
        now = seconds - self._origin
        if now > self._last:
            return self._origin, now, now - self._last <= GAP_SECONDS
        if now < self._last - RESTART_SECONDS:
            now = self._last + STEP
            return seconds - now, now, False
        what = f"picture at {seconds:.3f} s follows one at {self._origin + self._last:.3f} s"
        raise InputError(what, where="picture", hint="Send pictures in order; this one is left out.")

    def _begin_anew(self, now: float) -> list[Step]:
        tail = self.finish()
        self._extractor, self._base = self._extractor.fresh(), now
        nothing = np.empty((0, self._extractor.num_features), np.float32)
        return [*tail, (now + self._extractor.grid.offset, nothing)]


def _steps(snippets: list[np.ndarray]) -> list[Step]:
    return [(None, np.stack(snippets))] if snippets else []
