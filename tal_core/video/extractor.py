"""What every feature extractor is: frames in, one vector per snippet out, causally."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tal_core.types import TimeGrid


class Extractor(Protocol):
    """Turns the frames of one video or stream into snippet features as they come.

    Snippet ``i`` is centred at ``grid.seconds(i)``; ``delay`` is how many seconds after its centre the last
    frame comes that it needs.
    """

    num_features: int
    grid: TimeGrid
    delay: float

    def push(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        """Add a frame, (H, W, 3) uint8 RGB at ``seconds``; the snippets that it completes, each (D,)."""

    def finish(self) -> list[np.ndarray]:
        """The snippets whose centre has been seen but not their whole window."""
