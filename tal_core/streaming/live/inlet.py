"""The bounded queue between what reads a stream and what works on it.

A live stream can't wait: a frame that has waited for ``STALE`` seconds is dropped for the sake of newer
ones and counted, so that nothing is worked on much later than it came. A burst that is worked off in time
loses nothing, and neither does a file, whose reader can wait.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import av
import numpy as np

from tal_core.video.frames import Size, picture

STALE = 0.2  # seconds
ROOM = 32  # frames; bounds memory while nothing is taken


@dataclass(frozen=True)
class Frame:
    """A picture of the stream at ``seconds``; ``arrived`` by ``time.monotonic``.

    Pictures stay as decoded until someone looks at them: dropped ones cost nothing.
    """

    seconds: float
    image: av.VideoFrame | np.ndarray
    arrived: float

    def picture(self, size: Size | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB, of ``size(width, height)`` where it has to be converted anyway."""
        return self.image if isinstance(self.image, np.ndarray) else picture(self.image, size)


@dataclass(frozen=True)
class Interruption:
    """The stream is interrupted: what comes next doesn't join on to what came before."""

    reason: str


Item = Frame | Interruption


class Inlet:
    """Hands items from one thread to another, at most ``room`` at a time.

    ``dropped`` counts frames that gave way to newer ones.
    """

    def __init__(self, room: int = ROOM, stale: float = STALE):
        self.room, self.stale, self.dropped = room, stale, 0
        self._items: deque[tuple[Item, bool]] = deque()  # with whether it may be dropped
        self._changed = threading.Condition()
        self._ended = self._closed = False

    def put(self, item: Item, *, wait: bool) -> bool:
        """Add an item; if the queue is full, ``wait`` for room or drop its oldest frame.

        Returns whether anyone will still take it.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self.room)
            elif len(self._items) >= self.room:
                self._drop(self._oldest())
            if self._closed or self._ended:
                return False
            self._items.append((item, not wait and isinstance(item, Frame)))
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> Item | None:
        """The next item; None when there will be none. Raises TimeoutError when none came in time."""
        with self._changed:
            ready = self._changed.wait_for(lambda: bool(self._items) or self._ended or self._closed, timeout)
            if not ready:
                raise TimeoutError
            if self._closed or not self._items:
                return None
            while self._is_stale():
                self._drop(0)
            item, _ = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Nothing more is put in; what is there can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Throw away what is there and wake up everyone who waits."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _is_stale(self) -> bool:
        """Whether the first item is a frame that has waited too long, and a newer one follows it."""
        if len(self._items) < 2:
            return False
        (item, may_go), (following, _) = self._items[0], self._items[1]
        if not (may_go and isinstance(item, Frame) and isinstance(following, Frame)):
            return False
        return time.monotonic() - item.arrived > self.stale

    def _oldest(self) -> int | None:
        return next((position for position, (_, may_go) in enumerate(self._items) if may_go), None)

    def _drop(self, position: int | None) -> None:
        if position is not None:
            del self._items[position]
            self.dropped += 1
