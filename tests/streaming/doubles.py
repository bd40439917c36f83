"""A detector whose answers a test can foresee, and an extractor that only measures brightness."""

from __future__ import annotations

import threading
import time

import numpy as np

from tal_core.streaming.live.inlet import Frame
from tal_core.streaming.online.events import Output, SegmentEvent
from tal_core.types import TimeGrid

STRIDE = 0.2


class BrightDetector:
    """An ``OnlineModel``: the action "bright" goes on while the only channel is above a half."""

    labels = ("bright",)
    num_features = 1
    delay = 0.0
    grid = TimeGrid(stride=STRIDE, offset=STRIDE / 2)

    def open_stream(self) -> BrightStream:
        return BrightStream(self.grid)

    def push_many(self, pushes):
        return [stream.push(features) for stream, features in pushes]


class BrightStream:
    """An ``OnlineStream``."""

    def __init__(self, grid: TimeGrid):
        self.stride, self.next = grid.stride, grid.offset
        self.number, self.since = 0, None

    def push(self, features: np.ndarray) -> Output:
        seconds, events = [], []
        for value in features[:, 0]:
            seconds.append(self.next)
            if value > 0.5 and self.since is None:
                self.since = self.next - self.stride / 2
                events.append(SegmentEvent("start", self.number, "bright", self.since, None, 0.9, self.next))
            elif value <= 0.5:
                events += self.close(self.next - self.stride / 2)
            self.next += self.stride
        return Output(np.array(seconds), features[:, :1].astype(np.float32), events)

    def gap(self, seconds: float) -> Output:
        events = self.close(self.next - self.stride / 2)
        self.next = seconds
        return Output(np.empty(0), np.empty((0, 1), np.float32), events)

    def finish(self) -> Output:
        return self.gap(self.next)

    def close(self, end: float) -> list[SegmentEvent]:
        if self.since is None:
            return []
        event = SegmentEvent("end", self.number, "bright", self.since, end, 0.9, self.next)
        self.number, self.since = self.number + 1, None
        return [event]


class Brightness:
    """An ``Extractor``: a snippet is the mean brightness (0..1) of the frames around its centre."""

    num_features = 1
    grid = BrightDetector.grid
    delay = STRIDE / 2

    def __init__(self):
        self.values, self.next = [], 0

    def fresh(self) -> Brightness:
        return Brightness()

    def wants(self, seconds: float) -> bool:
        return True

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        return 8, 8

    def push(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        done = []
        while seconds >= (self.next + 1) * STRIDE - 1e-9:
            done += self.finish()
        self.values.append(frame.mean() / 255)
        return done

    def finish(self) -> list[np.ndarray]:
        values, self.values = self.values or [0.0], []
        self.next += 1
        return [np.array([np.mean(values)], np.float32)]


class OpenEnd:
    """A source of pictures, 25 a second, that then says nothing until it is ``ended``."""

    shown, state, live = "pictures", "running", False
    decoded = broken = reconnects = 0

    def __init__(self, pictures):
        self.pictures, self.ended = pictures, threading.Event()

    def items(self, stop):
        for number, picture in enumerate(self.pictures):
            yield Frame(number / 25, picture, time.monotonic())
        while not stop.is_set() and not self.ended.wait(0.01):
            pass
