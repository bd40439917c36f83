"""Snippets for encoders: frames taken evenly from a window, as pictures or optical flow, causally.

Snippet ``i`` of ``n`` frames covers ``snippet_seconds`` from ``i * stride_seconds``; its frame ``k`` is the
first to come at or after that start plus ``k * snippet_seconds / n``, or, where none comes for that long, the
one that stood there. So the video's own frame rate hardly matters.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from typing import Protocol

import cv2
import numpy as np

from tal_core.video.extractors.spec import ExtractorSpec

_LATE = 1e-3  # seconds; containers round times to the millisecond
FLOW_BOUND = 20.0  # pixels between two frames of a snippet that saturate a flow picture (TSN, ECCV 2016)


class Encoder(Protocol):
    """Turns clips of ``frames`` squares of ``size`` pixels into vectors of ``num_features``."""

    num_features: int
    frames: int
    size: int

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """(B, T, S, S, 3) uint8 to (B, D) float32."""


class WindowExtractor:
    """Cuts windows from the frames of a video and has an encoder turn each into a feature.

    ``batch`` windows are encoded at once, so that with 1 each comes out as soon as its last frame is in. A
    window that shows the same frames as the one before (a still picture, a gap) isn't encoded again.
    """

    def __init__(self, spec: ExtractorSpec, encoder: Encoder, batch: int = 1):
        self.spec, self.encoder, self.batch = spec, encoder, batch
        self.grid, self.delay = spec.grid, spec.snippet_seconds / 2
        self.num_features = encoder.num_features * (2 if spec.modality == "both" else 1)
        self._step = spec.snippet_seconds / encoder.frames
        self._times: deque[float] = deque()
        self._pictures: deque[np.ndarray] = deque()  # of the same frames
        self._flow = FlowPictures(spec.flow or "dis") if spec.modality != "rgb" else None
        self._next = 0
        self._asked = -math.inf  # the time for which the next frame is needed
        self._shown: list[float] = []  # times of the frames in the newest window
        self._clips: list[list[np.ndarray]] = []  # one row per window to be encoded, one clip per modality
        self._due: list[int] = []  # for each window not yet returned, its row in what is encoded next
        self._last: np.ndarray | None = None  # the newest encoded feature

    def fresh(self) -> WindowExtractor:
        """One of the same settings and weights for another video."""
        return WindowExtractor(self.spec, self.encoder, self.batch)

    def wants(self, seconds: float) -> bool:
        """Whether a window asks for the frame at ``seconds``, as the first after one of its times."""
        return seconds >= self._asked - _LATE

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        """The size that ``push`` cuts its squares from."""
        size = self.encoder.size
        if self.spec.fit == "squash":
            return size, size
        scale = size / min(width, height)
        return max(size, round(width * scale)), max(size, round(height * scale))

    def push(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        """Add a frame, (H, W, 3) uint8 RGB at ``seconds``, and return finished snippets, each (D,).

        Raises:
            ValueError: if ``seconds`` is not after the frame before.
        """
        if self._times and seconds <= self._times[-1]:
            raise ValueError(f"frame at {seconds} s follows one at {self._times[-1]} s")
        if not self.wants(seconds):
            return []
        self._times.append(seconds)
        self._pictures.append(self._square(frame))
        self._asked = self._sample_after(seconds + _LATE)
        finished = []
        while self._sample(self.encoder.frames - 1) <= seconds + _LATE:
            finished += self._take()
        return finished

    def finish(self) -> list[np.ndarray]:
        """Snippets whose centre has been seen but not their whole window; the last frame fills it."""
        finished = []
        while self._times and self.grid.seconds(self._next) <= self._times[-1] + _LATE:
            finished += self._take()
        return finished + self._encode()

    def _sample(self, k: int) -> float:
        """Seconds of frame ``k`` of the next window."""
        return self._next * self.grid.stride + k * self._step

    def _sample_after(self, seconds: float) -> float:
        """The next time after ``seconds`` for which some window needs a frame."""
        first = -1 if self._flow else 0
        last = math.floor((seconds + self._step) / self.grid.stride) + 1
        times = []
        for window in range(self._next, max(self._next, last) + 1):
            start = window * self.grid.stride
            k = max(first, math.floor((seconds - start) / self._step) + 1)
            if k < self.encoder.frames:
                times.append(start + k * self._step)
        return min(times, default=seconds)

    def _choose(self, times: list[float], sample: float) -> int:
        """Which of the frames at ``times`` shows the second ``sample``."""
        index = bisect_left(times, sample - _LATE)
        late = index == len(times) or times[index] >= sample + self._step
        return max(0, index - 1) if late else index

    def _square(self, frame: np.ndarray) -> np.ndarray:
        """The square that the encoder sees of a frame."""
        height, width = frame.shape[:2]
        wanted = self.picture_size(width, height)
        if wanted != (width, height):
            smaller = wanted[0] < width
            frame = cv2.resize(frame, wanted, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        size = self.encoder.size
        top, left = (wanted[1] - size) // 2, (wanted[0] - size) // 2
        return np.ascontiguousarray(frame[top : top + size, left : left + size])

    def _take(self) -> list[np.ndarray]:
        """Cut the next window; returns what that completes."""
        times = list(self._times)
        # Flow leads to each frame from the one before, so to the first from before the window.
        samples = [self._sample(k) for k in range(-1 if self._flow else 0, self.encoder.frames)]
        chosen = [self._choose(times, sample) for sample in samples]
        shown = [times[index] for index in chosen]
        if shown != self._shown:
            self._shown = shown
            self._clips.append(self._clip([self._pictures[index] for index in chosen], shown))
        self._due.append(len(self._clips) - 1)
        self._next += 1
        self._forget(self._sample(-1))
        return self._encode() if len(self._clips) >= self.batch or not self._clips else []

    def _clip(self, pictures: list[np.ndarray], times: list[float]) -> list[np.ndarray]:
        """What the encoder sees of a window: a clip (T, S, S, 3) uint8 per modality."""
        clips = []
        if self._flow is None or self.spec.modality == "both":
            clips.append(np.stack(pictures[-self.encoder.frames :]))
        if self._flow is not None:
            clips.append(self._flow.clip(pictures, times))
        return clips

    def _forget(self, before: float) -> None:
        """Drop frames that no later window shows."""
        while len(self._times) > 1 and self._times[1] <= before + _LATE:
            self._times.popleft()
            self._pictures.popleft()

    def _encode(self) -> list[np.ndarray]:
        """Features of all windows cut but not returned yet."""
        rows = [] if self._last is None else [self._last]
        if self._clips:
            modalities = [np.stack(clips) for clips in zip(*self._clips, strict=True)]
            rows += list(np.concatenate([self.encoder(clips) for clips in modalities], axis=1))
        if not rows:
            return []
        shift = len(rows) - len(self._clips)
        finished = [rows[row + shift] for row in self._due]
        self._last = rows[-1]
        self._clips, self._due = [], []
        return finished


class FlowPictures:
    """Optical flow as pictures: across, down and speed as red, green and blue; 128 is none.

    Flow of up to ``FLOW_BOUND`` pixels between two frames of a window is told apart. DIS: Kroeger et al.,
    ECCV 2016; Farneback, SCIA 2003.
    """

    def __init__(self, method: str):
        self._flow: cv2.DenseOpticalFlow = (
            cv2.FarnebackOpticalFlow.create(3, 0.5, False, 15, 3, 5, 1.2, 0)
            if method == "farneback"
            else cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_FAST)
        )
        self._between_times: dict[tuple[float, float], np.ndarray] = {}

    def clip(self, pictures: list[np.ndarray], times: list[float]) -> np.ndarray:
        """(T, S, S, 3) uint8 from T + 1 pictures (S, S, 3) and their times; windows share flow."""
        earlier, self._between_times = self._between_times, {}
        clip = []
        for k in range(1, len(pictures)):
            pair = times[k - 1], times[k]
            flow = earlier.get(pair)
            if flow is None:
                flow = self._between(pictures[k - 1], pictures[k])
            self._between_times[pair] = flow
            clip.append(flow)
        return np.stack(clip)

    def _between(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        flow: np.ndarray
        first, second = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (before, after))
        if before is after:
            flow = np.zeros((*first.shape, 2), np.float32)
        else:
            flow = self._flow.calc(first, second, None)  # type: ignore[call-overload]  # the stub asks for a flow
        speed = cv2.magnitude(flow[..., 0], flow[..., 1])[..., None]
        scaled = np.concatenate([flow, speed], axis=2) * (127 / FLOW_BOUND) + 128
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
