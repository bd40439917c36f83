"""Little films for the tests of this folder."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (96, 128)  # height, width


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """A gray picture of soft blobs, uint8."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 20, 235, cv2.NORM_MINMAX).astype(
        np.uint8
    )


def moving_patch(seconds: float, velocity=(0.0, 0.0), camera=(0.0, 0.0), size=SIZE) -> np.ndarray:
    """RGB frame: a textured patch before a textured ground; velocities (x, y) in frame heights per second."""
    height, width = size
    ground, patch = texture(1, 3 * height, 3 * width), texture(2, height // 3, height // 3)
    shift = np.array(camera) * seconds * height
    matrix = np.float64([[1, 0, width - shift[0]], [0, 1, height - shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frame = cv2.warpAffine(ground, matrix, (width, height), flags=flags)
    x, y = np.array([width / 3, height / 3]) + np.array(velocity) * seconds * height + shift
    onto = np.float64([[1, 0, x], [0, 1, y]])
    cv2.warpAffine(patch, onto, (width, height), dst=frame, borderMode=cv2.BORDER_TRANSPARENT)
    return np.repeat(frame[..., None], 3, axis=2)


def write_film(path: Path, frames, fps=25, times=None) -> Path:
    """Encode RGB frames; ``times`` in seconds for a variable frame rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = frames[0].shape[:2]
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
