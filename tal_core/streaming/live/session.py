"""One stream from its source to its events.

    session = Session(model, open_source(url), extractor, sinks=[JsonLines(path)])
    session.start()
    ...
    session.stop()

Two threads: one reads and decodes (``sources``), the other extracts, detects and tells the sinks. Between
them is an ``Inlet``: live frames that come too fast are dropped there, oldest first, and counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tal_core.streaming.live.inlet import ROOM, Frame, Gap, Inlet, Item, Snippets
from tal_core.streaming.live.meter import Meter
from tal_core.streaming.live.sinks import Record, Report, Sink, Subscribers, Subscription
from tal_core.streaming.live.sources import Source
from tal_core.streaming.online.events import OnlineModel, Output, SegmentEvent
from tal_core.types import InputError
from tal_core.video.extractors.extractor import Extractor

STOP_SECONDS = 2.0
_EPSILON = 1e-6


class Session:
    """Detects on one stream until its source ends or ``stop`` is called.

    Without a ``source`` someone pushes: frames (with an ``extractor``) or features.
    ``extractor``: one that has seen no frame; a gap begins a ``fresh`` one. ``about`` goes into the header.

    ``state``: ``created``, ``connecting``, ``running``, ``reconnecting``, ``stopping``, then ``finished``
    (the source ended), ``stopped`` or ``failed`` with an ``error``.

    Raises:
        InputError: if the extractor's features aren't those the model knows.
    """

    def __init__(
        self,
        model: OnlineModel,
        source: Source | None = None,
        extractor: Extractor | None = None,
        sinks: Sequence[Sink] = (),
        *,
        about: Record | None = None,
        room: int = ROOM,
    ):
        if extractor is not None:
            check_extractor(extractor, model)
        self.model, self.source, self.about = model, source, about or {}
        self.error: Exception | None = None
        self.meter = Meter()
        self.latest: Frame | None = None
        self._extractor = extractor
        self._subscribers = Subscribers()
        self._sinks = [*sinks, self._subscribers]
        self._inlet = Inlet(room)
        self._stop, self._done = threading.Event(), threading.Event()
        self._ending: str | None = None
        self._stream = model.open_stream()
        self._last = 0.0  # seconds of the newest frame or snippet that was worked on
        self._origin = 0.0  # seconds of the stream at the extractor's second 0
        self._interrupted: tuple[float, str] | None = None
        self._threads: list[threading.Thread] = []

    # -- from outside, any thread ---------------------------------------------------------------------

    def start(self) -> Session:
        """Begin, in threads of its own."""
        self._begin(self._work, "stream-work")
        if self.source is not None:
            self._begin(self._read, "stream-read")
        return self

    def run(self) -> None:
        """Do all of it now. Raises what went wrong."""
        self.start()
        self.wait()
        if self.error is not None:
            raise self.error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; whether it is."""
        return self._done.wait(timeout)

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End it: what is open is closed and told, what waits in the queue is thrown away.

        Returns within ``timeout`` seconds. A source that hangs in the network is left to its own time limit.
        """
        self._ending = self._ending or "stopped"
        self._stop.set()
        self._inlet.close()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def subscribe(self, room: int = 256) -> Subscription:
        """All reports from now on; see ``Subscribers``."""
        return self._subscribers.subscribe(room)

    def push_frame(self, seconds: float, frame: np.ndarray, *, wait: bool = False) -> bool:
        """Give the next frame, (H, W, 3) uint8 RGB; stale ones make way for it, unless you ``wait``.

        Returns whether the stream still goes on. Raises InputError for anything but a picture.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            what = f"a frame of shape {frame.shape} and type {frame.dtype}"
            raise InputError(what, where="push", hint="Give (height, width, 3) of uint8.")
        if not np.isfinite(seconds):
            raise InputError(f"time {seconds}", where="push", hint="Give seconds.")
        return self._inlet.put(Frame(float(seconds), frame, time.monotonic()), wait=wait)

    def push_features(self, features: np.ndarray, *, wait: bool = True) -> bool:
        """Give the next snippets, ``(N, D)``. As ``push_frame``."""
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != self.model.num_features:
            what = f"features of shape {features.shape}"
            raise InputError(what, where="push", hint=f"Give (snippets, {self.model.num_features}).")
        if features.dtype.kind not in "fiu" or not np.isfinite(features).all():
            what = "features contain NaN, infinite values or no numbers"
            raise InputError(what, where="push", hint="Extract them again.")
        return self._inlet.put(Snippets(features.astype(np.float32, copy=False), time.monotonic()), wait=wait)

    def push_gap(self, reason: str = "told by the sender") -> bool:
        """The next frame doesn't join on to the one before."""
        return self._inlet.put(Gap(reason), wait=True)

    def end(self) -> None:
        """Nothing more will be pushed; the rest is worked on, then the stream is finished."""
        self._ending = self._ending or "finished"
        self._inlet.end()

    @property
    def state(self) -> str:
        """See the class."""
        if self._done.is_set():
            return "failed" if self.error is not None else self._ending or "finished"
        if not self._threads:
            return "created"
        if self._stop.is_set():
            return "stopping"
        return "running" if self.source is None else self.source.state

    def stats(self) -> dict[str, Any]:
        """Figures of now; see ``Meter.read``."""
        counts = {"dropped": self._inlet.dropped, "cut_subscribers": self._subscribers.cut}
        if self.source is not None:
            source = self.source
            counts |= {
                "decoded": source.decoded,
                "broken": source.broken,
                "reconnects": source.reconnects,
            }
        return {"state": self.state, "seconds": round(self._last, 3), **counts, **self.meter.read()}

    # -- the thread that reads ------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            for item in self.source.items(self._stop):
                if isinstance(item, Frame):
                    self.meter.came(item.seconds, item.arrived)
                if not self._inlet.put(item, wait=not self.source.live):
                    return
            self.end()
        except Exception as error:  # pylint: disable=broad-exception-caught  # raised by ``run``, told by ``state``
            self.error = self.error or error
            self.end()

    # -- the thread that works ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._tell([{"kind": "stream", **self.about, "labels": list(self.model.labels), "began": _now()}])
            while (item := self._inlet.get()) is not None:
                self._handle(item)
            self._finish()
        except Exception as error:  # pylint: disable=broad-exception-caught  # raised by ``run``, told by ``state``
            self.error = self.error or error
            self._stop.set()
            self._inlet.close()
        finally:
            self._say_over()
            self._done.set()

    def _handle(self, item: Item) -> None:
        match item:
            case Frame():
                self._take_frame(item)
            case Snippets():
                self._resume(self._last)
                self._detect(list(item.features), item.arrived)
            case Gap():
                self._interrupt(item.reason)

    def _take_frame(self, frame: Frame) -> None:
        if self._extractor is None:
            raise InputError("this stream takes features, not frames", hint="Push features.")
        if self.source is None:
            self.meter.came(frame.seconds, frame.arrived)
            if self.latest is not None and frame.seconds <= self._last:
                if frame.seconds > self._last - 1:
                    return  # out of order, or twice
                self._interrupt("the sender's time began anew")
        self._resume(frame.seconds)
        self._last, self.latest = frame.seconds, frame
        seconds = frame.seconds - self._origin
        if self._extractor.wants(seconds):
            snippets = self._extractor.push(seconds, frame.picture(self._extractor.picture_size))
            self._detect(snippets, frame.arrived)

    def _detect(self, snippets: list[np.ndarray], arrived: float) -> None:
        if not snippets:
            return
        output = self._stream.push(np.stack(snippets))
        if self._extractor is None and len(output.seconds):
            self._last = float(output.seconds[-1])
        self._tell(output=output)
        self.meter.told(output.seconds, time.monotonic() - arrived)

    def _interrupt(self, reason: str) -> None:
        """Close what is open; where the stream goes on isn't known yet."""
        if self._interrupted is not None:
            return
        self._interrupted = (self._last, reason)
        self.meter.gaps += 1
        if self._extractor is not None:
            self._detect(self._extractor.finish(), time.monotonic())
        output = self._stream.gap(self._last + self.model.grid.stride)
        self._tell([{"kind": "gap", "start": self._last, "end": None, "reason": reason}], output)

    def _resume(self, seconds: float) -> None:
        """After a gap, go on at ``seconds``: nothing of before takes part in what comes."""
        if self._interrupted is None:
            return
        start, reason = self._interrupted
        self._interrupted = None
        if self._extractor is not None:
            self._extractor, self._origin = self._extractor.fresh(), seconds
        output = self._stream.gap(seconds + self.model.grid.offset)
        self._tell([{"kind": "gap", "start": start, "end": seconds, "reason": reason}], output)

    def _finish(self) -> None:
        if self._extractor is not None and self._interrupted is None:
            self._detect(self._extractor.finish(), time.monotonic())
        self._tell(output=self._stream.finish())

    def _say_over(self) -> None:
        state = "failed" if self.error is not None else self._ending or "finished"
        over = {"kind": "over", "state": state, "seconds": self._last, "at": _now()}
        report = Report([{**over, "error": None if self.error is None else str(self.error)}])
        for sink in self._sinks:
            try:
                sink.take(report)
                sink.close()
            except Exception as error:  # pylint: disable=broad-exception-caught  # the others are told all the same
                self.error = self.error or error

    def _tell(self, records: list[Record] | None = None, output: Output | None = None) -> None:
        if output is None:
            report = Report(records or [])
        else:
            self.meter.events += len(output.events)
            events = [event_record(event) for event in output.events]
            report = Report(events + (records or []), output.seconds, output.scores)
        if report.records or len(report.seconds):
            for sink in self._sinks:
                sink.take(report)

    def _begin(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def event_record(event: SegmentEvent) -> Record:
    """An event as a record."""
    return {**asdict(event), "at": _now()}


def check_extractor(extractor: Extractor, model: OnlineModel) -> None:
    """Raise InputError unless an extractor's snippets are such as the model was trained on."""
    if extractor.num_features != model.num_features:
        what = f"has {extractor.num_features} channels, but the run was trained on {model.num_features}"
        hint = "Choose a run trained on features of this extractor."
        raise InputError(what, where="the extractor", hint=hint)
    ours, theirs = extractor.grid, model.grid
    if abs(ours.stride - theirs.stride) > _EPSILON or abs(ours.offset - theirs.offset) > _EPSILON:
        what = (
            f"gives a snippet every {ours.stride:g} s from {ours.offset:g} s, but the run was trained on"
            f" one every {theirs.stride:g} s from {theirs.offset:g} s"
        )
        raise InputError(what, where="the extractor", hint="Choose a run trained on its features.")


def _now() -> float:
    return round(time.time(), 3)
