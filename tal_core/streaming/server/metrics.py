"""What Prometheus can ask of the server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Numbers:
    """Counters, gauges and histograms of one server, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        common = {"namespace": "tal", "registry": self.registry}
        self.requests = Counter("requests", "HTTP requests by path and status", ["path", "status"], **common)
        self.request_seconds = Histogram(
            "request_seconds", "From a request's head to its answer", ["path"], buckets=_SECONDS, **common
        )
        self.detections = Counter("detections", "Detections given in files", ["run"], **common)
        self.streams = Gauge("streams", "Streams open now", ["run"], **common)
        self.streams_opened = Counter("streams_opened", "Streams begun", ["run", "kind"], **common)
        self.streams_closed = Counter("streams_closed", "Streams ended, by close code", ["code"], **common)
        self.frames = Counter("frames", "Pictures received in streams", ["run"], **common)
        self.dropped = Counter(
            "frames_dropped", "Pictures dropped because work lags behind", ["run"], **common
        )
        self.snippets = Counter("snippets", "Snippets scored in streams", ["run"], **common)
        self.events = Counter("events", "Events sent", ["run", "kind"], **common)
        self.push_seconds = Histogram(
            "push_seconds", "From a message's arrival to its answer", ["run"], buckets=_SECONDS, **common
        )
        self.batch = Histogram(
            "batch_streams", "Streams in one step of the model", buckets=(1, 2, 4, 8, 16, 32, 64), **common
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text form."""
        return generate_latest(self.registry)
