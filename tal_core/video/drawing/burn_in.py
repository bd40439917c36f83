"""Writes a video with its detections drawn under the picture: H.264 in MP4, the sound kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
from av import AudioStream, VideoStream
from av.container import InputContainer, OutputContainer

from tal_core.types import InputError, Progress
from tal_core.video.drawing.captions import Captions
from tal_core.video.frames import probe, read_frames

CLOCK = Fraction(1, 90_000)
LONGEST_SIDE = 1920  # pixels; larger pictures are scaled down
NARROWEST = 480  # pixels; below that the words couldn't be read, so narrower pictures are scaled up
COPIED = ("aac", "mp3", "ac3", "alac")  # sound that players know in MP4; other sound becomes AAC


def burn_in(
    video: Path,
    detections: pd.DataFrame,
    out: Path,
    colors: Mapping[str, str],
    *,
    progress: Progress | None = None,
) -> list[str]:
    """Write ``video`` with a bar of ``detections`` (of this video) to ``out``, an MP4 that isn't there yet.

    ``colors``: ``#RRGGBB`` per label. Frames keep their times, also at a variable frame rate, and stand
    upright. Returns what couldn't be kept, in sentences.

    Raises:
        InputError: if the video can't be read, ``out`` exists, doesn't end in ``.mp4``, or can't be written.
    """
    video, out = Path(video), Path(out)
    check_out(out)
    info = probe(video)
    part = out.with_name(f".{out.stem}.{os.getpid()}.part.mp4")
    notes: list[str] = []
    try:
        with _writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            _encode(video, detections, part, colors, info.duration, notes=notes, progress=progress)
            part.replace(out)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return notes


def check_out(out: Path) -> None:
    """Raise InputError unless ``out`` is a new ``.mp4``."""
    if out.suffix.lower() != ".mp4":
        raise InputError("burning in writes MP4", where=out, hint="Give a file name that ends in .mp4.")
    if out.exists():
        raise InputError("is there already", where=out, hint="Give another name, or remove it first.")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "Free some space, check the folder's permissions, or choose another one."
        raise InputError(f"can't be written ({reason})", where=out, hint=hint) from error


def _encode(
    video: Path,
    detections: pd.DataFrame,
    part: Path,
    colors: Mapping[str, str],
    duration: float,
    *,
    notes: list[str],
    progress: Progress | None,
) -> None:
    """Picture by picture, the sound alongside."""
    captions: Captions | None = None
    with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
        stream: VideoStream
        sound = _Sound(video, container, notes)
        total = max(1, round(1000 * duration))
        for seconds, frame in read_frames(video, size=shown_size):
            if captions is None:
                last = detections["end"].max() if len(detections) else 0.0
                captions = Captions(detections, max(duration, last), frame.shape[1], colors)
                stream = _picture_stream(container, frame.shape[1], frame.shape[0] + captions.height)
            sound.copy_until(seconds)
            whole = np.concatenate([frame, captions.draw(seconds)])
            picture = av.VideoFrame.from_ndarray(whole, format="rgb24")
            picture.pts, picture.time_base = round(seconds / CLOCK), CLOCK
            container.mux(stream.encode(picture))
            if progress is not None:
                progress(min(total, round(1000 * seconds)), total, "burning in")
        sound.copy_until(np.inf)
        container.mux(stream.encode())
        sound.close()
    if progress is not None:
        progress(total, total, "burning in")


def shown_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a picture is shown, even in both directions as H.264 needs it."""
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    if width < NARROWEST:
        scale = float(-(-NARROWEST // width)) if width * 2 <= NARROWEST else NARROWEST / width
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _picture_stream(container: OutputContainer, width: int, height: int) -> VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(30), options={"preset": "veryfast", "crf": "21"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = CLOCK
    return stream


class _Sound:
    """The first sound of ``video`` on its way into ``container``, packet by packet up to a picture's time."""

    def __init__(self, video: Path, container: OutputContainer, notes: list[str]):
        self._container, self._notes = container, notes
        self._source = av.open(str(video))
        self._packets: Iterator[tuple[float, av.Packet]] = iter(())
        self._next: tuple[float, av.Packet] | None = None
        if self._source.streams.audio:
            try:
                self._packets = self._start(self._source.streams.audio[0])
                self._next = next(self._packets, None)
            except (av.error.FFmpegError, ValueError) as error:
                self._lose(error)

    def copy_until(self, seconds: float) -> None:
        """Put all sound up to ``seconds`` into the file."""
        while self._next is not None and self._next[0] <= seconds:
            self._container.mux(self._next[1])
            try:
                self._next = next(self._packets, None)
            except (av.error.FFmpegError, ValueError) as error:
                self._lose(error)

    def close(self) -> None:
        self._source.close()

    def _lose(self, error: Exception) -> None:
        self._next = None
        reason = getattr(error, "strerror", None) or error
        self._notes.append(f"The sound is missing from where it can't be read ({reason}).")

    def _start(self, stream: AudioStream) -> Iterator[tuple[float, av.Packet]]:
        begin = (self._source.start_time or 0) / av.time_base
        if stream.codec_context is not None and stream.codec_context.name in COPIED:
            return _copied(self._source, stream, self._container.add_stream_from_template(stream), begin)
        made = self._container.add_stream("aac", rate=stream.rate or 48_000)
        return _made_anew(self._source, stream, made, begin)


def _copied(
    source: InputContainer, stream: AudioStream, target: AudioStream, begin: float
) -> Iterator[tuple[float, av.Packet]]:
    tick = float(stream.time_base or 1)
    shift = round(begin / tick)
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = target
        yield packet.pts * tick, packet


def _made_anew(
    source: InputContainer, stream: AudioStream, target: AudioStream, begin: float
) -> Iterator[tuple[float, av.Packet]]:
    resampler, seconds = av.AudioResampler("fltp", "stereo", target.rate), 0.0
    for frame in source.decode(stream):
        if frame.pts is not None and frame.time_base is not None:
            frame.pts -= round(begin / frame.time_base)
        seconds = frame.time or 0.0
        for part in resampler.resample(frame):
            for packet in target.encode(part):
                yield seconds, packet
    for last in [*resampler.resample(None), None]:
        for packet in target.encode(last):
            yield seconds, packet
