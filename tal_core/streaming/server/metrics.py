"""What Prometheus can ask of the server."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Numbers:
    """Counters, gauges and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, namespace="tal", registry=self.registry)
        histogram = partial(Histogram, namespace="tal", registry=self.registry)
        self.requests = counter("requests", "HTTP requests by path and status", ["path", "status"])
        self.request_seconds = histogram(
            "request_seconds", "From a request's head to its answer", ["path"], buckets=_SECONDS
        )
        self.detections = counter("detections", "Detections given in files", ["run"])
        self.streams = Gauge("streams", "Streams open now", ["run"], namespace="tal", registry=self.registry)
        self.streams_opened = counter("streams_opened", "Streams begun", ["run", "kind"])
        self.streams_closed = counter("streams_closed", "Streams ended, by close code", ["code"])
        self.frames = counter("frames", "Pictures received in streams", ["run"])
        self.dropped = counter("frames_dropped", "Pictures dropped because work lags behind", ["run"])
        self.snippets = counter("snippets", "Snippets scored in streams", ["run"])
        self.events = counter("events", "Events sent", ["run", "kind"])
        self.push_seconds = histogram(
            "push_seconds", "From a message's arrival to its answer", ["run"], buckets=_SECONDS
        )
        self.batch = histogram(
            "batch_streams", "Streams in one step of the model", buckets=(1, 2, 4, 8, 16, 32, 64)
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)
