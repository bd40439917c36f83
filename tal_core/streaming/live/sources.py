"""Opens files, cameras and network streams, and yields their frames as they come.

    for item in open_source("rtmp://127.0.0.1/live/demo").items(stop):   # Frame | Interruption

A source that is live can't wait for its consumer and outlives its connection: when that breaks or falls
silent it is made again after pauses that double up to ``PAUSES[1]`` seconds; an ``Interruption`` says so.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av

from tal_core.streaming.live.addresses import Address, read_address
from tal_core.streaming.live.clock import BACK, JUMP, StreamClock
from tal_core.streaming.live.inlet import Frame, Interruption
from tal_core.types import InputError
from tal_core.video.frames import Damage, decode_frames, stamp_of

PAUSES = (0.25, 3.0)  # seconds before the first reconnection, and at most
SEGMENT_SECONDS = 30.0  # within which HLS must have something new

# FFmpeg opens whatever a stream refers to. What it may speak is listed here; files are never among it.
_PROTOCOLS = {
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsp,rtp,udp,tls,tcp",
    "http": "http,https,tls,tcp,crypto",
    "https": "http,https,tls,tcp,crypto",
}
# Nor may it take a list of other files (concat, dash, image sequences) for a video.
_FORMATS = (
    "hls,flv,live_flv,rtsp,rtp,sdp,mpegts,mov,matroska,webm,avi,mjpeg,mpjpeg,jpeg_pipe,mpeg,ogg,asf,"
    "h264,hevc,av1,ivf,aac,mp3,webvtt"
)
_LOW_LATENCY = {"flags": "low_delay", "probesize": "32768", "analyzeduration": "100000"}


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    ``open``: for an address to answer. ``read``: for the next packet. ``first``: for the first connection to
    come about, all attempts together. ``lost``: for a lost source to come back; None waits for ever.
    """

    open: float = 5.0
    read: float = 5.0
    first: float = 10.0
    lost: float | None = None


class FrameSource(ABC):
    """Where frames come from.

    ``live``: frames come when they come; who is too slow for them loses some. ``state``: ``connecting``,
    ``running`` or ``reconnecting``. Counted are ``decoded`` frames, ``broken`` packets that gave none, and
    ``reconnects``.
    """

    def __init__(self, shown: str, live: bool):
        self.shown, self.live, self.state = shown, live, "connecting"
        self.decoded = self.broken = self.reconnects = 0

    @abstractmethod
    def items(self, stop: threading.Event) -> Iterator[Frame | Interruption]:
        """Frames in order, and gaps between them, until the source ends or ``stop`` is set.

        Raises:
            InputError: if it can't be read, or never gives a frame.
        """


def open_source(
    text: str,
    *,
    paced: bool = False,
    allowed: Sequence[Path] | None = None,
    patience: Patience | None = None,
) -> FrameSource:
    """The source that ``text`` names: a file, ``camera:0``, or an rtmp, rtsp or http address.

    ``paced`` plays a file in real time, as if it were live. ``allowed``: see ``read_address``. Nothing is
    connected to before ``items`` is asked for.

    Raises:
        InputError: for what is not a source, or a file that may not be read.
    """
    address = read_address(text, allowed)
    if address.kind == "file":
        return FileSource(Path(address.target), shown=address.shown, paced=paced)
    return LiveSource(address, patience or Patience())


class FileSource(FrameSource):
    """A video file; ``paced``: played in real time by its time stamps."""

    def __init__(self, path: Path, *, shown: str | None = None, paced: bool = False):
        super().__init__(shown or str(path), live=paced)
        self.path = path

    def items(self, stop: threading.Event) -> Iterator[Frame | Interruption]:
        damage, began = Damage(), 0.0
        last: float | None = None
        stamp: float | None = None
        # Decoding ahead on several cores takes them from the detector, and a live stream has none to spare.
        threads = 1 if self.live else 0
        with closing(decode_frames(self.path, damage=damage, threads=threads)) as frames:
            for seconds, image in frames:
                self.decoded, self.broken = damage.frames, damage.broken
                before, stamp = stamp, stamp_of(image)
                step = 0.0 if before is None or stamp is None else stamp - before
                if last is None or not -BACK <= step <= JUMP:
                    began = time.monotonic() - seconds
                    if last is not None:
                        yield Interruption(f"time stamps jumped by {step:+.1f} s")
                self.state, last = "running", seconds
                if self.live:
                    stop.wait(began + seconds - time.monotonic())
                if stop.is_set():
                    return
                yield Frame(seconds, image, time.monotonic())
        self.broken = damage.broken


class LiveSource(FrameSource):
    """A camera or a network stream: read with little delay, reconnected when it breaks.

    Plain files behind http have an end and can wait; they are not ``live`` once that is known.
    """

    def __init__(self, address: Address, patience: Patience):
        super().__init__(address.shown, live=True)
        self.address, self.patience = address, patience
        self._clock = StreamClock()

    def items(self, stop: threading.Event) -> Iterator[Frame | Interruption]:
        deadline: float | None = time.monotonic() + self.patience.first
        pauses = _pauses()
        while not stop.is_set():
            reason = "it ended"
            try:
                for item in self._connection(stop):
                    if self.state != "running":
                        self.reconnects += self.state == "reconnecting"
                        self.state, deadline, pauses = "running", None, _pauses()
                    yield item
                if not self.live:
                    return
            except _Broken as broken:
                reason = broken.reason
                if broken.final and self.state == "connecting":
                    raise InputError(reason, where=self.shown, hint=broken.hint) from broken
            if stop.is_set():
                return
            if self.state == "running":
                self.state = "reconnecting"
                deadline = None if self.patience.lost is None else time.monotonic() + self.patience.lost
                self._clock.restart()
                yield Interruption(reason)
            pause = next(pauses, PAUSES[1])
            if deadline is not None and time.monotonic() + pause > deadline:
                what = f"no picture came ({reason})" if self.state == "connecting" else f"is lost ({reason})"
                hint = "Check that the sender runs, and that a player such as ffplay shows the same address."
                raise InputError(what, where=self.shown, hint=hint)
            stop.wait(pause)

    def _connection(self, stop: threading.Event) -> Iterator[Frame | Interruption]:
        """What one connection gives, until it ends. Raises _Broken."""
        try:
            with self._open() as container:
                if not container.streams.video:
                    raise _Broken("it holds no picture", final=True, hint="Choose a stream with a picture.")
                yield from self._read(container, container.streams.video[0], stop)
        except av.error.FFmpegError as error:
            raise _broken(error, self.address) from None

    def _open(self) -> av.container.InputContainer:
        patience = self.patience
        if self.address.kind == "camera":
            return av.open(
                self.address.target,
                format="v4l2",
                options={"fflags": "nobuffer", "framerate": "25"},
                timeout=(patience.open, patience.read),
            )
        scheme = self.address.scheme
        microseconds = str(int(1e6 * patience.read))
        options = {**_LOW_LATENCY, "protocol_whitelist": _PROTOCOLS[scheme], "format_whitelist": _FORMATS}
        if scheme.startswith("rtsp"):
            options |= {"rtsp_transport": "tcp", "timeout": microseconds}
        else:
            options |= {"rw_timeout": microseconds}
        if scheme.startswith("rtmp"):
            options |= {"rtmp_live": "live"}
        # The server's silence is told by rw_timeout; between two segments of HLS nothing needs to come.
        read = SEGMENT_SECONDS if scheme.startswith("http") else patience.read
        return av.open(self.address.target, options=options, timeout=(patience.open, read))

    def _read(
        self, container: av.container.InputContainer, stream: av.VideoStream, stop: threading.Event
    ) -> Iterator[Frame | Interruption]:
        stream.thread_type = "SLICE"  # frames side by side would each wait for the one before
        if self.address.scheme.startswith("http") and container.duration is not None:
            self.live = False
        seen, ended = 0, False
        packets = container.demux(stream)
        while not ended and not stop.is_set():
            packet = next(packets, None)
            ended = packet is None or packet.size == 0  # an empty packet fetches what the decoder holds back
            for image in self._decode(stream.codec_context, packet):
                arrived = time.monotonic()
                seconds, odd = self._clock.place(stamp_of(image), arrived)
                seen += 1
                if odd:
                    yield Interruption(odd)
                yield Frame(seconds, image, arrived)
        if not seen and not stop.is_set():
            raise _Broken("it ended without a picture")

    def _decode(self, decoder: av.VideoCodecContext, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            frames = decoder.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.broken += 1
            return []
        self.decoded += len(frames)
        return frames


class _Broken(Exception):
    """A connection has failed; ``final``: trying again won't help."""

    def __init__(self, reason: str, *, final: bool = False, hint: str | None = None):
        super().__init__(reason)
        self.reason, self.final, self.hint = reason, final, hint


def _broken(error: av.error.FFmpegError, address: Address) -> _Broken:
    """What an error of FFmpeg means. Its own text names the whole address, password included."""
    reason = error.strerror or type(error).__name__
    if address.kind == "camera":
        hint = "Connect a camera, and see which there are with: ls /dev/video*."
        return _Broken(f"there is no such camera ({reason})", final=True, hint=hint)
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return _Broken("nothing came in time")
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        hint = "Put them in front of the host: scheme://user:password@host/path."
        return _Broken("it wants a user and password", final=True, hint=hint)
    if isinstance(error, av.error.HTTPNotFoundError | av.error.ProtocolNotFoundError):
        return _Broken(reason, final=True, hint="Check the address.")
    return _Broken(reason)


def _pauses(draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling up to the most, a quarter more or less."""
    pause, most = PAUSES
    while True:
        yield pause * (0.75 + 0.5 * draw())
        pause = min(2 * pause, most)
