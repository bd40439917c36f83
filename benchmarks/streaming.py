"""Measures live detection: latency, throughput, streams at once, and a long run over a real RTMP server.

    python benchmarks/streaming.py --run RUN              latency, throughput, streams at once
    python benchmarks/streaming.py --run RUN --soak 10    ten minutes over RTMP, sender killed three times

RUN is a run of the workspace that was trained on the demo's features, for instance by
``python -m tal_core train --dataset demo --model miniroad --run-id RUN``. RTMP needs nginx with its RTMP
module, and ffmpeg.

Latency is that of the picture's own clock: every frame carries the time it was made in its pixels. A snippet
needs frames until half its window after its centre; what is shown is the time from the making of the last of
these until scores and events are told. Over RTMP this includes encoding, server, network and decoding.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
from common import parser_of
from streaming_soak import soak

from tal_core.commands.stream_demo import demo_video
from tal_core.runs.run import open_run
from tal_core.streaming.live.inlet import Frame
from tal_core.streaming.live.opening import open_detector
from tal_core.streaming.live.rtmp_demo import RtmpServer, end
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Report, Sink
from tal_core.streaming.live.sources import Patience, open_source
from tal_core.streaming.online.events import OnlineModel
from tal_core.types import InputError
from tal_core.video.extractors.extractor import Extractor
from tal_core.video.frames import read_frames
from tal_core.workspace import home

FPS = 25
SIZES = ((160, 120), (640, 360))
BITS = 40  # of the clock, in milliseconds
WARM = 2.0  # seconds of a stream that are not counted


class Watch(Sink):
    """A sink, and the source of a session, that read the clock of each frame and time each report."""

    def __init__(self, source, extractor: Extractor):
        self._source, self._reach = source, extractor.delay
        self._made: dict[float, float] = {}
        self.latencies: list[float] = []

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def items(self, stop: threading.Event):
        """The source's items; the clock of each frame is kept."""
        for item in self._source.items(stop):
            if isinstance(item, Frame):
                self._made[item.seconds] = read_clock(item.image) or time.time() - (
                    time.monotonic() - item.arrived
                )
            yield item

    def take(self, report: Report) -> None:
        now, made = time.time(), list(self._made.items())
        for centre in report.seconds:
            if centre < WARM:
                continue
            whole = next((clock for seconds, clock in made if seconds >= centre + self._reach - 1e-6), None)
            if whole is not None:
                self.latencies.append(now - whole)
        if len(report.seconds):
            self._made = {s: clock for s, clock in made if s > report.seconds[-1] - 1}


def stamp(picture: np.ndarray) -> None:
    """Write the wall clock into the upper edge of an RGB picture, as black and white squares."""
    side = max(2, picture.shape[1] // BITS)
    now = int(time.time() * 1000)
    bits = np.array([now >> place & 1 for place in range(BITS)], np.uint8) * 255
    picture[:side, : BITS * side] = np.repeat(bits, side)[None, :, None]


def read_clock(image: av.VideoFrame) -> float | None:
    """What ``stamp`` wrote, in seconds; None if it isn't a time of the last minute."""
    plane = image.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(image.height, plane.line_size)[:, : image.width]
    side = max(2, image.width // BITS)
    squares = luma[:side, : BITS * side].reshape(side, BITS, side).mean(axis=(0, 2)) > 127
    made = sum(1 << place for place, on in enumerate(squares.tolist()) if on) / 1000
    return made if 0 <= time.time() - made < 60 else None


def film(path: Path, size: tuple[int, int], seconds: float) -> Path:
    """The demo's film at 25 frames a second and another size."""
    pictures = film_frames(size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(int(seconds * FPS)):
            picture = av.VideoFrame.from_ndarray(pictures[number % len(pictures)], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def film_frames(size: tuple[int, int]) -> list[np.ndarray]:
    """Ten seconds of pictures."""
    frames = []
    for seconds, frame in read_frames(demo_video()):
        if seconds > 10:
            break
        frames.append(cv2.resize(frame, size))
    return frames


def publish(address: str, size: tuple[int, int], seconds: float) -> None:
    """Send a film whose frames carry the clock, in real time. Runs in a process of its own."""
    pictures = film_frames(size)
    options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
    with av.open(address, "w", format="flv") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = FPS
        stream.codec_context.time_base = Fraction(1, 1000)
        began = time.monotonic()
        for number in range(int(seconds * FPS)):
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            picture = pictures[number % len(pictures)].copy()
            stamp(picture)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * number / FPS), Fraction(1, 1000)
            container.mux(stream.encode(frame))


def measure_latency(model: OnlineModel, extractor: Extractor, seconds: float) -> None:
    """Prints a row for each way and size."""
    heading(f"frame to event, {FPS} fps, {seconds:.0f} s each", "p50", "p95", "p99", "dropped", "of frames")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = film(Path(folder) / "film.mp4", size, seconds)
            source = Watch(open_source(str(path), paced=True), extractor)
            session = Session(model, source, extractor.fresh(), [source])
            session.run()
        row(f"file played in real time, {size[0]}x{size[1]}", source, session)
        try:
            with RtmpServer() as server:
                address = server.address("clock")
                sender = subprocess.Popen(
                    [sys.executable, __file__, "--publish", address, *map(str, size), str(seconds)]
                )
                source = Watch(open_source(address, patience=Patience(first=60, lost=0)), extractor)
                session = Session(model, source, extractor.fresh(), [source]).start()
                session.wait(seconds + 60)
                session.stop()
                end(sender)
            row(f"over RTMP, from encoder to event, {size[0]}x{size[1]}", source, session)
        except InputError as error:
            print(f"over RTMP: {error}")


def row(name: str, watch: Watch, session: Session) -> None:
    """One line of the table."""
    stats = session.stats()
    if not watch.latencies:
        line(name, "no snippet in time", f"({session.error})")
        return
    p50, p95, p99 = np.percentile(watch.latencies, (50, 95, 99)) * 1000
    line(name, *(f"{value:.0f} ms" for value in (p50, p95, p99)), stats["dropped"], stats["frames"])


def heading(title: str, *columns: str) -> None:
    """Title of a part of the table."""
    print()
    line(title, *columns)


def line(name: str, *columns: object) -> None:
    """One line of the table."""
    print(f"{name:52s}" + "".join(f"{column!s:>14s}" for column in columns), flush=True)


def measure_throughput(model: OnlineModel, extractor: Extractor) -> None:
    """Prints frames a second of a file worked on as fast as possible."""
    heading("as fast as possible", "frames/s", "x real time", "CPU per frame")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = film(Path(folder) / "film.mp4", size, 60)
            speeds, cost = [], []
            for _ in range(3):
                session = Session(model, open_source(str(path)), extractor.fresh())
                began, spent = time.perf_counter(), time.process_time()
                session.run()
                count = session.stats()["frames"]
                speeds.append(count / (time.perf_counter() - began))
                cost.append((time.process_time() - spent) / count)
        best = max(speeds)
        line(f"{size[0]}x{size[1]}", f"{best:.0f}", f"{best / FPS:.1f}", f"{1000 * min(cost):.2f} ms")


def measure_streams(model: OnlineModel, extractor: Extractor, most: int, seconds: float) -> None:
    """Prints what becomes of 1, 2, 4 ... streams at once, as threads of one process."""
    heading(
        f"streams at once, {FPS} fps, 160x120, {seconds:.0f} s each", "p50", "p95", "dropped", "cores used"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = film(Path(folder) / "film.mp4", SIZES[0], seconds)
        number = 1
        while number <= most:
            sources = [Watch(open_source(str(path), paced=True), extractor) for _ in range(number)]
            spent, began = time.process_time(), time.perf_counter()
            sessions = [Session(model, one, extractor.fresh(), [one]).start() for one in sources]
            for session in sessions:
                session.wait()
            share = (time.process_time() - spent) / (time.perf_counter() - began)
            p50, p95 = np.percentile([x for one in sources for x in one.latencies], (50, 95)) * 1000
            frames = sum(session.stats()["frames"] for session in sessions)
            dropped = sum(session.stats()["dropped"] for session in sessions) / frames
            line(str(number), f"{p50:.0f} ms", f"{p95:.0f} ms", f"{dropped:.1%}", f"{share:.2f}")
            if dropped > 0.05:
                break
            number *= 2


def main() -> None:
    """Measures what was asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--run", metavar="ID")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each stream (%(default)s)")
    parser.add_argument("--most", type=int, default=16, help="streams at once (%(default)s)")
    parser.add_argument("--only", choices=("latency", "throughput", "streams"), help="one part alone")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="the long run, and nothing else")
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        address, width, height, seconds = options.publish
        return publish(address, (int(width), int(height)), float(seconds))
    if not options.run:
        parser.error("--run ID is needed")
    load = psutil.getloadavg()[0]
    print(f"{options.run} on {psutil.cpu_count()} CPU cores; load average {load:.1f} before this began")
    model, extractor = open_detector(open_run(home(), options.run), device="cpu")
    if options.soak:
        return soak(model, extractor, options.soak)
    if options.only in (None, "latency"):
        measure_latency(model, extractor, options.seconds)
    if options.only in (None, "throughput"):
        measure_throughput(model, extractor)
    if options.only in (None, "streams"):
        measure_streams(model, extractor, options.most, options.seconds)
    return None


if __name__ == "__main__":
    main()
