"""A dataset's registry entry: ``<home>/datasets/<name>.toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, model_validator

from tal_core.schema import fields_of, setting, validated
from tal_core.types import InputError
from tal_core.workspace import DEMO, check_name, write_text, writing

DEMO_NAME = "demo"
# Evenly spaced points as the reference programs make them; the second is 0.39999999999999997, not 0.4.
THUMOS_TIOU = np.linspace(0.3, 0.7, 5).tolist()
Layout = Literal["TD", "DT"]


class Split(BaseModel):
    """A seeded split by video, for annotations that name no subsets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fraction: float = setting(
        0.2, "hold out this share of videos for evaluation", flag="--split", metavar="SHARE", gt=0, lt=1
    )
    seed: int = setting(0, "start of the random split", flag="--split-seed", metavar="N")


class AnnotationSource(BaseModel):
    """What a dataset takes its ground truth from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: Path = setting(
        ...,
        "ActivityNet JSON, CSV, THUMOS14 folder, ELAN .eaf or a folder of them, VIA, Label Studio",
        flag="--annotations",
        metavar="F",
    )
    video_info: Path | None = setting(
        None, "table of subset and duration per video", flag="--video-info", metavar="F"
    )
    tiers: list[str] = setting(
        [],
        "ELAN tiers, VIA attributes or Label Studio controls that hold the labels (default: all)",
        flag="--tiers",
        metavar="T",
    )
    split: Split | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_none(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, Mapping) else values


class LabelledVideos(AnnotationSource):
    """Annotations, and the videos and subsets that they are used with."""

    name: str
    videos: Path | None = setting(
        None, "folder of the videos, to play or to extract", flag="--videos", metavar="DIR"
    )
    training_subset: str = setting("", "subset that trains", flag="--training-subset", metavar="S")
    evaluation_subset: str = setting("", "subset that evaluates", flag="--evaluation-subset", metavar="S")
    tiou: list[float] = setting(
        THUMOS_TIOU, "usual thresholds, e.g. 0.3:0.7:0.1", flag="--tiou", metavar="T", min_length=1
    )


class DatasetEntry(LabelledVideos):
    """Where a dataset lies and how its features run in time.

    Seconds between snippets come from one of: ``timing = "stretched"`` (every video has the same number of
    snippets, spread over its duration), ``snippet_seconds``, or ``stride`` in frames with ``fps``. Without
    ``fps`` the annotations' own fps of each video is taken; a given ``fps`` overrides it, since features are
    often made from re-encoded videos. Paths are absolute here, and in the file relative to it if they lie
    beside it. ``layout``: per stream, TD for (time, channels) or DT. ``extractor``: the settings of what made
    the features from the videos, if this program did. ``derived``: what was worked out, not given, and how.
    ``earlier``: annotations used before edited ones, newest first.
    """

    description: str = ""
    benchmark: str = setting(
        "",
        "a benchmark: subsets, thresholds and time where nothing else is said (see: datasets presets)",
        flag="--preset",
        metavar="P",
    )
    features: list[Path] = setting(
        ..., "a folder or .h5 file per stream", flag="--features", metavar="DIR", min_length=1
    )
    class_scores: Path | None = setting(
        None,
        "video-level class scores (.json, .npz, .npy), for proposal methods",
        flag="--class-scores",
        metavar="F",
    )
    blocked: Path | None = setting(
        None, "videos to leave out: a JSON list, or text with one id a line", flag="--blocked", metavar="F"
    )
    stride: float | None = setting(None, "frames between snippets", flag="--stride", metavar="S", gt=0)
    fps: float | None = setting(
        None, "frames per second of what the features were made from", flag="--fps", metavar="F", gt=0
    )
    snippet_seconds: float | None = setting(
        None, "seconds between snippets", flag="--snippet-seconds", metavar="S", gt=0
    )
    offset_seconds: float | None = setting(
        None, "centre of the first snippet (half a step)", flag="--offset-seconds", metavar="S"
    )
    offset_frames: float | None = setting(
        None, "the same in frames, with --stride", flag="--offset-frames", metavar="F"
    )
    timing: Literal["fixed", "stretched"] = setting(
        "fixed", "stretched: each video's snippets are spread over its duration", flag="--timing"
    )
    layout: list[Layout] | None = setting(
        None, "(time, channels) or reverse", flag="--layout", choices=("auto", "TD", "DT")
    )
    extractor: dict[str, Any] | None = None
    derived: list[str] = []
    earlier: list[AnnotationSource] = []

    @model_validator(mode="before")
    @classmethod
    def _streams(cls, values: Any) -> Any:
        """One folder is a list of one, one layout is that of all."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        if isinstance(values.get("features"), Path | str):
            values["features"] = [values["features"]]
        layout = values.get("layout")
        if isinstance(layout, str):
            same = [layout.upper()] * len(values.get("features", ()))
            values["layout"] = None if layout == "auto" else same
        return values


def entry_path(home: Path, name: str) -> Path:
    """The registry file of a dataset; the built-in demo's where the workspace has none of that name."""
    path = home / "datasets" / f"{check_name(name, 'dataset')}.toml"
    shipped = DEMO / "dataset.toml"
    return shipped if name == DEMO_NAME and not path.exists() and shipped.exists() else path


def load_entry(home: Path, name: str) -> DatasetEntry:
    """Read a dataset's registry entry, its paths made absolute.

    Raises:
        InputError: if there is no such dataset or the file is faulty.
    """
    entry = read_entry(_existing_path(home, name))
    return entry.model_copy(update={"name": name})  # the file's name counts, also for a copied file


def read_entry(path: Path) -> DatasetEntry:
    """Read the registry file ``path``. Raises ``InputError`` if it is faulty."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        values = {"name": path.stem, **values}
        entry = validated(DatasetEntry, values, where=path, hint="Correct the file.")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"not TOML ({error})", where=path, hint="Correct it, or add the dataset again."
        ) from error
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path) from error
    return with_paths(entry, lambda p: Path(os.path.normpath(path.parent / p)))


def save_entry(entry: DatasetEntry, path: Path) -> None:
    """Write a registry file; paths inside its folder are written relative to it, so it can be moved."""
    folder = path.parent.resolve()

    def shorten(target: Path) -> Path:
        target = target.expanduser().resolve()
        return target.relative_to(folder) if target.is_relative_to(folder) else target

    values = with_paths(entry, shorten).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    write_text(path, tomli_w.dumps(values))


def list_datasets(home: Path) -> list[DatasetEntry]:
    """All sound datasets by name, the built-in demo among them; ``faulty_datasets`` gives the others."""
    return _load_all(home)[0]


def faulty_datasets(home: Path) -> list[InputError]:
    """What is wrong with the registry files that ``list_datasets`` leaves out."""
    return _load_all(home)[1]


def _load_all(home: Path) -> tuple[list[DatasetEntry], list[InputError]]:
    entries, errors = [], []
    for name in _names(home):
        try:
            entries.append(load_entry(home, name))
        except InputError as error:
            errors.append(error)
    return entries, errors


def remove_dataset(home: Path, name: str) -> None:
    """Forget a dataset: its registry file, index, and annotations made for it. Features stay.

    Raises:
        InputError: for an unknown dataset, or the built-in demo, which can't be removed.
    """
    path = _existing_path(home, name)
    if path.parent == DEMO:
        raise InputError("the built-in demo can't be removed")
    with writing(path):
        for file in (path, *(path.with_name(f"{name}{ending}") for ending in OWN_FILES)):
            file.unlink(missing_ok=True)


OWN_FILES = (
    ".index.parquet",
    ".index.lock",
    ".annotations.json",
    ".annotations.arrow",
    ".edits.json",
    ".videos.csv",
)
"""Endings of the files in ``<home>/datasets`` that belong to a dataset beside its ``.toml``."""


def _existing_path(home: Path, name: str) -> Path:
    path = entry_path(home, name)
    if not path.exists():
        names = ", ".join(_names(home)) or "none yet"
        raise InputError(f"there is no dataset {name!r}", hint=f"Known datasets: {names}.")
    return path


def _names(home: Path) -> list[str]:
    names = {path.stem for path in (home / "datasets").glob("*.toml")}
    return sorted(names | ({DEMO_NAME} if (DEMO / "dataset.toml").exists() else set()))


Source = TypeVar("Source", bound=AnnotationSource)


def with_paths(source: Source, change: Callable[[Path], Path]) -> Source:
    """An entry with each of its paths passed through ``change``."""
    changed: dict[str, Any] = {}
    for field in fields_of(type(source)):
        value = getattr(source, field.name)
        if field.kind == "path" and value is not None:
            changed[field.name] = change(value)
        elif field.kind == "paths":
            changed[field.name] = [change(path) for path in value]
        elif field.name == "earlier":
            changed[field.name] = [with_paths(earlier, change) for earlier in value]
    return source.model_copy(update=changed)
