"""Which videos train and which evaluate: the file's own subsets, or a seeded stratified split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tal_core.data.benchmarks.presets import find_preset
from tal_core.data.dataset.entry import DatasetEntry, Split
from tal_core.types import Annotations, InputError

_TRAINING = ("training", "train", "trainval")
_TRAINING_CUSTOM = (*_TRAINING, "validation", "val")  # THUMOS14 trains on validation
_EVALUATION = ("testing", "test", "validation", "val", "valid")


def stratified_split(video_ids: Sequence[str], truth: pd.DataFrame, fraction: float, seed: int) -> list[str]:
    """Choose about ``fraction`` of the videos such that every class keeps about that share of its instances.

    Iterative stratification (Sechidis et al., 2011): class by class, rarest first, each video goes to the
    part that is furthest from its share of the class. Returns the chosen videos in the given order.
    """
    order = np.random.default_rng(seed).permutation(len(video_ids))
    counts = class_counts(video_ids, truth)
    shares = np.array([1 - fraction, fraction])
    left = counts.sum(axis=0)  # (K,) instances in videos without a part
    wanted = left[:, None] * shares  # (K, 2) instances still to go to each part
    room = len(video_ids) * shares  # (2,) videos still to go to each part
    part = np.full(len(video_ids), -1)

    def place(video: int, need: np.ndarray) -> None:
        choice = int(need[1] > need[0] or (need[1] == need[0] and room[1] > room[0]))
        part[video] = choice
        wanted[:, choice] -= counts[video]
        room[choice] -= 1

    while (left > 0).any():
        rarest = int(np.argmin(np.where(left > 0, left, left.max() + 1)))
        videos = order[(part[order] < 0) & (counts[order, rarest] > 0)]
        for video in videos:
            place(video, wanted[rarest])
        left = left - counts[videos].sum(axis=0)
    for video in order[part[order] < 0]:
        place(video, room)
    return [video_id for video_id, choice in zip(video_ids, part, strict=True) if choice == 1]


def class_counts(video_ids: Sequence[str], truth: pd.DataFrame) -> np.ndarray:
    """Instances per video and class (V, K), classes in alphabetical order."""
    rows = pd.Index(video_ids).get_indexer(pd.Index(truth["video_id"]))
    labels, columns = np.unique(truth["label"].to_numpy(dtype=str), return_inverse=True)
    counts = np.zeros((len(video_ids), len(labels)), np.int64)
    np.add.at(counts, (rows[rows >= 0], columns[rows >= 0]), 1)
    return counts


def subset_names(videos: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    """Subsets that have annotated videos, in order of appearance."""
    annotated = videos["video_id"].isin(truth["video_id"]) & (videos["subset"] != "")
    return list(dict.fromkeys(videos.loc[annotated, "subset"]))


def evaluation_subset(annotations: Annotations) -> str:
    """The subset that an annotation file is meant to evaluate; ``""`` if it names no subsets at all.

    Raises:
        InputError: if its names are unusual, so that it can't be told.
    """
    names = subset_names(annotations.videos, annotations.ground_truth)
    if len(names) < 2:
        return names[0] if names else ""
    by_lower = {name.lower(): name for name in names}
    training = _first(_TRAINING_CUSTOM, by_lower, "")
    subset = _first(_EVALUATION, by_lower, training)
    if not subset:
        raise InputError(f"which of the subsets {', '.join(names)} is meant?", hint="Give --subset.")
    return subset


def in_subset(annotations: Annotations, subset: str, where: object = None) -> tuple[pd.DataFrame, list[str]]:
    """Ground truth and video ids of a subset (case doesn't matter); of all videos for ``""``.

    Raises:
        InputError: if no annotated video is in it. ``where`` is the file to name.
    """
    videos, truth = annotations.videos, annotations.ground_truth
    if not subset:
        return truth, videos["video_id"].tolist()
    chosen = videos.loc[videos["subset"].str.lower() == subset.lower(), "video_id"]
    truth = truth[truth["video_id"].isin(chosen)].reset_index(drop=True)
    if truth.empty:
        names = ", ".join(subset_names(videos, annotations.ground_truth)) or "none"
        raise InputError(
            f"no annotated videos in the subset {subset!r}",
            where=where,
            hint=f"Subsets with annotations: {names}.",
        )
    return truth, chosen.tolist()


def choose_subsets(entry: DatasetEntry, videos: pd.DataFrame, truth: pd.DataFrame) -> dict[str, object]:
    """Fields of the entry that say what trains and what evaluates, as far as they are left open.

    A benchmark's are those that its files usually have. Otherwise training is the subset named training or
    train, or else validation (the THUMOS14 custom), and evaluation the testing or else validation subset
    that has annotations and isn't the training one. With fewer than two annotated subsets the annotated
    videos are split.

    Raises:
        InputError: if a named subset doesn't exist, or the names are unusual and none was given.
    """
    if entry.split is not None:
        return _split_fields(entry, videos, truth)
    names = subset_names(videos, truth)
    by_lower = {name.lower(): name for name in names}
    chosen = {}
    for field, given in (
        ("training_subset", entry.training_subset),
        ("evaluation_subset", entry.evaluation_subset),
    ):
        if given and given.lower() not in by_lower:
            raise InputError(
                f"no annotated videos in the subset {given!r}",
                where=entry.annotations,
                hint=f"Subsets with annotations: {', '.join(names) or 'none'}.",
            )
        chosen[field] = by_lower.get(given.lower(), "")
    if len(names) < 2:
        return _split_fields(entry, videos, truth)
    training, evaluation = chosen["training_subset"], chosen["evaluation_subset"]
    if entry.benchmark and not training and not evaluation:
        training, evaluation = _usual_pair(entry.benchmark, by_lower)
    training = training or _first(_TRAINING_CUSTOM, by_lower, evaluation)
    evaluation = evaluation or _first(_EVALUATION, by_lower, training)
    if not training or not evaluation:
        raise InputError(
            f"which of the subsets {', '.join(names)} is for training and which for evaluation?",
            where=entry.annotations,
            hint="Give --training-subset and --evaluation-subset.",
        )
    return {"training_subset": training, "evaluation_subset": evaluation}


def _usual_pair(benchmark: str, by_lower: dict[str, str]) -> tuple[str, str]:
    """The benchmark's training and evaluation subset as this file calls them, ``""`` if it has no such."""
    for pair in find_preset(benchmark)[0].subsets:
        if set(pair) <= set(by_lower):
            return by_lower[pair[0]], by_lower[pair[1]]
    return "", ""


def _first(names: Sequence[str], by_lower: dict[str, str], other: str) -> str:
    return next((by_lower[n] for n in names if n in by_lower and by_lower[n] != other), "")


def _split_fields(entry: DatasetEntry, videos: pd.DataFrame, truth: pd.DataFrame) -> dict[str, object]:
    split = entry.split or Split()
    silent = videos.loc[~videos["video_id"].isin(truth["video_id"]), "subset"].str.lower()
    evaluation = "testing" if not silent.isin(("testing", "test")).any() else "validation"
    fields = {"split": split, "training_subset": "training", "evaluation_subset": evaluation}
    if entry.split is not None and entry.training_subset:
        return fields
    note = (
        f"the annotated videos are split by chance (seed {split.seed}, {split.fraction:.0%} for evaluation)"
    )
    return {**fields, "derived": [*entry.derived, note]}


def split_videos(entry: DatasetEntry, videos: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """The subset of every video, after the entry's split if it has one."""
    subset = videos["subset"]
    if entry.split is None:
        return subset
    annotated = videos["video_id"].isin(truth["video_id"])
    ids = videos.loc[annotated, "video_id"].tolist()
    held_out = stratified_split(ids, truth, entry.split.fraction, entry.split.seed)
    subset = subset.mask(annotated, entry.training_subset)
    return subset.mask(videos["video_id"].isin(held_out), entry.evaluation_subset).astype("str")
