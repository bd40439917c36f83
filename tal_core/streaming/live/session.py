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

from tal_core.streaming.live.inlet import ROOM, Frame, Inlet
from tal_core.streaming.live.meter import StreamMeter
from tal_core.streaming.live.sinks import Record, Report, Sink
from tal_core.streaming.live.sources import FrameSource
from tal_core.streaming.online.events import OnlineModel, Output, SegmentEvent
from tal_core.types import InputError
from tal_core.video.extractors.extractor import Extractor

STOP_SECONDS = 2.0
_EPSILON = 1e-6


class Session:
    """Detects on one stream until its source ends or ``stop`` is called.

    ``extractor``: one that has seen no frame; an interruption begins a ``fresh`` one. ``about`` goes into
    the header.

    ``state``: ``created``, ``connecting``, ``running``, ``reconnecting``, ``stopping``, then ``finished``
    (the source ended), ``stopped`` or ``failed`` with an ``error``.

    Raises:
        InputError: if the extractor's features aren't those the model knows.
    """

    def __init__(
        self,
        model: OnlineModel,
        source: FrameSource,
        extractor: Extractor,
        sinks: Sequence[Sink] = (),
        *,
        about: Record | None = None,
        room: int = ROOM,
    ):
        check_extractor(extractor, model)
        self.model, self.source, self.about = model, source, about or {}
        self.error: Exception | None = None
        self.meter = StreamMeter()
        self.latest: Frame | None = None
        self._extractor = extractor
        self._sinks = sinks
        self._inlet = Inlet(room)
        self._stop, self._done = threading.Event(), threading.Event()
        self._ending: str | None = None
        self._stream = model.open_stream()
        self._last = 0.0  # seconds of the newest frame that was worked on
        self._origin = 0.0  # seconds of the stream at the extractor's second 0
        self._interrupted: tuple[float, str] | None = None
        self._threads: list[threading.Thread] = []

    # -- from outside, any thread ---------------------------------------------------------------------

    def start(self) -> Session:
        """Begin, in threads of its own."""
        self._begin(self._work, "stream-work")
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

    @property
    def state(self) -> str:
        if self._done.is_set():
            return "failed" if self.error is not None else self._ending or "finished"
        if not self._threads:
            return "created"
        if self._stop.is_set():
            return "stopping"
        return self.source.state

    def stats(self) -> dict[str, Any]:
        """Figures of now; see ``StreamMeter.read``."""
        source = self.source
        return {
            "state": self.state,
            "seconds": round(self._last, 3),
            "dropped": self._inlet.dropped,
            "decoded": source.decoded,
            "broken": source.broken,
            "reconnects": source.reconnects,
            **self.meter.read(),
        }

    # -- the thread that reads ------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            for item in self.source.items(self._stop):
                if isinstance(item, Frame):
                    self.meter.came(item.seconds, item.arrived)
                if not self._inlet.put(item, wait=not self.source.live):
                    return
        except Exception as error:  # raised by ``run``, told by ``state``
            self.error = self.error or error
        self._ending = self._ending or "finished"
        self._inlet.end()

    # -- the thread that works ------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._tell([{"kind": "stream", **self.about, "labels": list(self.model.labels), "began": _now()}])
            while (item := self._inlet.get()) is not None:
                if isinstance(item, Frame):
                    self._take_frame(item)
                else:
                    self._interrupt(item.reason)
            self._finish()
        except Exception as error:  # raised by ``run``, told by ``state``
            self.error = self.error or error
            self._stop.set()
            self._inlet.close()
        finally:
            self._say_over()
            self._done.set()

    def _take_frame(self, frame: Frame) -> None:
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
        self._tell(output=output)
        self.meter.told(output.seconds, time.monotonic() - arrived)

    def _interrupt(self, reason: str) -> None:
        """Close what is open; where the stream goes on isn't known yet."""
        if self._interrupted is not None:
            return
        self._interrupted = (self._last, reason)
        self.meter.gaps += 1
        self._detect(self._extractor.finish(), time.monotonic())
        output = self._stream.gap(self._last + self.model.grid.stride)
        self._tell([{"kind": "gap", "start": self._last, "end": None, "reason": reason}], output)

    def _resume(self, seconds: float) -> None:
        """After a gap, go on at ``seconds``: nothing of before takes part in what comes."""
        if self._interrupted is None:
            return
        start, reason = self._interrupted
        self._interrupted = None
        self._extractor, self._origin = self._extractor.fresh(), seconds
        output = self._stream.gap(seconds + self.model.grid.offset)
        self._tell([{"kind": "gap", "start": start, "end": seconds, "reason": reason}], output)

    def _finish(self) -> None:
        if self._interrupted is None:
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
            except Exception as error:  # the others are told all the same
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
