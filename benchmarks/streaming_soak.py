"""The long run of ``streaming.py``: a film over and over by RTMP, its sender killed and started again."""

from __future__ import annotations

import threading
import time

import numpy as np
import psutil

from tal_core.commands.stream_demo import demo_video
from tal_core.streaming.live.rtmp_demo import Publisher, RtmpServer
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Calls, Record
from tal_core.streaming.live.sources import Patience, open_source
from tal_core.streaming.online.events import OnlineModel
from tal_core.video.extractors.extractor import Extractor

KILLS = 3
AWAY = 2.0  # seconds that a killed sender stays away


def soak(model: OnlineModel, extractor: Extractor, minutes: float) -> None:
    """Prints memory, recoveries, and how the events compare with those of the file."""
    reference = detect_file(model, extractor)
    records: list[Record] = []
    process = psutil.Process()
    memory: list[tuple[float, float]] = []
    recoveries: list[float] = []
    with RtmpServer() as server:
        address = server.address("soak")
        source = open_source(address, patience=Patience(first=60))
        session = Session(model, source, extractor.fresh(), [Calls(lambda r: records.extend(r.records))])
        session.start()
        began = time.monotonic()
        each = 60 * minutes / (KILLS + 1)
        for part in range(KILLS + 1):
            with Publisher(demo_video(), address, copy=True) as sender:
                if part:
                    recoveries.append(until_running(session))
                while time.monotonic() - began < each * (part + 1):
                    time.sleep(1)
                    memory.append((time.monotonic() - began, process.memory_info().rss / 2**20))
                if part < KILLS:
                    sender.process.kill()
                    time.sleep(AWAY)
                else:
                    session.stop()
    stats = session.stats()
    first = next((rss for at, rss in memory if at >= min(60, 30 * minutes)), memory[0][1])
    later = [rss for at, rss in memory if at >= min(60, 30 * minutes)]
    print(f"{minutes:g} minutes over RTMP, sender killed {KILLS} times and away for {AWAY:g} s each")
    said("recovered within", f"{', '.join(f'{s:.2f} s' for s in recoveries)} of the sender's restart")
    said(
        "memory after a minute",
        f"{first:.1f} MB; {later[-1] - first:+.1f} MB at the end, at most {max(later) - first:+.1f}",
    )
    said("mean memory by minute", by_minute(memory))
    said("frames", f"{stats['frames']}, {stats['dropped']} dropped, {stats['broken']} broken packets")
    said("latency in ms", ", ".join(f"{name} {value:.0f}" for name, value in stats["latency_ms"].items()))
    said("reconnects, gaps", f"{stats['reconnects']}, {stats['gaps']}")
    check_events(records, reference)
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("stream-")]
    sockets = [c for c in process.net_connections() if c.raddr and c.raddr.port == server.port]
    children = len(process.children())
    said("left behind", f"{len(left)} threads, {len(sockets)} sockets, {children} processes")


def said(name: str, text: str) -> None:
    """One line of the report."""
    print(f"{name:27s} {text}", flush=True)


def detect_file(model: OnlineModel, extractor: Extractor) -> list[Record]:
    """The events of the film, detected from the file as fast as possible."""
    records: list[Record] = []
    sinks = [Calls(lambda report: records.extend(report.records))]
    Session(model, open_source(str(demo_video())), extractor.fresh(), sinks).run()
    return [record for record in records if record["kind"] == "end"]


def until_running(session: Session) -> float:
    """Seconds until a session receives frames again."""
    began = time.monotonic()
    while session.state != "running":
        time.sleep(0.01)
        if time.monotonic() - began > 60:
            raise SystemExit("the stream did not come back within a minute")
    return time.monotonic() - began


def by_minute(memory: list[tuple[float, float]]) -> str:
    """Mean megabytes of each minute."""
    minutes = sorted({int(at // 60) for at, _ in memory})
    means = [np.mean([rss for at, rss in memory if at // 60 == minute]) for minute in minutes]
    return " ".join(f"{mean:.1f}" for mean in means)


def check_events(records: list[Record], reference: list[Record]) -> None:
    """Prints whether segments are whole, and how far those of each first playing lie from the file's."""
    ends = [record for record in records if record["kind"] == "end"]
    starts = [record["segment"] for record in records if record["kind"] == "start"]
    numbers = [record["segment"] for record in ends]
    doubled = len(numbers) - len(set(numbers))
    lost = len(set(range(max(numbers, default=-1) + 1)) - set(numbers))
    lost += len(set(starts) - set(numbers))
    said("segments", f"{len(numbers)}, {lost} lost, {doubled} doubled")
    gaps = [record for record in records if record["kind"] == "gap" and record["end"]]
    begins = [0.0, *(gap["end"] for gap in gaps)]
    ends_at = [*(gap["start"] for gap in gaps), ends[-1]["end"]]
    for begin, end in zip(begins, ends_at, strict=True):
        expected = [one for one in reference if begin + one["end"] < end - 1]
        apart = [nearest(one, ends, begin) for one in expected]
        within = sum(distance <= 0.2 for distance in apart)
        text = f"{within} of the file's {len(expected)} segments within a snippet"
        said(f"playing from {begin:.1f} s", f"{text}, {max(apart, default=0):.3f} s at most")


def nearest(one: Record, records: list[Record], origin: float) -> float:
    """How far the boundaries of the most similar segment of its class lie, in seconds."""
    return min(
        (
            max(abs(r["start"] - origin - one["start"]), abs(r["end"] - origin - one["end"]))
            for r in records
            if r["label"] == one["label"]
        ),
        default=np.inf,
    )
