"""Pictures that a client pushes become snippet features, whatever their times do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tal_core.types import InputError
from tal_core.video.extractor import Extractor

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

    def __init__(self, make: Callable[[], Extractor]):
        self._make, self._extractor = make, make()
        self._origin: float | None = None  # the client's time at the stream's second 0
        self._base = self._last = 0.0  # stream times of the piece's first picture and of the last

    def add(self, seconds: float, picture: np.ndarray) -> list[Step]:
        """Add a picture (H, W, 3) uint8 RGB at the client's ``seconds``; what it completes.

        Raises:
            InputError: if it is not after the one before; the stream may go on.
        """
        if self._origin is None:
            self._origin = seconds
            return self._push(0.0, picture)
        now = seconds - self._origin
        if self._last - RESTART_SECONDS <= now <= self._last:
            what = f"picture at {seconds:.3f} s follows one at {self._origin + self._last:.3f} s"
            raise InputError(what, where="picture", mend="Send pictures in order; this one is left out.")
        restarted = now < self._last
        if restarted:
            self._origin = seconds - self._last - STEP
            now = self._last + STEP
        if restarted or now - self._last > GAP_SECONDS:
            return self._begin_anew(now, picture)
        return self._push(now, picture)

    def finish(self) -> list[Step]:
        """What the end of the stream completes."""
        return self._steps(self._extractor.finish())

    def _begin_anew(self, now: float, picture: np.ndarray) -> list[Step]:
        tail = self.finish()
        self._extractor, self._base = self._make(), now
        interruption = (
            now + self._extractor.grid.offset,
            np.empty((0, self._extractor.num_features), np.float32),
        )
        return [*tail, interruption, *self._push(now, picture)]

    def _push(self, now: float, picture: np.ndarray) -> list[Step]:
        self._last = now
        return self._steps(self._extractor.push(now - self._base, picture))

    def _steps(self, snippets: list[np.ndarray]) -> list[Step]:
        return [(None, np.stack(snippets))] if snippets else []
