"""How fast videos become features on this machine: frames of each stage per second of one core's time.

    python benchmarks/video.py [--seconds 10] [--videos FILE ...]

Without files, H.264 of moving texture is made at three sizes. Stages: decoding alone; decoding and converting
every frame to RGB at full size; only the frames that the built-in extractor wants, at its working size; and
all of that with its features. The time is the processor's, so that other work on the machine hardly matters.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from common import parser_of

from tal_core.video.extractors.extractor import extract_with, make_extractor
from tal_core.video.extractors.motion import SHORTEST_PAIR
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.video.frames import read_frames

SIZES = ((160, 120), (640, 360), (3840, 2160))
FPS = 25
WIDTHS = (10, 10, 12, 11)


def main() -> None:
    """Measure and print a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the videos made")
    parser.add_argument("--videos", type=Path, nargs="*", help="measure these instead")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        videos = options.videos or [make(Path(scratch), *size, options.seconds) for size in SIZES]
        heads = ("decode", "to RGB", "as wanted", "features")
        columns = "".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True))
        print(f"{'frames a second':<20}{columns}{'x real time':>13}")
        for path in videos:
            report(path)


def report(path: Path) -> None:
    """One row."""
    extractor = make_extractor(ExtractorSpec())
    times = [seconds for seconds, _ in read_frames(path, size=lambda *_: (16, 16))]
    stages = (
        lambda: decode(path),
        lambda: use(read_frames(path, threads=1)),
        lambda: use(read_frames(path, threads=1, size=extractor.picture_size, wanted=Sparse())),
        lambda: extract_with(extractor.fresh(), path, threads=1),
    )
    rates = [len(times) / processor_seconds(stage) for stage in stages]
    columns = "".join(f"{rate:>{width}.0f}" for rate, width in zip(rates, WIDTHS, strict=True))
    fps = (len(times) - 1) / (times[-1] - times[0])
    print(f"{path.name:<20}{columns}{rates[-1] / fps:>13.1f}", flush=True)


class Sparse:
    """Wants the frames that the built-in extractor does."""

    def __init__(self):
        self.last = -1.0

    def __call__(self, seconds: float) -> bool:
        wanted = seconds - self.last >= SHORTEST_PAIR
        self.last = seconds if wanted else self.last
        return wanted


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time that ``work`` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def decode(path: Path) -> None:
    """Decode without converting."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        use(container.decode(video=0))


def use(frames) -> None:
    """Take and drop."""
    for _ in frames:
        pass


def make(folder: Path, width: int, height: int, seconds: float) -> Path:
    """Encode a texture that drifts, before which a patch of it moves faster."""
    path = folder / f"{width}x{height}.mp4"
    noise = np.random.default_rng(0).uniform(0, 255, (120, 160)).astype(np.float32)
    soft = cv2.resize(cv2.GaussianBlur(noise, (0, 0), 2), (width * 2, height), interpolation=cv2.INTER_CUBIC)
    ground = cv2.normalize(soft, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    side = height // 3
    settings = {"preset": "veryfast", "crf": "23"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=settings)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(seconds * FPS)):
            shift = round(width * 0.1 * index / FPS) % width
            gray = ground[:, shift : shift + width].copy()
            x = round(width * (0.1 + 0.3 * (index / FPS % 2)))
            gray[side : 2 * side, x : x + side] = ground[:side, :side]
            picture = np.repeat(gray[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
