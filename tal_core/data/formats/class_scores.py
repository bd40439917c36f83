"""Video-level class scores: how likely each class occurs in a video at all, from a classifier elsewhere.

Proposal methods are turned into detectors with them. Read are

    JSON   {"class": [names], "results": {video: [scores]}}      as of the ActivityNet challenge winners
           {video: {class: score}} or {video: [scores]}          with or without "results" around it
    NPZ    arrays video_ids (V,), labels (K,), scores (V, K)
    NPY    (V, 101) UntrimmedNet scores of THUMOS14: row n - 1 is video number n, columns the UCF101 classes

Scores without class names count as being in alphabetical order of the classes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tal_core.data.formats.files import read_json, suffix
from tal_core.data.formats.video_ids import with_or_without_prefix, without_prefix
from tal_core.types import InputError

# Positions (from 1) of THUMOS14's twenty classes among the 101 of UCF101, from the THUMOS14 class list.
THUMOS_CLASSES = {
    7: "BaseballPitch", 9: "BasketballDunk", 12: "Billiards", 21: "CleanAndJerk", 22: "CliffDiving",
    23: "CricketBowling", 24: "CricketShot", 26: "Diving", 31: "FrisbeeCatch", 33: "GolfSwing",
    36: "HammerThrow", 40: "HighJump", 45: "JavelinThrow", 51: "LongJump", 68: "PoleVault", 79: "Shotput",
    85: "SoccerPenalty", 92: "TennisSwing", 93: "ThrowDiscus", 97: "VolleyballSpiking",
}  # fmt: skip
UCF_CLASSES = 101


@dataclass(frozen=True)
class ClassScores:
    """Scores ``(K,)`` float32 by video, in the order of ``labels``."""

    path: Path
    labels: list[str]
    by_video: Mapping[str, np.ndarray]

    def of(self, video_id: str) -> np.ndarray:
        """A video's ``(K,)`` scores; ids with and without the prefix ``v_`` are the same video.

        Raises:
            InputError: if the file has none.
        """
        for name in (video_id, without_prefix(video_id), with_or_without_prefix(video_id)):
            if name in self.by_video:
                return self.by_video[name]
        raise InputError(
            f"has no scores of video {video_id!r}",
            where=self.path,
            hint="Add them, or leave the video out of the subset.",
        )

    def missing(self, videos: Sequence[str]) -> list[str]:
        """Those of ``videos`` that have no scores."""
        scored = set(map(without_prefix, self.by_video))
        return [video for video in videos if without_prefix(video) not in scored]

    def check(self, videos: Sequence[str]) -> None:
        """Raise InputError, with a count, unless every one of ``videos`` has scores."""
        if missing := self.missing(videos):
            raise InputError(
                f"{len(missing)} of {len(videos)} videos have no class scores (first: {missing[0]!r})",
                where=self.path,
                hint="Give a file that covers the subset.",
            )


def read_class_scores(path: Path, labels: Sequence[str]) -> ClassScores:
    """Read video-level scores and bring their columns into the order of ``labels``.

    Raises:
        InputError: for an unknown form, scores that are no finite numbers, a wrong number of them, or class
            names that lack one of ``labels``.
    """
    path = Path(path)
    readers = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy}
    if suffix(path) not in readers:
        raise InputError("unknown file ending", where=path, hint="Use .json, .npz or .npy.")
    names, rows = readers[suffix(path)](path, list(labels))
    if not rows:
        raise InputError("holds no video", where=path, hint="Write one score vector per video.")
    columns = _columns(names, labels, path)
    by_video = {}
    for video, values in rows.items():
        by_video[video] = _vector(values, len(names), f"{path}, video {video}")[columns]
    return ClassScores(path, list(labels), by_video)


def _columns(names: Sequence[str], labels: Sequence[str], path: Path) -> list[int]:
    place = {_plain(name): column for column, name in enumerate(names)}
    missing = [label for label in labels if _plain(label) not in place]
    if missing:
        raise InputError(
            f"{len(missing)} of the dataset's {len(labels)} classes have no score (first: {missing[0]!r})",
            where=path,
            hint=f"The file's classes are {', '.join(list(names)[:5])}, ...",
        )
    return [place[_plain(label)] for label in labels]


def _plain(name: str) -> str:
    """Class names differ between files in case, spaces and underscores only."""
    return re.sub(r"[\s_-]+", "", name).lower()


def _vector(values: Any, length: int, where: str) -> np.ndarray:
    try:
        vector = np.asarray(values, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise InputError("scores are not numbers", where=where, hint="Write one number per class.") from None
    if len(vector) != length:
        hint = "The scores may be of another dataset's classes."
        raise InputError(f"has {len(vector)} scores for {length} classes", where=where, hint=hint)
    if not np.isfinite(vector).all() or (vector < 0).any():
        hint = "Give probabilities: apply a softmax to raw network outputs first."
        raise InputError("has scores that are negative or no finite numbers", where=where, hint=hint)
    return vector


def _read_json(path: Path, labels: list[str]) -> tuple[list[str], dict[str, Any]]:
    content = read_json(path)
    results = content.get("results", content) if isinstance(content, dict) else None
    if not isinstance(results, dict) or not results:
        raise InputError(
            "unknown form", where=path, hint='Write {"class": [...], "results": {video: [...]}}.'
        )
    if all(isinstance(values, dict) for values in results.values()):
        names = list(next(iter(results.values())))
        odd = next((video for video, values in results.items() if set(values) != set(names)), None)
        if odd is not None:
            what = f"video {odd!r} names other classes than the first video"
            raise InputError(what, where=path, hint="Give each video a score for every class.")
        return names, {video: [values[name] for name in names] for video, values in results.items()}
    names = content.get("class", labels) if results is not content else labels
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError('"class" is no list of names', where=path, hint="Write the class names in order.")
    return names, results


def _read_npz(path: Path, labels: list[str]) -> tuple[list[str], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            videos, scores = np.asarray(file["video_ids"]), np.asarray(file["scores"])
            names = list(map(str, np.asarray(file["labels"]))) if "labels" in file else labels
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        what = f"can't be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise InputError(what, where=path, hint="It needs video_ids, labels and scores.") from None
    if scores.ndim != 2 or len(scores) != len(videos):
        what = f"scores have shape {scores.shape} for {len(videos)} videos"
        raise InputError(what, where=path, hint="Write one row per video.")
    return names, {str(video): row for video, row in zip(videos, scores, strict=True)}


def _read_npy(path: Path, _labels: list[str]) -> tuple[list[str], dict[str, Any]]:
    try:
        scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        what = f"can't be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise InputError(what, where=path, hint="Save a plain array of numbers.") from None
    if scores.ndim != 2 or scores.shape[1] != UCF_CLASSES:
        what = f"has shape {scores.shape}, which names neither videos nor classes"
        raise InputError(what, where=path, hint="Write .json or .npz, or THUMOS14's (videos, 101) array.")
    columns = [number - 1 for number in THUMOS_CLASSES]
    rows = {f"video_test_{number:07d}": row[columns] for number, row in enumerate(scores, start=1)}
    return list(THUMOS_CLASSES.values()), rows
