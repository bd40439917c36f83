"""A dataset of a second: features are noise, in which each class raises a channel of its own."""

import json
from pathlib import Path

import numpy as np

from tal_core.data.dataset.dataset import Dataset, open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.models.settings import build_config
from tal_core.runs.run import Run, create_run

FAST = {
    "epochs": 2,
    "batch_size": 32,
    "windows_per_epoch": 256,
    "hidden_channels": 16,
    "learning_rate": 0.01,
    "validate_every": 1,
    "device": "cpu",
}
CLASSES = ("jump", "kick", "wave")


def make_dataset(
    home: Path, name="tiny", *, classes=CLASSES, videos=8, snippets=60, annotated=True, channels=5, seed=0
) -> Dataset:
    """Registers ``videos`` videos (a quarter for testing) of ``snippets`` half-second snippets."""
    random = np.random.default_rng(seed)
    folder = home.parent / f"{name}-files"
    (folder / "features").mkdir(parents=True)
    database = {}
    for number in range(videos):
        video = f"v{number:02d}"
        features = random.normal(0, 0.5, (snippets, channels)).astype(np.float32)
        segments = []
        for start in range(4, snippets - 14, 14):
            k, length = int(random.integers(len(classes))), int(random.integers(4, 10))
            features[start : start + length, k] += 3
            segment = [start * 0.5, (start + length) * 0.5]
            segments.append({"segment": segment, "label": classes[k]})
        np.save(folder / "features" / f"{video}.npy", features)
        subset = "testing" if number % 4 == 3 else "training"
        database[video] = {
            "subset": subset,
            "duration": snippets * 0.5,
            "annotations": segments if annotated else [],
        }
        if snippets < 18 and annotated:
            database[video]["annotations"] = [{"segment": [0, snippets * 0.5], "label": classes[0]}]
    if not annotated:  # a dataset needs a class; one video shows it
        database["v00"]["annotations"] = [{"segment": [0, 2.0], "label": classes[0]}]
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    add_dataset(
        home,
        name,
        annotations=folder / "annotations.json",
        features=[folder / "features"],
        snippet_seconds=0.5,
        training_subset="training" if annotated else "",
        evaluation_subset="testing" if annotated else "",
    )
    return open_dataset(home, name)


def make_run(home: Path, dataset="tiny", run_id="run", **settings) -> Run:
    """A run of the baseline that takes well under a second."""
    return create_run(home, dataset, "baseline", build_config("baseline", {**FAST, **settings}), run_id)
