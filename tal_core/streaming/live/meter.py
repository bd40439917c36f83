"""Measures a stream as it goes by: rates, counts, latency."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

KEPT = 1000  # latencies that percentiles are taken over
RATE_SECONDS = 5.0


class StreamMeter:
    """Written to by the threads of one stream, read by anyone."""

    def __init__(self) -> None:
        self.frames = self.snippets = self.events = self.gaps = 0
        self._arrivals: deque[float] = deque(maxlen=600)
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._newest = self._scored = 0.0

    def came(self, seconds: float, arrived: float) -> None:
        """A frame of the stream's time ``seconds`` has come."""
        self.frames += 1
        self._newest = seconds
        self._arrivals.append(arrived)

    def told(self, seconds: np.ndarray, latency: float) -> None:
        """Snippets centred at ``seconds`` are scored and told, ``latency`` after their last frame came."""
        self.snippets += len(seconds)
        if len(seconds):
            self._scored = float(seconds[-1])
            self._latencies.append(latency)

    def read(self) -> dict[str, Any]:
        """Figures of now.

        ``frames`` that came, ``fps`` of the last seconds, ``snippets``, ``events``, ``gaps``.
        ``lag``: seconds from the newest frame back to the centre of the newest scored snippet.
        ``latency_ms``: ``p50``, ``p95``, ``p99`` of the time from the arrival of a snippet's last frame until
        its scores and events are told (None before the first).
        """
        latencies = np.array(self._latencies.copy())
        quantiles = np.percentile(latencies, (50, 95, 99)).round(5) * 1000 if len(latencies) else [None] * 3
        return {
            "frames": self.frames,
            "fps": round(self._rate(), 2),
            "snippets": self.snippets,
            "events": self.events,
            "gaps": self.gaps,
            "lag": round(max(0.0, self._newest - self._scored), 3),
            "latency_ms": {
                name: None if value is None else round(float(value), 2)
                for name, value in zip(("p50", "p95", "p99"), quantiles, strict=True)
            },
        }

    def _rate(self) -> float:
        since = time.monotonic() - RATE_SECONDS
        recent = [arrival for arrival in self._arrivals.copy() if arrival >= since]
        if len(recent) < 2:
            return 0.0
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)
