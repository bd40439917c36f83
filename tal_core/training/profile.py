"""What a method costs on this device, measured: size, arithmetic, memory, speed of training and detection.

    python -m tal_core.training.profile     reads dataset, model and settings as JSON, writes the cost as JSON

is the same in a process of its own, whose memory is nobody else's and which can be ended in time.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from tal_core.background.processes import IDLE_THREADS, PROJECT
from tal_core.data.dataset.in_memory import InMemoryDataset
from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.device import choose_device, choose_precision, device_name
from tal_core.models.config import MethodConfig
from tal_core.models.method import Method, Model
from tal_core.models.settings import build_config
from tal_core.postprocessing.candidates import post_process_predictions, suppression
from tal_core.training.loader import to_device
from tal_core.training.optimization import learning_rate
from tal_core.training.steps import Steps, new_state, num_samples
from tal_core.types import InputError, TimeGrid

WARM_UPS, MOST_STEPS, MOST_VIDEOS = 2, 20, 10
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Cost:
    """Measured on ``device``; medians after a warm-up.

    ``gflops_per_minute``: 10^9 floating-point operations (a multiplication and an addition are two) to detect
    in a minute of video, as far as PyTorch knows them. ``memory_mb``: the most that training
    takes on top of the program. ``video_seconds`` and ``video_snippets``: the video that detection, NMS
    included, took ``detection_seconds`` for. ``training_seconds``: estimate of a whole training with its last
    detections, without validations between.
    """

    parameters: int
    gflops_per_minute: float
    memory_mb: float
    batch_size: int
    step_seconds: float
    detection_seconds: float
    video_seconds: float
    video_snippets: int
    steps: int
    training_seconds: float
    device: str
    precision: str

    @property
    def steps_per_second(self) -> float:
        return 1 / self.step_seconds

    @property
    def times_real_time(self) -> float:
        """Seconds of video that detection works through in a second."""
        return self.video_seconds / self.detection_seconds


def typical_dataset(videos: int = 200, snippets: int = 1500) -> FeatureDataset:
    """Random features in the sizes of THUMOS14 with I3D features: 2048 channels, a snippet each 4/30 s.

    All videos share one array and its 15 actions of 4 s, of 20 classes.
    """
    grid, names = TimeGrid(4 / 30, 8 / 30), [f"video {number:03d}" for number in range(videos)]
    features = np.random.default_rng(0).normal(size=(snippets, 2048)).astype(np.float32)
    starts = np.tile(np.linspace(5, snippets * grid.stride - 10, 15), videos)
    labels = [f"class {number % 20:02d}" for number in range(len(starts))]
    segments = pd.DataFrame(
        {"video_id": np.repeat(names, 15), "start": starts, "end": starts + 4.0, "label": labels}
    )
    return InMemoryDataset(dict.fromkeys(names, features), segments, grid, name="typical")


def measure(
    method: Method, config: MethodConfig, dataset: FeatureDataset | None = None, seconds: float = 30.0
) -> Cost:
    """Train a few steps and detect in a video, each for about a third of ``seconds``, at least once.

    Without ``dataset`` on random features in the sizes of THUMOS14. A method of several stages is measured in
    its first.

    Raises:
        InputError: for a device or precision that isn't there.
    """
    data = typical_dataset() if dataset is None else dataset
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    torch.manual_seed(config.seed)
    with peak_memory(device) as memory:
        model = method.build(config, data.num_features, len(data.labels))
        state = new_state(model, config, device, precision)
        steps = Steps(state, config, device, precision, lambda text: print(text, file=sys.stderr))
        batches = method.sampler(model, data, config).epoch(0, torch.Generator().manual_seed(config.seed))
        step_seconds, samples = _time_steps(steps, batches, config, seconds / 3)
    video = _typical_video(data)
    features, grid = torch.as_tensor(np.array(data.features(video))).float().to(device), data.grid(video)
    length = len(features) * grid.stride
    detector = cast(Model, state.detector.eval())
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=uncounted_operations()) as counter:
        detector.candidates(features, grid)
    detection = _time_detection(detector, features, grid, data.labels, config, seconds / 3)
    count = config.epochs * len(batches)
    return Cost(
        parameters=sum(weight.numel() for weight in model.parameters()),
        gflops_per_minute=counter.get_total_flops() / 1e9 / length * 60,
        memory_mb=memory() / MEBIBYTE,
        batch_size=samples,
        step_seconds=step_seconds,
        detection_seconds=detection,
        video_seconds=length,
        video_snippets=len(features),
        steps=count,
        training_seconds=count * step_seconds + len(_evaluated(data)) * detection,
        device=device_name(device),
        precision=str(precision).removeprefix("torch."),
    )


def uncounted_operations() -> dict[Any, Callable[..., int]]:
    """Formulas for what PyTorch runs on a CPU and its counter leaves out: linear layers over sequences."""

    def linear(x_shape: Sequence[int], weight_shape: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * math.prod(x_shape) * weight_shape[0]

    operation = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # None in a PyTorch without oneDNN
    return {} if operation is None else {operation: linear}


def _time_steps(
    steps: Steps, batches: Sequence[Any], config: MethodConfig, seconds: float
) -> tuple[float, int]:
    """Median seconds of a step, reading its batch included, and the samples of a batch."""
    samples = 1

    def step(number: int) -> None:
        nonlocal samples
        place = number % len(batches)
        batch = to_device(batches[place], steps.device)
        samples = max(samples, num_samples(batch))
        steps.take(batch, learning_rate(config, 0, place, len(batches))).values()

    steps.state.model.train()
    return _median_time(step, MOST_STEPS, seconds), samples


def _time_detection(
    detector: Model,
    features: torch.Tensor,
    grid: TimeGrid,
    labels: list[str],
    config: MethodConfig,
    seconds: float,
) -> float:
    """Median seconds from features to detections."""
    settings = suppression(config)

    @torch.no_grad()
    def detect(number: int) -> None:
        del number
        found, _ = detector.candidates(features, grid)
        if len(found) and (found.labels >= 0).all():
            post_process_predictions({"video": found}, labels, settings)

    return _median_time(detect, MOST_VIDEOS, seconds)


def _median_time(work: Callable[[int], None], most: int, seconds: float) -> float:
    """Median duration of ``work(number)`` after a warm-up; at least one, as many as fit into ``seconds``."""
    begun = time.perf_counter()
    for number in range(WARM_UPS):
        work(number)
        if time.perf_counter() - begun > seconds / 2:
            break
    times: list[float] = []
    while not times or (len(times) < most and time.perf_counter() - begun < seconds):
        before = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def _evaluated(data: FeatureDataset) -> list[str]:
    subset = data.evaluation_subset
    return data.videos(subset) if subset in data.subsets else []


def _typical_video(data: FeatureDataset) -> str:
    """The video of median length."""
    videos = _evaluated(data) or data.videos(data.training_subset)
    return videos[np.argsort(data.lengths(videos), kind="stable")[len(videos) // 2]]


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Gives a function that says how many bytes the block took at most; on a CPU sampled while it runs."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    process, done = psutil.Process(), threading.Event()
    _return_freed_memory()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(peak - before, 0)
    finally:
        done.set()
        thread.join()


def _return_freed_memory() -> None:
    """Hand memory that the allocator keeps for reuse back: filling it again would not count as growth."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc alone
    if trim is not None:
        trim(0)


def measure_apart(home: Path, dataset: str, model: str, config: MethodConfig, limit: float = 120.0) -> Cost:
    """``measure`` in a process of its own, ended after ``limit`` seconds.

    Raises:
        InputError: if it takes longer, or what ``measure`` raises.
    """
    question = {
        "home": str(home),
        "dataset": dataset,
        "model": model,
        "settings": config.model_dump(mode="json"),
    }
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "tal_core.training.profile"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=PROJECT,
            env={**IDLE_THREADS, **os.environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = "Lower batch_size, sequence_length or the widths."
        raise InputError(f"one step takes longer than {limit:g} s here", where=model, hint=hint) from None
    lines = answer.stdout.splitlines()
    if answer.returncode == 0 and lines:
        return Cost(**json.loads(lines[-1]))
    if answer.returncode < 0:
        what, hint = f"the measurement was ended by signal {-answer.returncode}", "Memory may be short."
        raise InputError(what, where=model, hint=f"{hint} Lower batch_size or the widths.")
    raise InputError(
        (answer.stderr.strip().splitlines() or ["the measurement failed"])[-1],
        hint="Change the settings and measure again.",
    )


def main() -> int:
    """The process of its own."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.models.registry import get_method

    asked: Mapping[str, Any] = json.loads(sys.stdin.read())
    try:
        dataset = open_dataset(Path(asked["home"]), asked["dataset"])
        cost = measure(get_method(asked["model"]), build_config(asked["model"], asked["settings"]), dataset)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
