"""Small datasets written to disk for the tests of this folder."""

import json
from pathlib import Path

import numpy as np

DIMENSION = 6


def write_annotations(path: Path, database: dict, **fields) -> Path:
    path.write_text(json.dumps({"version": "test", **fields, "database": database}))
    return path


def video(subset="training", duration=20.0, *segments, **fields):
    """An entry of ``database``; segments are ``(start, end, label)``."""
    annotations = [{"segment": [start, end], "label": label} for start, end, label in segments]
    return {"subset": subset, "duration": duration, **fields, "annotations": annotations}


def four_videos() -> dict:
    """Two training and two testing videos of 20, 24, 30 and 16 s with two classes."""
    return {
        "a": video("training", 20.0, (1, 3, "jump"), (5, 9.5, "run")),
        "b": video("training", 24.0, (2, 4, "run")),
        "c": video("testing", 30.0, (10, 12, "jump")),
        "d": video("testing", 16.0, (0, 2, "run"), (3, 4, "jump")),
    }


def arrays_for(database: dict, step=0.5, seed=0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=(round(entry["duration"] / step), DIMENSION)).astype(np.float32)
        for name, entry in database.items()
    }


def write_features(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder
