"""Registering datasets and making smaller ones from bigger ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core.data.benchmarks.presets import find_preset
from tal_core.data.dataset.dataset import Dataset, open_dataset, open_entry
from tal_core.data.dataset.entry import DatasetEntry, entry_path, save_entry, with_paths
from tal_core.data.dataset.subsets import stratified_split
from tal_core.data.features.extraction_manifest import read_extracted
from tal_core.data.formats.annotations import write_annotations
from tal_core.data.formats.class_scores import read_class_scores
from tal_core.schema import validated
from tal_core.types import Annotations, InputError, Progress
from tal_core.workspace import check_name


def add_dataset(
    home: Path, name: str, *, replace: bool = False, progress: Progress | None = None, **fields: Any
) -> DatasetEntry:
    """Register a dataset: check its files, work out what was not said, write its entry and index.

    ``fields``: those of ``DatasetEntry``, None for what isn't given. Features extracted here bring their own
    time. ``benchmark`` gives what is not said of subsets, thresholds and time. ``replace``: overwrite a
    dataset of this name.

    Raises:
        InputError: if anything can't be used; then nothing is registered.
    """
    path = free_path(home, name, replace)
    draft = validated(DatasetEntry, {**fields, "name": name}, where=f"dataset {name}")
    draft = with_paths(draft, lambda given: given.expanduser().resolve())
    dataset = open_entry(home, draft.model_copy(update=_usual(draft)), progress)
    entry = dataset.entry
    if entry.class_scores is not None:
        scores = read_class_scores(entry.class_scores, dataset.labels)
        videos = [v for s in (entry.training_subset, entry.evaluation_subset) for v in dataset.videos(s)]
        if missing := scores.missing(videos):
            note = f"{len(missing)} of {len(videos)} videos have no class scores (first: {missing[0]})"
            entry = entry.model_copy(update={"derived": [*entry.derived, note]})
    save_entry(entry, path)
    return entry


def _usual(draft: DatasetEntry) -> dict[str, Any]:
    """What the features' own manifest and the benchmark give of the fields that a person left open."""
    usual: dict[str, Any] = {}
    timed = draft.stride or draft.snippet_seconds or draft.timing == "stretched"
    made = read_extracted(draft.features)
    if made is not None:
        usual |= {"layout": ["TD"], "extractor": made.extractor}
        if not timed:
            usual |= {"snippet_seconds": made.stride_seconds, "offset_seconds": made.offset_seconds}
    if not draft.benchmark:
        return usual
    benchmark, convention = find_preset(draft.benchmark)
    if "tiou" not in draft.model_fields_set:
        usual["tiou"] = benchmark.tiou
    if timed or "snippet_seconds" in usual:
        return usual
    given = draft.model_fields_set | ({"offset_frames"} if draft.offset_seconds is not None else set())
    return usual | {name: value for name, value in convention.timing().items() if name not in given}


def make_subset(
    home: Path,
    source: str,
    name: str,
    *,
    videos: int | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DatasetEntry:
    """Register a smaller dataset on the same features: ``videos`` videos, chosen ``classes``, or both.

    Videos are drawn by ``seed`` with usable features first of all, from each subset in proportion, such
    that classes keep their share. Annotations go to ``<home>/datasets/<name>.annotations.json``.

    Raises:
        InputError: for unknown classes, or a number of videos that can't be.
    """
    path = free_path(home, name)
    dataset = open_dataset(home, source, progress)
    unknown = sorted(set(classes or ()) - set(dataset.labels))
    if unknown:
        raise InputError(
            f"no class {unknown[0]!r}",
            where=f"dataset {source}",
            hint=f"Classes: {', '.join(dataset.labels)}.",
        )
    truth = dataset.annotations.ground_truth
    truth = truth[truth["label"].isin(classes)] if classes else truth
    rows = dataset.index[dataset.index["usable"]]
    rows = rows[rows["video_id"].isin(truth["video_id"])]
    ids = _draw(rows, truth, videos, seed) if videos is not None else rows["video_id"].tolist()
    if not ids:
        raise InputError(
            "no usable video has these classes", where=f"dataset {source}", hint="Choose others."
        )
    target = path.with_name(f"{name}.annotations.json")
    write_annotations(_only(dataset, truth, ids), target)
    size = f"{len(ids)} videos of {source}" + (f", {len(classes)} classes" if classes else "")
    entry = dataset.entry.model_copy(
        update={
            "name": name,
            "description": size,
            "annotations": target.resolve(),
            "video_info": None,
            "tiers": [],
            "blocked": None,
            "split": None,
        }
    )
    try:
        smaller = open_entry(home, entry, progress)
        save_entry(smaller.entry, path)
    except InputError:
        target.unlink(missing_ok=True)
        raise
    return smaller.entry


def _draw(rows: pd.DataFrame, truth: pd.DataFrame, videos: int, seed: int) -> list[str]:
    """About ``videos`` of the videos in ``rows``, at least one of each subset."""
    subsets = rows["subset"].unique()
    if not len(subsets) <= videos <= len(rows):
        raise InputError(
            f"{videos} videos can't be drawn", hint=f"Choose a number from {len(subsets)} to {len(rows)}."
        )
    videos_drawn: set[str] = set()
    for subset, share in zip(
        subsets, _shares(rows["subset"].value_counts()[subsets].to_numpy(), videos), strict=True
    ):
        ids = rows.loc[rows["subset"] == subset, "video_id"].tolist()
        drawn = stratified_split(ids, truth, share / len(ids), seed) if share < len(ids) else ids
        rest = sorted(set(ids) - set(drawn))
        random = np.random.default_rng(seed)
        videos_drawn |= set([*random.permutation(drawn), *random.permutation(rest)][:share])
    return [video_id for video_id in rows["video_id"] if video_id in videos_drawn]


def _shares(sizes: np.ndarray, total: int) -> list[int]:
    """Split ``total`` over groups in proportion to their sizes, at least one each."""
    quota = sizes * total / sizes.sum()
    shares = np.maximum(1, np.floor(quota)).astype(int)
    while shares.sum() != total:
        gap = np.where(shares < sizes, quota - shares, -np.inf) if shares.sum() < total else quota - shares
        best = (
            int(np.argmax(gap)) if shares.sum() < total else int(np.argmin(np.where(shares > 1, gap, np.inf)))
        )
        shares[best] += 1 if shares.sum() < total else -1
    return shares.tolist()


def _only(dataset: Dataset, truth: pd.DataFrame, ids: list[str]) -> Annotations:
    """Annotations of the videos ``ids``, with the subsets and durations that the dataset settled on."""
    videos = dataset.index.loc[dataset.index["video_id"].isin(ids), ["video_id", "subset", "duration", "fps"]]
    unsure = dataset.annotations.ambiguous
    return Annotations(truth[truth["video_id"].isin(ids)], videos, unsure[unsure["video_id"].isin(ids)])


def free_path(home: Path, name: str, replace: bool = False) -> Path:
    """Where the entry of a new dataset goes. Raises InputError if it can't be a name, or is taken."""
    if not name:
        raise InputError("the name is missing", hint="Give the dataset a name.")
    path = home / "datasets" / f"{check_name(name, 'dataset')}.toml"
    if entry_path(home, name).exists() and not replace:
        raise InputError(
            f"there is a dataset {name!r} already", hint="Choose another name, or remove that one first."
        )
    return path
