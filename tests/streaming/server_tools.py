"""A server in a thread, on a free port, and a detector so simple that its answers are known."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pandas as pd

from tal_core.streaming.online.events import Output, SegmentEvent
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Served, Service
from tal_core.streaming.server.uvicorn_server import make_server
from tal_core.types import TimeGrid

LABELS = ["jump", "run"]
CHANNELS = 3
GRID = TimeGrid(0.2, 0.1)


class Stream:
    """Scores are the first two channels; "jump" is on while its score is over a half."""

    def __init__(self):
        self.next, self.base, self.begun, self.segments = 0, 0.0, None, 0

    def push(self, features):
        seconds = self.base + GRID.seconds(self.next + np.arange(len(features)))
        self.next += len(features)
        events = []
        for now, score in zip(seconds.tolist(), features[:, 0].tolist(), strict=True):
            if score > 0.5 and self.begun is None:
                self.begun = now
                events.append(SegmentEvent("start", self.segments, "jump", now, None, score, now))
            elif score <= 0.5 and self.begun is not None:
                events.append(self.end(now))
        return Output(seconds, features[:, :2], events)

    def end(self, now):
        event = SegmentEvent("end", self.segments, "jump", self.begun, now, 0.9, now)
        self.begun, self.segments = None, self.segments + 1
        return event

    def gap(self, seconds):
        output = self.finish()
        self.base, self.next = seconds - GRID.offset, 0
        return output

    def finish(self):
        now = float(self.base + GRID.seconds(max(self.next - 1, 0)))
        events = [] if self.begun is None else [self.end(now)]
        return Output(np.empty(0), np.empty((0, 2)), events)


class Model:
    """Any number of streams; remembers the size of its batches."""

    labels, grid, num_features, delay = LABELS, GRID, CHANNELS, 0.0

    def __init__(self):
        self.batches = []

    def open_stream(self):
        return Stream()

    def push_many(self, pushes):
        self.batches.append(len(pushes))
        return [stream.push(features) for stream, features in pushes]


class Extractor:
    """One snippet every 0.2 s: the mean colour of the pictures since the last, 0 to 1."""

    num_features, grid, delay = CHANNELS, GRID, 0.1

    def __init__(self):
        self.pictures, self.done = [], 0

    def wants(self, seconds):
        return True

    def picture_size(self, width, height):
        return width, height

    def fresh(self):
        return Extractor()

    def push(self, seconds, frame):
        snippets = []
        while self.pictures and seconds >= GRID.stride * (self.done + 1) - 1e-9:
            snippets += self.finish()
        self.pictures.append(frame.mean(axis=(0, 1)) / 255)
        return snippets

    def finish(self):
        if not self.pictures:
            return []
        snippet = np.mean(self.pictures, axis=0).astype(np.float32)
        self.pictures, self.done = [], self.done + 1
        return [snippet]


def detect(features, grid, name):
    """One detection per snippet whose first channel is over a half."""
    grid = grid or GRID
    hits = np.flatnonzero(features[:, 0] > 0.5)
    rows = [(name, grid.seconds(i), grid.seconds(i) + 0.2, "jump", float(features[i, 0])) for i in hits]
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "label", "score"])


def served(run_id="toy", model=None, **changes):
    """The toy detector as a run."""
    online = model or Model()
    fields = {"online": online, "extractor": Extractor, "detect": detect, **changes}
    return Served(run_id, "toy", LABELS, CHANNELS, GRID, **fields)


@contextmanager
def running(service=None, host="127.0.0.1", **limits):
    """A server for the block; yields its port."""
    service = service or Service({"toy": served()}, Limits(**limits))
    server, listener = make_server(service, host, 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def get(port, path, **options):
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False, **options)


def post(port, content, path="/v1/detect", **options):
    return httpx.post(
        f"http://127.0.0.1:{port}{path}", content=content, timeout=30, trust_env=False, **options
    )


def metric(port, name, token=None):
    """The value of one line of /metrics, 0 if it isn't there."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for line in get(port, "/metrics", headers=headers).text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return 0.0


def raw(port, data, *, timeout=10.0):
    """Send bytes over a bare connection; all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout) as line:
        line.sendall(data)
        answer = b""
        while part := line.recv(65536):
            answer += part
        return answer


def hello(kind="features", **fields):
    return json.dumps({"type": "hello", "kind": kind, **fields})


def until_end(socket_, most=10_000):
    """All messages up to ``end`` or ``error``, and how the server closed."""
    messages = []
    for _ in range(most):
        messages.append(json.loads(socket_.recv(timeout=20)))
        if messages[-1]["type"] in ("end", "error"):
            break
    return messages


def together(coroutines):
    """Run coroutines at once."""

    async def all_of_them():
        return await asyncio.gather(*coroutines, return_exceptions=True)

    return run_apart(all_of_them())


def run_apart(work: Coroutine) -> Any:
    """What a coroutine gives, run in a thread of its own: browser tests keep a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
