"""What a dataset is like, as tables: per class, per video, classes that come together, feature changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

QUANTILES = {"shortest": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "longest": 1.0}


def per_class(ground_truth: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """One row per class: ``label, instances, videos, total`` (seconds) and the quantiles ``shortest, q1,
    median, q3, longest`` of its segments' durations. Classes without segments have NaN there."""
    table = ground_truth.assign(duration=ground_truth["end"] - ground_truth["start"])
    groups = table.groupby("label")["duration"]
    counts = pd.DataFrame(
        {
            "instances": groups.size(),
            "videos": table.groupby("label")["video_id"].nunique(),
            "total": groups.sum(),
        }
    )
    for name, share in QUANTILES.items():
        counts[name] = groups.quantile(share) if len(table) else np.nan
    result = counts.reindex(pd.Index(labels, name="label"))
    zeros = {"instances": 0, "videos": 0, "total": 0.0}
    return result.fillna(zeros).astype({"instances": int, "videos": int}).reset_index()


def per_video(ground_truth: pd.DataFrame, durations: pd.Series) -> pd.DataFrame:
    """One row per video of ``durations`` (seconds, indexed by video_id): ``video_id, duration, instances,
    classes, coverage``.

    ``coverage`` is the share of the video under at least one segment, 0 to 1; NaN where the duration is
    unknown. Segments beyond the stated end count up to it.
    """
    groups = ground_truth.groupby("video_id")
    table = pd.DataFrame({"duration": durations.astype("float64")})
    table.index.name = "video_id"
    table["instances"] = groups.size().reindex(table.index, fill_value=0)
    table["classes"] = groups["label"].nunique().reindex(table.index, fill_value=0)
    covered = covered_seconds(ground_truth, durations).reindex(table.index, fill_value=0.0)
    table["coverage"] = covered / table["duration"].where(table["duration"] > 0)
    return table.reset_index()


def main_classes(ground_truth: pd.DataFrame) -> pd.Series:
    """The class that most of a video's annotated seconds belong to, by video_id."""
    seconds = ground_truth.assign(seconds=ground_truth["end"] - ground_truth["start"])
    totals = seconds.groupby(["video_id", "label"])["seconds"].sum().reset_index()
    order = totals.sort_values(["video_id", "seconds"], ascending=[True, False], kind="stable")
    return order.drop_duplicates("video_id").set_index("video_id")["label"]


def covered_seconds(ground_truth: pd.DataFrame, durations: pd.Series) -> pd.Series:
    """Seconds of each video under at least one segment, without counting an overlap twice."""
    table = ground_truth[["video_id", "start", "end"]].sort_values(["video_id", "start"], kind="stable")
    limit = table["video_id"].map(durations).astype("float64").fillna(np.inf)
    start, end = table["start"].clip(upper=limit), table["end"].clip(upper=limit)
    # What earlier segments of the video reached already.
    reached = end.groupby(table["video_id"]).cummax().groupby(table["video_id"]).shift(fill_value=0.0)
    new = (end - start.clip(lower=reached)).clip(lower=0.0)
    return new.groupby(table["video_id"]).sum()


def co_occurrence(ground_truth: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """``(K, K)`` table: of the videos with the row's class, the share that also has the column's class.

    The diagonal is 1 for every class that occurs.
    """
    videos, names = pd.factorize(ground_truth["video_id"])
    classes = pd.Index(labels).get_indexer(pd.Index(ground_truth["label"]))
    present = np.zeros((len(names), len(labels)), np.float32)
    present[videos[classes >= 0], classes[classes >= 0]] = 1
    together = present.T @ present
    share = together / np.maximum(np.diag(together), 1)[:, None]
    return pd.DataFrame(share, index=list(labels), columns=list(labels))


def change_scores(features: np.ndarray, window: int = 4) -> np.ndarray:
    """How much ``(T, D)`` features differ before and after each snippet, ``(T,)``, 0 at the ends.

    The distance between the means of the ``window`` snippets before and the ``window`` from here on, of
    features standardised over the video.
    """
    features = np.asarray(features, np.float32)
    length = len(features)
    window = min(window, length // 2)
    scores = np.zeros(length, np.float32)
    if window == 0:
        return scores
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    sums = np.concatenate([np.zeros((1, features.shape[1])), np.cumsum(standard, axis=0, dtype=np.float64)])
    middle = np.arange(window, length - window + 1)
    before = sums[middle] - sums[middle - window]
    after = sums[middle + window] - sums[middle]
    distances = np.linalg.norm((after - before) / window, axis=1) / np.sqrt(features.shape[1])
    scores[middle[middle < length]] = distances[middle < length]
    return scores


def change_points(scores: np.ndarray, most: int = 40, apart: int = 4) -> np.ndarray:
    """Snippets where ``change_scores`` peaks: local maxima above mean + one deviation, strongest first
    wins within ``apart`` snippets; in order of time."""
    threshold = scores.mean() + scores.std() if len(scores) else 0.0
    inner = (scores[1:-1] > scores[:-2]) & (scores[1:-1] >= scores[2:]) & (scores[1:-1] > threshold)
    peaks = np.flatnonzero(inner) + 1
    chosen: list[int] = []
    for peak in peaks[np.argsort(-scores[peaks], kind="stable")]:
        if all(abs(peak - other) >= apart for other in chosen):
            chosen.append(int(peak))
        if len(chosen) == most:
            break
    return np.array(sorted(chosen), np.int64)
