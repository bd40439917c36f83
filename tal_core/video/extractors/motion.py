"""The built-in extractor "motion": optical-flow and gradient orientations around whatever moves.

No learned weights. Each pair of frames gives one descriptor; a snippet is the mean of the descriptors over
its window, weighted by the time they cover, so that the frame rate hardly matters. Everything is causal:
a live stream and a file give the same features.

Histograms of oriented gradients: Dalal and Triggs, CVPR 2005; of optical flow: Laptev et al., CVPR 2008.
Flow: DIS, Kroeger et al., ECCV 2016.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from tal_core.types import TimeGrid

STRIDE = 0.2  # seconds between snippet centres
WINDOW = 0.4  # seconds covered by one snippet
GRID = TimeGrid(stride=STRIDE, offset=STRIDE / 2)

PIXELS = 160 * 120  # working size: frames are scaled to about this area, keeping their shape
SHORTEST_PAIR = 0.048  # seconds; frames that follow sooner are skipped (25 fps works at 12.5, 20 at 20)
LONGEST_PAIR = 1.0  # seconds; across a longer gap no motion is measured
STILL = 0.06  # frame heights per second; slower pixels count as still
SPREAD = 1.6  # half side of the moving region, in standard deviations of the motion
MEMORY = 2.5  # seconds; how long the moving region is remembered
CELLS = 4  # histograms are taken on CELLS x CELLS cells of the moving region
BINS = 8  # orientations per histogram
FLOW_CROP, GRADIENT_CROP = 40, 64  # pixels a side of the resampled moving region

_FLOW_ANGLES = np.arange(BINS, dtype=np.float32) * (360 / BINS)
_EDGE_ANGLES = np.arange(BINS, dtype=np.float32) * (180 / BINS)
_FLOW_SIZE = CELLS * CELLS * (BINS + 1)
_EDGE_SIZE = CELLS * CELLS * BINS
_STATISTICS = 16
_MEANS = _FLOW_SIZE + _EDGE_SIZE + (BINS + 1) + _STATISTICS
NUM_FEATURES = _MEANS + BINS + 1  # the means, and how much the global flow histogram varies


def stream_features(frames: Iterable[tuple[float, np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield one feature vector (D,) per snippet from ``(seconds, frame)`` pairs."""
    extractor = MotionExtractor()
    for seconds, frame in frames:
        yield from extractor.push(seconds, frame)
    yield from extractor.finish()


class MotionExtractor:
    """Turns frames into snippet features as they come.

    ``push`` returns the snippets that a frame completes: snippet ``i`` is centred at ``grid.seconds(i)``
    and known half a ``window`` later. ``finish`` returns those that the end of the video cuts short.
    """

    num_features = NUM_FEATURES

    def __init__(self, stride: float = STRIDE, window: float = WINDOW):
        self.grid = TimeGrid(stride=stride, offset=stride / 2)
        self.window = window
        self.delay = window / 2
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_FAST)
        self._flow.setFinestScale(1)
        self._time: float | None = None
        self._gray: np.ndarray | None = None
        self._energy: np.ndarray | None = None
        self._recent: deque[tuple[float, float, np.ndarray]] = deque()
        self._next = 0

    def fresh(self) -> MotionExtractor:
        """One of the same settings for another video."""
        return MotionExtractor(self.grid.stride, self.window)

    def wants(self, seconds: float) -> bool:
        """Whether a frame at ``seconds`` comes long enough after the last one to be used."""
        return self._time is None or seconds - self._time >= SHORTEST_PAIR

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        """The working size for frames that are larger; smaller ones are taken as they are."""
        size = working_size(width, height)
        return size if size[0] <= width and size[1] <= height else (width, height)

    def push(self, seconds: float, frame: np.ndarray) -> list[np.ndarray]:
        """Add a frame, (H, W, 3) uint8 RGB at ``seconds``, and return finished snippets, each (D,).

        The video starts at second 0. Frames of another size than before start the picture anew.

        Raises:
            ValueError: if ``seconds`` is not after the frame before.
        """
        if self._time is not None and seconds <= self._time:
            raise ValueError(f"frame at {seconds} s follows one at {self._time} s")
        if not self.wants(seconds):
            return []
        gray = shrink(frame)
        if self._time is not None:
            self._recent.append((self._time, seconds, self._describe(gray, seconds - self._time)))
        self._time, self._gray = seconds, gray
        return self._emit(seconds - self.window / 2)

    def finish(self) -> list[np.ndarray]:
        """Return the snippets whose centre has been seen but not their whole window."""
        return [] if self._time is None else self._emit(self._time)

    def _emit(self, last_centre: float) -> list[np.ndarray]:
        """Snippets up to the one centred at ``last_centre``."""
        finished = []
        while self._recent and self.grid.seconds(self._next) <= last_centre + 1e-9:
            start = self.grid.seconds(self._next) - self.window / 2
            while len(self._recent) > 1 and self._recent[0][1] <= start:
                self._recent.popleft()
            finished.append(pool(self._recent, start, self.grid.seconds(self._next) + self.window / 2))
            self._next += 1
        return finished

    def _describe(self, gray: np.ndarray, elapsed: float) -> np.ndarray:
        """Descriptor of the time between the last frame and this one, (_MEANS,)."""
        before = self._gray
        if before is not None and (before.shape != gray.shape or elapsed > LONGEST_PAIR):
            before = None
        if before is None or self._energy is None:
            self._energy = np.zeros((30, 30), np.float32)
        flow: np.ndarray
        if before is not None:
            flow = self._flow.calc(before, gray, None)  # type: ignore[call-overload]  # the stub asks for a flow
            flow /= elapsed * gray.shape[0]
        else:
            flow = np.zeros((*gray.shape, 2), np.float32)
        camera = np.median(flow[::4, ::4].reshape(-1, 2), axis=0)
        flow -= camera
        speed = cv2.magnitude(flow[..., 0], flow[..., 1])
        self._energy *= np.float32(np.exp(-elapsed / MEMORY))
        moving = np.clip(speed - STILL, 0, 2)
        self._energy += elapsed * cv2.resize(moving, (30, 30), interpolation=cv2.INTER_AREA)
        region = moving_region(self._energy, aspect=gray.shape[1] / gray.shape[0])
        return describe_pair(gray, flow, camera, region)


def shrink(frame: np.ndarray) -> np.ndarray:
    """Gray picture of the working size from an RGB frame."""
    height, width = frame.shape[:2]
    size = working_size(width, height)
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    if size == (width, height):
        return gray
    smaller = width * height > PIXELS
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def working_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of about ``PIXELS`` pixels in the same shape, sides multiples of 8 and at least 32."""
    scale = (PIXELS / (height * width)) ** 0.5
    return max(32, 8 * round(width * scale / 8)), max(32, 8 * round(height * scale / 8))


def moving_region(energy: np.ndarray, aspect: float) -> tuple[float, float, float]:
    """Centre (x, y) and half side, in frame heights, of the square around the remembered motion.

    A little motion spread over the whole frame is assumed, so that a still video gives the whole frame.
    """
    rows, columns = energy.shape
    mass = energy.astype(np.float64)
    total = mass.sum() + 1e-2
    x = (np.arange(columns) + 0.5) / columns * aspect
    y = (np.arange(rows) + 0.5) / rows
    prior = 1e-2 / total
    across, down = mass.sum(axis=0) / total, mass.sum(axis=1) / total
    centre_x = across @ x + prior * aspect / 2
    centre_y = down @ y + prior / 2
    spread = across @ (x - centre_x) ** 2 + down @ (y - centre_y) ** 2 + prior * (1 + aspect**2) / 12
    return centre_x, centre_y, float(np.clip(SPREAD * spread**0.5, 0.15, 0.6))


def describe_pair(
    gray: np.ndarray, flow: np.ndarray, camera: np.ndarray, region: tuple[float, float, float]
) -> np.ndarray:
    """Histograms and statistics of one pair of frames, (_MEANS,) float32.

    ``gray`` (H, W) is the later frame, ``flow`` (H, W, 2) in frame heights per second with the motion
    of the ``camera`` (2,) taken out, ``region`` as ``moving_region`` gives it.
    """
    height, width = gray.shape
    flow_crop = _crop(flow, region, FLOW_CROP)
    cells, overall = flow_histograms(flow_crop)
    edges = gradient_histograms(_crop(gray, region, GRADIENT_CROP))
    x, y, half = region
    vx, vy = flow_crop[..., 0], flow_crop[..., 1]
    speed = cv2.magnitude(vx, vy)
    step = 2 * half / FLOW_CROP
    divergence = (np.diff(vx, axis=1).mean() + np.diff(vy, axis=0).mean()) / step
    curl = (np.diff(vy, axis=1).mean() - np.diff(vx, axis=0).mean()) / step
    third = FLOW_CROP // 3
    statistics = np.array(
        [
            *camera, x * height / width, y, half,
            vx.mean() * 10, vy.mean() * 10, speed.mean() * 4, speed.std(), np.sqrt(speed.max()),
            divergence, curl,
            vy[:third].mean() * 10, vy[-third:].mean() * 10,
            vx[:, :third].mean() * 10, vx[:, -third:].mean() * 10,
        ],
        dtype=np.float32,
    )  # fmt: skip
    return np.concatenate([cells, edges, overall, statistics])


def flow_histograms(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orientation histograms of a flow field (S, S, 2): per cell (CELLS * CELLS * (BINS + 1),) and overall.

    Speeds are shared between the two nearest orientations; the last bin is the share of still pixels.
    Square roots keep fast motion from drowning slow motion.
    """
    speed, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1], angleInDegrees=True)
    moving = speed > STILL
    votes = np.empty((*speed.shape, BINS + 1), np.float32)
    votes[..., :BINS] = _share(angle, _FLOW_ANGLES, 360) * np.where(moving, speed, 0)[..., None]
    votes[..., BINS] = ~moving
    cells = _per_cell(votes)
    return np.sqrt(cells).ravel(), np.sqrt(cells.mean(axis=(0, 1)))


def gradient_histograms(gray: np.ndarray) -> np.ndarray:
    """Root-normalised histograms of gradient orientation, (CELLS * CELLS * BINS,), of (S, S) gray pixels."""
    smooth = cv2.GaussianBlur(gray, (3, 3), 0)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(gx, gy, angleInDegrees=True)
    cells = _per_cell(_share(np.mod(angle, 180), _EDGE_ANGLES, 180) * strength[..., None])
    return np.sqrt(cells / (cells.mean() * BINS + 8.0)).ravel()


def pool(pairs: Iterable[tuple[float, float, np.ndarray]], start: float, end: float) -> np.ndarray:
    """Feature (D,) of the window ``start``..``end`` from ``(from, to, descriptor)`` of consecutive pairs.

    A pair weighs as much as it overlaps the window; if none does, the last one stands in.
    """
    pairs = list(pairs)
    weights = np.array([max(0.0, min(end, b) - max(start, a)) for a, b, _ in pairs])
    if not weights.any():
        weights[-1] = 1.0
    weights /= weights.sum()
    descriptors = np.stack([d for _, _, d in pairs])
    mean = weights @ descriptors
    overall = slice(_FLOW_SIZE + _EDGE_SIZE, _FLOW_SIZE + _EDGE_SIZE + BINS + 1)
    deviation = np.sqrt(weights @ (descriptors[:, overall] - mean[overall]) ** 2)
    return np.concatenate([mean, deviation]).astype(np.float32)


def _crop(picture: np.ndarray, region: tuple[float, float, float], size: int) -> np.ndarray:
    """The square ``region`` of ``picture`` resampled to (size, size); outside the frame its edge goes on."""
    height = picture.shape[0]
    x, y, half = (value * height for value in region)
    step = 2 * half / size
    matrix = np.array([[step, 0, x - half + (step - 1) / 2], [0, step, y - half + (step - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _share(angle: np.ndarray, centres: np.ndarray, circle: float) -> np.ndarray:
    """Share of each angle (S, S) in each bin, (S, S, bins): linear between the two nearest centres."""
    width = circle / len(centres)
    distance = np.abs(angle[..., None] - centres)
    distance = np.minimum(distance, circle - distance)
    return np.maximum(0, 1 - distance / width)


def _per_cell(votes: np.ndarray) -> np.ndarray:
    """Means of (S, S, bins) over CELLS x CELLS cells, (CELLS, CELLS, bins)."""
    size, bins = votes.shape[0] // CELLS, votes.shape[2]
    return votes.reshape(CELLS, size, CELLS, size, bins).mean(axis=(1, 3))
