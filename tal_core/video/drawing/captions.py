"""What burning in draws under a picture: the actions of the moment, a strip of all of them, a playhead.

Text is drawn with the fonts that OpenCV brings, which know most of the world's scripts.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd

_GROUND = (17, 23, 29)
_STRIP = (40, 52, 64)
_TEXT = (228, 235, 240)
_DIM = (140, 150, 160)
_PLAYHEAD = (255, 255, 255)
MOST_LANES = 4
"""Rows of the strip: segments that overlap more often share the last one."""


class Captions:
    """Draws the bar for one video; sizes follow from the picture's ``width``.

    ``detections``: ``DETECTION_COLUMNS`` of the video; ``colors``: ``#RRGGBB`` per label.
    """

    def __init__(self, detections: pd.DataFrame, duration: float, width: int, colors: Mapping[str, str]):
        table = detections.sort_values("score", ascending=False, kind="stable")
        self.start, self.end = table["start"].to_numpy(float), table["end"].to_numpy(float)
        self.labels, self.scores = table["label"].tolist(), table["score"].to_numpy(float)
        self.colors = [_rgb(colors.get(label, "#8C96A0")) for label in self.labels]
        self.duration, self.width = max(duration, 1e-6), width
        self.size = int(np.clip(width // 26, 15, 44))  # of the letters, in pixels
        self.pad = self.size // 2
        self._font = cv2.FontFace("sans")
        self._strip = self._draw_strip()
        self.height = 2 * self.pad + self.size + len(self._strip) + self.pad
        self.height += self.height % 2
        self._shown: tuple | None = None
        self._bar = np.empty(0)

    def draw(self, seconds: float) -> np.ndarray:
        """The bar (``height``, width, 3) uint8 RGB at a time of the video."""
        active = np.flatnonzero((self.start <= seconds) & (seconds < np.maximum(self.end, self.start + 0.04)))
        shown = (int(seconds), *active.tolist())
        if shown != self._shown:
            self._bar, self._shown = self._draw_bar(seconds, active), shown
        band = self._bar.copy()
        x = min(self.width - 1, round(self._x(seconds)))
        top = self.height - len(self._strip) - self.pad
        band[top - 2 : top + len(self._strip) + 2, max(0, x - 1) : x + 1] = _PLAYHEAD
        return band

    def _x(self, seconds: float) -> float:
        return self.pad + float(np.clip(seconds / self.duration, 0, 1)) * (self.width - 2 * self.pad)

    def _draw_bar(self, seconds: float, active: np.ndarray) -> np.ndarray:
        band = np.full((self.height, self.width, 3), _GROUND, np.uint8)
        top = self.height - len(self._strip) - self.pad
        band[top : top + len(self._strip)] = self._strip
        line = self.pad + self.size
        clock = f"{_clock(seconds)} / {_clock(self.duration)}"
        left, right = self.pad, self.width - self.pad - self._length(clock)
        self._write(band, clock, right, line, _DIM)
        for number, row in enumerate(active):
            text = f"{self.labels[row] or 'action'} {self.scores[row]:.2f}"
            more = f"+{len(active) - number}"
            room = right - self.pad - left - (self._length(more) if number + 1 < len(active) else 0)
            mark = self.size * 3 // 4
            if mark + self.pad + self._length(text) > room:
                text = "" if number else self._shorten(text, room - mark - self.pad)
            if not text:
                self._write(band, more, left, line, _DIM)
                break
            cv2.rectangle(band, (left, line - mark), (left + mark, line), self.colors[row], -1)
            self._write(band, text, left + mark + self.pad // 2, line, _TEXT)
            left += mark + self.pad // 2 + self._length(text) + 2 * self.pad
        return band

    def _draw_strip(self) -> np.ndarray:
        lanes = _lanes(self.start, self.end)
        count = max([*lanes, 0]) + 1
        lane = max(6, self.size // count + 3)
        strip = np.full((count * lane, self.width, 3), _GROUND, np.uint8)
        strip[:, self.pad : self.width - self.pad] = _STRIP
        for row in range(len(self.start) - 1, -1, -1):  # the best is drawn last, over the others
            left, right = (round(self._x(time)) for time in (self.start[row], self.end[row]))
            top = lanes[row] * lane
            strip[top + 1 : top + lane - 1, left : max(right, left + 2)] = self.colors[row]
        return strip

    def _write(self, image: np.ndarray, text: str, x: int, y: int, color: tuple) -> None:
        cv2.putText(image, text, (x, y), color, self._font, self.size, 500)

    def _length(self, text: str) -> int:
        return cv2.getTextSize((0, 0), text, (0, 0), self._font, self.size, 500)[2]

    def _shorten(self, text: str, room: int) -> str:
        while text and self._length(text + "…") > room:
            text = text[:-1]
        return text + "…" if text else ""


def _lanes(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A row of the strip for each segment (N,), such that overlapping ones lie apart as far as rows go."""
    lanes, busy = np.zeros(len(start), int), np.full(MOST_LANES, -np.inf)
    for row in np.argsort(start, kind="stable"):
        free = np.flatnonzero(busy <= start[row])
        lanes[row] = free[0] if len(free) else MOST_LANES - 1
        busy[lanes[row]] = max(busy[lanes[row]], end[row])
    return lanes


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
