"""Reads videos with PyAV: what a file holds, and its frames with their times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tal_core.types import InputError

_MEND = "Play the file to see whether it is whole; converting it to H.264 MP4 with ffmpeg often helps."
_TICK = 1e-4  # seconds; the least time between two frames


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says; ``duration`` in seconds, sizes in pixels."""

    fps: float
    duration: float
    width: int
    height: int


def probe(path: Path) -> VideoInfo:
    """Read a video's frame rate, duration and size without decoding it.

    A header silent about its duration costs one pass over the packets.

    Raises:
        InputError: if the file is missing, unreadable, or holds no video stream.
    """
    with _open(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / av.time_base
        else:
            ends = (
                float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux(stream) if p.pts
            )
            duration = max(ends, default=0.0)
        return VideoInfo(fps=fps, duration=duration, width=stream.width, height=stream.height)


def read_frames(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield ``(seconds, frame)`` in display order; a frame is (H, W, 3) uint8 RGB.

    Time 0 is where a player starts the file. Frames without a time stamp follow the frame before at the
    video's frame rate, and so do all frames of an AVI, which stores no display times; times always grow.

    Raises:
        InputError: if the file is missing, unreadable, holds no video stream, or breaks while decoding.
    """
    with _open(path) as (container, stream):
        start = (container.start_time or 0) / av.time_base
        step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        evenly = container.format.name == "avi"
        last = None
        for frame in container.decode(stream):
            if evenly or frame.pts is None:
                seconds = 0.0 if last is None else last + step
            else:
                seconds = float(frame.pts * frame.time_base) - start
            if last is not None:
                seconds = max(seconds, last + _TICK)
            last = seconds
            yield seconds, frame.to_ndarray(format="rgb24")


@contextmanager
def _open(path: Path):
    """Open ``path`` and its first video stream; every failure, decoding included, names the file."""
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such video file", where=path, mend="Check the path.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError("holds no video stream", where=path, mend="Choose a file with a picture.")
            yield container, container.streams.video[0]
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't be read as a video ({reason})", where=path, mend=_MEND) from error
