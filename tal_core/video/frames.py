"""Reads videos with PyAV: what a file holds, and its frames with their times, upright and at the size asked.

A file that is damaged in the middle or cut short gives the frames it holds; ``Damage`` says what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from av import Packet, VideoCodecContext, VideoStream
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from tal_core.types import InputError

Size = Callable[[int, int], tuple[int, int]]
"""From the size (width, height) of an upright frame to the size wanted."""

_HINT = "Play the file to see whether it is whole; converting it to H.264 MP4 with ffmpeg often helps."
# A playlist or a list of files (HLS, concat, DASH, SDP) is no video: it would lead to any other file.
_FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,gxf,dv,nut,gif,apng,mjpeg,h264,hevc,"
    "vvc,av1,obu,ivf,vc1,m4v,rm,swf,yuv4mpegpipe,wtv,nsv,h263,dirac,dhav"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
_TICK = 1e-4  # seconds; the least time between two frames
_GAP = 2.5  # frame intervals; a longer one is a gap, if there are but few: _FEW of all
_FEW = 0.02
_BACKWARDS = 0.5  # seconds; times that jump back by more begin anew (joined recordings)


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says; ``duration`` in seconds, the upright picture's sizes in pixels."""

    fps: float
    duration: float
    width: int
    height: int


@dataclass
class Damage:
    """What was wrong with a video that was read, filled in as its frames come.

    ``frames`` read; ``broken`` packets that gave no frame; ``faulty`` frames whose decoder filled in missing
    parts; ``missing`` frames that the header counts and the file lacks; ``gaps`` between frames (from, to) in
    seconds that are no habit of the video; ``ends`` and ``stated``: where a file cut short stops and should
    have; ``reason``: the decoder's last complaint.
    """

    frames: int = 0
    broken: int = 0
    faulty: int = 0
    missing: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    ends: float | None = None
    stated: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        """One line for people; empty for a sound video."""
        said = []
        for count, what in (
            (self.broken, "broken packet"),
            (self.faulty, "faulty frame"),
            (self.missing, "missing frame"),
        ):
            if count:
                said.append(f"{count} {what}" + ("s" if count > 1 else ""))
        if self.gaps:
            where = ", ".join(f"{a:.1f}-{b:.1f} s" for a, b in self.gaps[:3])
            said.append(f"no picture at {where}" + (", ..." if len(self.gaps) > 3 else ""))
        if self.ends is not None:
            said.append(f"cut short: ends at {self.ends:.1f} of {self.stated:.1f} s")
        return "; ".join(said)


def duration_of(path: Path) -> float:
    """Seconds of a video by its header alone; 0 where it is silent or can't be read. Quick."""
    try:
        with open_video(path) as (container, stream):
            return _stated(container, stream) or 0.0
    except InputError:
        return 0.0


def probe(path: Path) -> VideoInfo:
    """Read a video's frame rate, duration and size from its header and first frame.

    A header silent about its duration costs one pass over the packets.

    Raises:
        InputError: if the file is missing, unreadable, or holds no video stream.
    """
    with open_video(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        duration = _stated(container, stream)
        if duration is None:
            duration = _last_end(container, stream)
        width, height = stream.width, stream.height
    with open_video(path) as (container, stream):
        first = next(_decode(container, stream, Damage()), None)
        if first is not None and _orientation(first)[0]:
            width, height = height, width
    return VideoInfo(fps=fps, duration=duration, width=width, height=height)


def read_frames(
    path: Path,
    *,
    size: Size | None = None,
    wanted: Callable[[float], bool] | None = None,
    damage: Damage | None = None,
    threads: int = 0,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield ``(seconds, frame)`` in display order; a frame is (H, W, 3) uint8 RGB, turned upright.

    Frames are scaled to ``size(width, height)`` as they are converted; those whose second isn't ``wanted``
    are neither converted nor yielded. The rest is as ``decode_frames`` says.

    Raises:
        InputError: as ``decode_frames``.
    """
    scaler = VideoReformatter()
    for seconds, frame in decode_frames(path, damage=damage, threads=threads):
        if wanted is None or wanted(seconds):
            yield seconds, picture(frame, size, scaler)


def decode_frames(
    path: Path, *, damage: Damage | None = None, threads: int = 0
) -> Generator[tuple[float, av.VideoFrame]]:
    """Yield ``(seconds, frame)`` in display order, for ``picture`` to convert.

    Time 0 is where a player starts the file. Frames without a time stamp follow the frame before at the
    video's frame rate, and so do all frames of an AVI, which stores no display times; times always grow.

    What can't be decoded is left out and noted in ``damage``. ``threads`` decode (0: one per core).

    Raises:
        InputError: if the file is missing, unreadable, holds no video stream, or not one frame of it decodes.
    """
    damage = Damage() if damage is None else damage
    with open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        clock = _Clock(container, stream)
        gaps, broken = [], 0
        for frame in _decode(container, stream, damage):
            before = clock.last
            seconds = clock.of(frame, lost=damage.broken - broken)
            broken = damage.broken
            if before is not None and seconds - before > _GAP * clock.step:
                gaps.append((before, seconds))
            damage.frames += 1
            damage.faulty += frame.is_corrupt
            yield seconds, frame
        if not damage.frames:
            reason = f" ({damage.reason})" if damage.reason else ""
            raise InputError(f"not one frame can be decoded{reason}", where=path, hint=_HINT)
        if len(gaps) <= _FEW * damage.frames:  # else the frame rate varies
            damage.gaps = gaps
        _note_end(container, stream, clock, damage)


def picture(
    frame: av.VideoFrame, size: Size | None = None, scaler: VideoReformatter | None = None
) -> np.ndarray:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright and scaled to ``size(width, height)``.

    A ``scaler`` kept for all frames of a video saves its preparation, which takes longer than a small frame.
    """
    # Never the frame's own scaler (``frame.reformat``): two threads at one frame would wait for each other.
    scaler = VideoReformatter() if scaler is None else scaler
    sideways, mirrored, upended = _orientation(frame)
    upright = (frame.height, frame.width) if sideways else (frame.width, frame.height)
    wanted = size(*upright) if size else upright
    # One thread: handing slices of a frame to others takes longer than converting it.
    pixels: np.ndarray
    if wanted == upright:
        pixels = scaler.reformat(frame, format="rgb24", threads=1).to_ndarray()
    else:
        width, height = wanted[::-1] if sideways else wanted
        scaled = scaler.reformat(frame, width, height, "rgb24", interpolation="AREA", threads=1)
        pixels = scaled.to_ndarray()
    if sideways:
        pixels = cv2.transpose(pixels)
    if mirrored or upended:
        pixels = cv2.flip(pixels, -1 if mirrored and upended else int(mirrored))
    return pixels


def stamp_of(frame: av.VideoFrame) -> float | None:
    """Seconds of a decoded frame by its own time stamp, None without one."""
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Whether an upright picture takes swapping the axes, and after that mirroring left-right and up-down.

    The display matrix takes stored positions to shown ones: x' = ax + cy, y' = bx + dy (libavutil/display.h).
    """
    # frame.side_data makes frame and data hold each other: frames would stay until garbage is collected.
    container = SideDataContainer(frame)  # type: ignore[call-arg]  # the stub knows no arguments
    for data in container.keys():  # noqa: SIM118  # no dict: its items are the data themselves
        if data.type == SideData.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            sideways = abs(b) + abs(c) > abs(a) + abs(d)
            return (sideways, c < 0, b < 0) if sideways else (sideways, a < 0, d < 0)
    return False, False, False


class _Clock:
    """Tells the seconds of each frame, in display order."""

    def __init__(self, container: InputContainer, stream: VideoStream):
        self.start = (container.start_time or 0) / av.time_base
        self.step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self.evenly = container.format.name == "avi"
        self.last: float | None = None

    def of(self, frame: av.VideoFrame, lost: int = 0) -> float:
        """Seconds of the next frame, before which ``lost`` frames could not be decoded."""
        stamp = stamp_of(frame)
        if self.evenly or stamp is None:
            seconds = lost * self.step if self.last is None else self.last + (1 + lost) * self.step
        else:
            seconds = stamp - self.start
            if self.last is not None and seconds < self.last - _BACKWARDS:
                self.start += seconds - self.last - self.step
                seconds = self.last + self.step
        if self.last is not None:
            seconds = max(seconds, self.last + _TICK)
        self.last = seconds
        return seconds


def _decode(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded; counts the packets that can't."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:  # nothing more can be read; the decoder may still hold frames
            damage.reason = _reason(error)
            damage.broken += 1
            yield from _frames(stream.codec_context, None, damage)
            return
        if packet is None:
            return
        yield from _frames(stream.codec_context, packet, damage)


def _frames(decoder: VideoCodecContext, packet: Packet | None, damage: Damage) -> list[av.VideoFrame]:
    try:
        return decoder.decode(packet)
    except av.error.EOFError:  # flushed already
        return []
    except av.error.FFmpegError as error:
        damage.reason = _reason(error)
        damage.broken += 1
        return []


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _note_end(container: InputContainer, stream: VideoStream, clock: _Clock, damage: Damage) -> None:
    """Note if there are fewer frames than the header says, or they end well before the picture should."""
    if stream.duration is not None and stream.time_base is not None:
        stated = float((stream.duration + (stream.start_time or 0)) * stream.time_base) - clock.start
    elif container.duration is not None and len(container.streams) == 1:
        stated = container.duration / av.time_base
    else:
        return  # the duration may be that of the sound
    end = (clock.last or 0.0) + clock.step
    if stated - end > max(0.5, 2 * clock.step):
        damage.ends, damage.stated = end, stated
    elif stream.frames > damage.frames + damage.broken:
        damage.missing = stream.frames - damage.frames - damage.broken


def _stated(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds that the header gives the picture, or else the whole file."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _last_end(container: InputContainer, stream: VideoStream) -> float:
    """Seconds from the file's start to the end of the last packet; without times, by their number."""
    clock, end, count = _Clock(container, stream), 0.0, 0
    for packet in container.demux(stream):
        count += packet.size > 0
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - clock.start)
    return end or count * clock.step


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open ``path`` and its first moving picture; every failure inside, decoding included, names the file.

    Raises:
        InputError: if the file is missing, unreadable, a list of other files, or holds no video stream.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such video file", where=path, hint="Check the path.")
    try:
        with av.open(str(path), options=_OPTIONS) as container:
            # The cover of a song is a video stream too, of one picture.
            moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not moving:
                raise InputError("holds no video stream", where=path, hint="Choose a file with a picture.")
            if moving[0].codec_context is None:
                what = "its video codec is not one that this program can decode"
                raise InputError(what, where=path, hint="Convert it to H.264 MP4 with ffmpeg.")
            yield container, moving[0]
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = _reason(error)
        raise InputError(f"can't be read as a video ({reason})", where=path, hint=_HINT) from error
