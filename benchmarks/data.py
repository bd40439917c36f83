"""Times a dataset of ActivityNet's size beside a tenth of it: index, opening, Explore, windows, training.

    python benchmarks/data.py --annotations activity_net.json [--video-info video_info.csv]

Makes 19 994 videos in a temporary folder whose snippets, durations and segments are drawn from the given
file: a snippet every 16 frames, 512 channels of float16, one .npy each. Files are sparse (all zeros), but as
long as real ones. Every figure comes from a process of its own that did nothing else; imports are not
counted. "Cold" means without an index; the files themselves may still be in the system's memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser_of, timed

from tal_core.data.dataset import health
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.exploring import statistics
from tal_core.data.formats.annotations import read_annotations, write_annotations
from tal_core.plots import explore as plots
from tal_core.plots.colors import class_colors
from tal_core.types import Annotations

CHANNELS, STRIDE, FPS, WINDOW, NAME = 512, 16, 25.0, 100, "large"
LIMITS = {
    "index, cold": (60, "s", False),
    "index, a hundred files changed": (None, "s", False),
    "open, warm": (1, "s", False),
    "numbers of Explore, warm": (1, "s", False),
    "index, cold: memory": (600, "MB", False),
    "open, warm: memory": (600, "MB", False),
    "random windows: memory": (600, "MB", False),
    "first batch: memory": (600, "MB", False),
    "random windows of 100": (2000, "/s", True),
    "open to first batch": (None, "s", False),
    "clips of 256 snippets, from disk": (None, "/s", True),
    "clips of 256 snippets, in memory": (None, "/s", True),
}
"""Unit and limit of each row, and whether more is better."""


def main() -> None:
    """Print the table; with ``--measure`` one figure, as JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--annotations", type=Path, help="ActivityNet's annotation file")
    parser.add_argument("--video-info", type=Path, help="CSV with the subsets, if the file lacks them")
    parser.add_argument("--videos", type=int, nargs="+", default=[2000, 19994])
    parser.add_argument("--folder", type=Path, help="where to make the datasets (default: temporary)")
    parser.add_argument("--repeats", type=int, default=3, help="processes per figure, of which the least")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        seconds = MEASURES[options.measure](options.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        print(json.dumps({"value": seconds, "memory": peak}))
        return
    if options.annotations is None:
        parser.error("--annotations is needed")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        columns = {}
        for number in options.videos:
            place = Path(folder) / str(number)
            size = make_dataset(place, options.annotations, options.video_info, number)
            print(f"{number} videos, {size / 1e9:.2f} GB of features", flush=True)
            columns[number] = measure(place, options.repeats)
        print_table(columns)
        between, background = small_training(Path(folder) / "demo")
        print("\nA training step on the demo, baseline: ", end="")
        print(f"{between:.2f} ms, batches made between steps; {background:.2f} ms, made in the background")


def make_dataset(folder: Path, annotations: Path, video_info: Path | None, number: int) -> int:
    """Annotations and sparse features of ``number`` videos drawn from the real ones; bytes of features."""
    real = read_annotations(annotations, video_info)
    random = np.random.default_rng(0)
    order = np.concatenate(
        [random.permutation(len(real.videos)) for _ in range(-(-number // len(real.videos)))]
    )
    videos = real.videos.iloc[order[:number]].reset_index(drop=True)
    videos["fps"] = videos["fps"].fillna(FPS)
    new_ids = pd.Series([f"v_{k:011d}" for k in range(number)], dtype="str")
    of = pd.DataFrame({"video_id": videos["video_id"], "new": new_ids})
    truth = real.ground_truth.merge(of, on="video_id").drop(columns="video_id")
    truth = truth.rename(columns={"new": "video_id"})[["video_id", "start", "end", "label"]]
    videos["video_id"] = new_ids
    (folder / "features").mkdir(parents=True)
    write_annotations(Annotations(truth, videos), folder / "annotations.json")
    lengths = np.maximum(1, (videos["duration"] * videos["fps"] / STRIDE).round().astype(int))
    for video, length in zip(videos["video_id"], lengths, strict=True):
        write_sparse(folder / "features" / f"{video}.npy", (int(length), CHANNELS))
    return int(lengths.sum()) * CHANNELS * 2


def write_sparse(path: Path, shape: tuple[int, int]) -> None:
    """An .npy file of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2 * shape[0] * shape[1])


# --- what is measured, each in a process of its own -----------------------------------------------------


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    return timed(function)[1]


def cold_index(folder: Path) -> float:
    """Seconds to register the dataset in an empty workspace."""
    for file in (folder / "home").rglob("*"):
        if file.is_file():
            file.unlink()
    return seconds_of(
        lambda: add_dataset(
            folder / "home",
            NAME,
            annotations=folder / "annotations.json",
            features=folder / "features",
            stride=STRIDE,
        )
    )


def changed_index(folder: Path) -> float:
    """Seconds to open it after a hundred files changed."""
    for path in sorted((folder / "features").iterdir())[:100]:
        os.utime(path)
    return seconds_of(lambda: open_dataset(folder / "home", NAME))


def warm_open(folder: Path) -> float:
    """Seconds to open what is indexed already."""
    return seconds_of(lambda: open_dataset(folder / "home", NAME))


def explore_numbers(folder: Path) -> float:
    """Seconds for the tables and figures that Explore shows at first, the dataset being open."""
    data = open_dataset(folder / "home", NAME)

    def draw() -> None:
        truth = data.ground_truth()
        durations = data.index.set_index("video_id")["duration"]
        classes, videos = statistics.per_class(truth, data.labels), statistics.per_video(truth, durations)
        colors = class_colors(data.labels)
        plots.class_distribution(classes, colors)
        plots.duration_histogram(truth)
        plots.instances_histogram(videos)
        plots.duration_by_class(classes, colors)
        plots.coverage_histogram(videos)
        plots.co_occurrence_map(statistics.co_occurrence(truth, data.labels), classes)
        health.summary(data)
        health.health_report(data)

    return seconds_of(draw)


def random_windows(folder: Path) -> float:
    """Windows of 100 snippets a second, from random places of random videos."""
    data = open_dataset(folder / "home", NAME)
    random = np.random.default_rng(0)
    lengths = dict(zip(data.index["video_id"], data.index["length"], strict=True))
    videos = random.permutation([video for video in data.videos() if lengths[video] > WINDOW])[:4000].tolist()
    places = [(video, int(random.integers(lengths[video] - WINDOW))) for video in videos]

    def read() -> None:
        for video, start in places:
            data.features(video, start, start + WINDOW)

    read()
    return len(places) / seconds_of(read)


def first_batch(folder: Path) -> float:
    """Seconds from opening the dataset to the first training batch of 16 clips of 256 snippets."""
    import torch  # two seconds that other figures don't need

    from tal_core.models.shared.clips import ClipSampler

    def batch() -> None:
        data = open_dataset(folder / "home", NAME)
        sampler = ClipSampler(data, 16, 256)
        _ = sampler.epoch(0, torch.Generator().manual_seed(0))[0]

    return seconds_of(batch)


def clips(folder: Path, keep: str) -> float:
    """Training clips a second in batches of 16, all videos having been read before."""
    import torch

    from tal_core.models.shared.clips import ClipSampler
    from tal_core.training.loader import prepared

    data = open_dataset(folder / "home", NAME)
    sampler = ClipSampler(data, 16, 256, keep=keep)

    def epoch() -> None:
        batches = sampler.epoch(0, torch.Generator().manual_seed(0))
        for _ in zip(range(100), prepared(batches, 0, torch.device("cpu")), strict=False):
            pass

    epoch()
    return 1600 / seconds_of(epoch)


def small_training(folder: Path) -> tuple[float, float]:
    """Milliseconds of a training step on the demo, batches made between steps and in the background."""
    import torch

    from tal_core.models.registry import get_method
    from tal_core.training.loader import prepared
    from tal_core.training.steps import Steps, new_state

    data, method, device = open_dataset(folder, "demo"), get_method("baseline"), torch.device("cpu")
    config = method.config()
    network = method.build(config, data.num_features, len(data.labels))
    steps = Steps(new_state(network, config, device, torch.float32), config, device, torch.float32, print)
    sampler = method.sampler(network, data, config)
    seconds: dict[str, list[float]] = {"between": [], "background": []}
    for seed in range(4):
        batches = sampler.epoch(0, torch.Generator().manual_seed(seed))
        ways = {
            "between": map(batches.__getitem__, range(len(batches))),
            "background": prepared(batches, 0, device),
        }
        for name, ready in ways.items():
            spent = seconds_of(lambda ready=ready: [steps.take(batch, 1e-4).values() for batch in ready])
            seconds[name].append(1000 * spent / len(batches))
    return min(seconds["between"]), min(seconds["background"])


MEASURES = {
    "cold_index": cold_index,
    "changed_index": changed_index,
    "warm_open": warm_open,
    "explore_numbers": explore_numbers,
    "random_windows": random_windows,
    "first_batch": first_batch,
    "clips_disk": lambda folder: clips(folder, "disk"),
    "clips_memory": lambda folder: clips(folder, "memory"),
}


def measure(folder: Path, repeats: int) -> dict[str, float]:
    """All rows of one dataset."""
    found = {name: [in_process(name, folder) for _ in range(repeats)] for name in MEASURES}
    best = {name: min(result["value"] for result in results) for name, results in found.items()}
    most = {name: max(result["memory"] for result in results) for name, results in found.items()}
    return {
        "index, cold": best["cold_index"],
        "index, cold: memory": most["cold_index"],
        "index, a hundred files changed": best["changed_index"],
        "open, warm": best["warm_open"],
        "open, warm: memory": most["warm_open"],
        "numbers of Explore, warm": best["explore_numbers"],
        "random windows of 100": max(result["value"] for result in found["random_windows"]),
        "random windows: memory": most["random_windows"],
        "open to first batch": best["first_batch"],
        "first batch: memory": most["first_batch"],
        "clips of 256 snippets, from disk": max(result["value"] for result in found["clips_disk"]),
        "clips of 256 snippets, in memory": max(result["value"] for result in found["clips_memory"]),
    }


def in_process(name: str, folder: Path) -> dict[str, float]:
    """One measure in a new process."""
    command = [sys.executable, __file__, "--measure", name, "--folder", str(folder)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def print_table(columns: dict[int, dict[str, float]]) -> None:
    """The rows side by side, how they grow, and whether the limits are met at the largest size."""
    sizes = sorted(columns)
    heads = "".join(f"{f'{size:,} videos':>18s}" for size in sizes)
    print(f"\n{'':34s}{heads}{'grows':>9s}{'limit':>18s}")
    for name in columns[sizes[0]]:
        limit, unit, more = LIMITS[name]
        values = [columns[size][name] for size in sizes]
        cells = "".join(
            f"{f'{value:,.3g} {unit}' if value < 1000 else f'{value:,.0f} {unit}':>18s}" for value in values
        )
        growth = "".join(f"{f'x{after / before:.1f}':>9s}" for before, after in pairwise(values))
        met = ""
        if limit is not None:
            good = values[-1] >= limit if more else values[-1] <= limit
            met = f" {limit:g} {unit} {'met' if good else 'MISSED'}"
        print(f"{name:34s}{cells}{growth}{met:>18s}", flush=True)


if __name__ == "__main__":
    main()
