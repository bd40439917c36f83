"""Reads the golden files into tables, independent of the project's own readers."""

import gzip
import json

import pandas as pd

from tests.paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "evaluation"


def load(name):
    path = GOLDEN / name
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_text())


def ground_truth_table(content, subset):
    """Annotations of a subset in file order, and the subset's videos."""
    videos = {v: entry for v, entry in content["database"].items() if entry["subset"] == subset}
    rows = [
        (video, *map(float, a["segment"]), a["label"])
        for video, entry in videos.items()
        for a in entry["annotations"]
    ]
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "label"]), list(videos)


def detection_table(content):
    """Every prediction of the file, in file order."""
    rows = [
        (video, *map(float, d["segment"]), d["label"], float(d["score"]))
        for video, entries in content["results"].items()
        for d in entries
    ]
    return pd.DataFrame(rows, columns=["video_id", "start", "end", "label", "score"])
