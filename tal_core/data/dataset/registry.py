"""Registering datasets and making smaller ones from bigger ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from tal_core.data.benchmarks.presets import find_preset
from tal_core.data.dataset.dataset import Dataset, open_dataset, open_entry
from tal_core.data.dataset.entry import (
    THUMOS_TIOU,
    DatasetEntry,
    Split,
    entry_path,
    faulty_datasets,
    invalid,
    list_datasets,
    load_entry,
    read_entry,
    remove_dataset,
    save_entry,
)
from tal_core.data.dataset.subsets import stratified_split
from tal_core.data.features.extraction_manifest import read_extracted
from tal_core.data.features.store import check_layout
from tal_core.data.formats.annotations import write_annotations
from tal_core.data.formats.class_scores import read_class_scores
from tal_core.types import Annotations, InputError, Progress
from tal_core.workspace import check_name

__all__ = [
    "DatasetEntry",
    "Split",
    "add_dataset",
    "faulty_datasets",
    "list_datasets",
    "load_entry",
    "make_subset",
    "read_entry",
    "remove_dataset",
    "save_entry",
]


def add_dataset(  # pylint: disable=too-many-arguments,too-many-locals  # one argument per thing a person may say
    home: Path,
    name: str,
    *,
    annotations: Path,
    features: Path | Sequence[Path],
    preset: str = "",
    videos: Path | None = None,
    video_info: Path | None = None,
    tiers: Sequence[str] = (),
    blocked: Path | None = None,
    class_scores: Path | None = None,
    layout: str = "auto",
    stride: float | None = None,
    fps: float | None = None,
    snippet_seconds: float | None = None,
    timing: Literal["fixed", "stretched"] = "fixed",
    offset_seconds: float | None = None,
    offset_frames: float | None = None,
    training_subset: str = "",
    evaluation_subset: str = "",
    tiou: Sequence[float] | None = None,
    split: Split | None = None,
    description: str = "",
    replace: bool = False,
    progress: Progress | None = None,
) -> DatasetEntry:
    """Register a dataset: check its files, work out what was not said, write its entry and index.

    ``features``: one folder (or ``.h5`` file) per stream. ``tiers``: see ``read_annotations``. Time: see
    ``DatasetEntry``; features extracted here bring theirs. ``preset``: a benchmark (see `benchmarks`) for
    what is not said of subsets, thresholds and time. ``replace``: overwrite a dataset of this name.

    Raises:
        InputError: if anything can't be used; then nothing is registered.
    """
    path = _free_path(home, name, replace)
    grid = {
        "timing": timing,
        "stride": stride,
        "fps": fps,
        "snippet_seconds": snippet_seconds,
        "offset_seconds": offset_seconds,
        "offset_frames": offset_frames,
    }
    folders = [features] if isinstance(features, (str, Path)) else list(features)
    made = read_extracted(folders)
    layout = "TD" if made else layout
    if made and not (stride or snippet_seconds or timing == "stretched"):
        grid |= {"snippet_seconds": made.stride_seconds, "offset_seconds": made.offset_seconds}
    if preset:
        benchmark, convention = find_preset(preset)
        tiou, grid = tiou or benchmark.tiou, _with_convention(grid, convention.timing())
    draft = _draft(
        name=name,
        description=description,
        benchmark=preset,
        annotations=annotations,
        video_info=video_info,
        tiers=list(tiers),
        blocked=blocked,
        features=folders,
        extractor=made.extractor if made else None,
        videos=videos,
        class_scores=class_scores,
        layout=layout,
        training_subset=training_subset,
        evaluation_subset=evaluation_subset,
        tiou=list(tiou or THUMOS_TIOU),
        split=split,
        **grid,
    )
    dataset = open_entry(home, draft, progress)
    entry = dataset.entry
    if entry.class_scores is not None:
        scores = read_class_scores(entry.class_scores, dataset.labels)
        videos = [v for s in (entry.training_subset, entry.evaluation_subset) for v in dataset.videos(s)]
        if missing := scores.missing(videos):
            note = f"{len(missing)} of {len(videos)} videos have no class scores (first: {missing[0]})"
            entry = entry.model_copy(update={"derived": [*entry.derived, note]})
    save_entry(entry, path)
    return entry


def _with_convention(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """Fields of the time grid: a person's own where they say how snippets run, else the usual ones with a
    person's frame rate and offset."""
    if given["stride"] or given["snippet_seconds"] or given["timing"] == "stretched":
        return given
    said = {name: value for name, value in given.items() if value is not None and name != "timing"}
    if "offset_seconds" in said:
        usual = {name: value for name, value in usual.items() if name != "offset_frames"}
    return {**given, **usual, **said}


def _draft(**fields: Any) -> DatasetEntry:
    """The entry of what was said, with absolute paths and no layout for ``auto``."""
    for field in ("annotations", "video_info", "videos", "class_scores", "blocked"):
        fields[field] = _absolute(fields[field]) if fields[field] else None
    fields["features"] = [_absolute(folder) for folder in fields["features"]]
    given = fields["layout"] != "auto"
    fields["layout"] = [check_layout(fields["layout"])] * len(fields["features"]) if given else None
    try:
        return DatasetEntry(**fields)
    except ValidationError as error:
        raise invalid(error, f"dataset {fields['name']}") from error


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
    path = _free_path(home, name, replace=False)
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
    chosen = _draw(rows, truth, videos, seed) if videos is not None else rows["video_id"].tolist()
    if not chosen:
        raise InputError(
            "no usable video has these classes", where=f"dataset {source}", hint="Choose others."
        )
    target = path.with_name(f"{name}.annotations.json")
    write_annotations(_only(dataset, truth, chosen), target)
    size = f"{len(chosen)} videos of {source}" + (f", {len(classes)} classes" if classes else "")
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
    chosen: set[str] = set()
    for subset, share in zip(
        subsets, _shares(rows["subset"].value_counts()[subsets].to_numpy(), videos), strict=True
    ):
        ids = rows.loc[rows["subset"] == subset, "video_id"].tolist()
        drawn = stratified_split(ids, truth, share / len(ids), seed) if share < len(ids) else ids
        rest = sorted(set(ids) - set(drawn))
        random = np.random.default_rng(seed)
        chosen |= set([*random.permutation(drawn), *random.permutation(rest)][:share])
    return [video_id for video_id in rows["video_id"] if video_id in chosen]


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


def _only(dataset: Dataset, truth: pd.DataFrame, chosen: list[str]) -> Annotations:
    """Annotations of the chosen videos, with the subsets and durations that the dataset settled on."""
    videos = dataset.index.loc[
        dataset.index["video_id"].isin(chosen), ["video_id", "subset", "duration", "fps"]
    ]
    unsure = dataset.annotations.ambiguous
    return Annotations(truth[truth["video_id"].isin(chosen)], videos, unsure[unsure["video_id"].isin(chosen)])


def _free_path(home: Path, name: str, replace: bool) -> Path:
    path = home / "datasets" / f"{check_name(name, 'dataset')}.toml"
    if entry_path(home, name).exists() and not replace:
        raise InputError(
            f"there is a dataset {name!r} already", hint="Choose another name, or remove that one first."
        )
    return path


def _absolute(path: Path) -> Path:
    return Path(path).expanduser().resolve()
