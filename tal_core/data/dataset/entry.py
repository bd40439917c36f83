"""A dataset's registry entry: ``<home>/datasets/<name>.toml``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tal_core.types import InputError
from tal_core.workspace import DEMO, check_name, write_text, writing

DEMO_NAME = "demo"
# Evenly spaced points as the reference programs make them; the second is 0.39999999999999997, not 0.4.
THUMOS_TIOU = np.linspace(0.3, 0.7, 5).tolist()
Layout = Literal["TD", "DT"]


class Split(BaseModel):
    """A seeded split by video, for annotations that name no subsets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the annotated videos held out for evaluation"
    )


class AnnotationSource(BaseModel):
    """What a dataset takes its ground truth from: fields of ``DatasetEntry``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: Path
    video_info: Path | None = None
    tiers: list[str] = Field(default_factory=list)
    split: Split | None = None


class DatasetEntry(BaseModel):
    """Where a dataset lies and how its features run in time.

    Seconds between snippets come from one of: ``timing = "stretched"`` (every video has the same number of
    snippets, spread over its duration), ``snippet_seconds``, or ``stride`` in frames with ``fps``. Without
    ``fps`` the annotations' own fps of each video is taken; a given ``fps`` goes before it, since features
    are often made from re-encoded videos. Paths are absolute here, and in the file relative to it if they
    lie beside it. ``benchmark``: the preset of `benchmarks` that it was added with; it names the subsets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    benchmark: str = ""
    annotations: Path
    video_info: Path | None = None
    tiers: list[str] = Field(
        default_factory=list, description="tiers, attributes or controls that hold the labels; all by default"
    )
    blocked: Path | None = Field(None, description="list of videos that are left out, see `blocked`")
    features: list[Path] = Field(min_length=1, description="one folder or .h5 file per stream")
    videos: Path | None = None
    class_scores: Path | None = Field(None, description="video-level class scores, for proposal methods")
    layout: list[Layout] | None = Field(None, description="(time, channels) or (channels, time), per stream")
    timing: Literal["fixed", "stretched"] = "fixed"
    stride: float | None = Field(None, gt=0, description="frames between snippets")
    fps: float | None = Field(None, gt=0, description="frames per second of what the features were made from")
    snippet_seconds: float | None = Field(None, gt=0, description="seconds between snippets")
    offset_seconds: float | None = Field(
        None, description="centre of the first snippet; half a step by default"
    )
    offset_frames: float | None = Field(None, description="the same in frames, with stride")
    extractor: dict[str, Any] | None = Field(
        None, description="what made the features from the videos, if this program did: its settings"
    )
    training_subset: str = ""
    evaluation_subset: str = ""
    tiou: list[float] = Field(default_factory=lambda: list(THUMOS_TIOU), min_length=1)
    split: Split | None = None
    derived: list[str] = Field(default_factory=list, description="what was worked out, not given, and how")
    earlier: list[AnnotationSource] = Field(
        default_factory=list, description="annotations used before edited ones, newest first"
    )


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
        entry = DatasetEntry.model_validate(values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"not TOML ({error})", where=path, hint="Correct it, or add the dataset again."
        ) from error
    except ValidationError as error:
        raise invalid(error, path) from error
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path) from error
    return entry.model_copy(update=_with_paths(entry, lambda p: Path(os.path.normpath(path.parent / p))))


def save_entry(entry: DatasetEntry, path: Path) -> None:
    """Write a registry file; paths inside its folder are written relative to it, so it can be moved."""
    folder = path.parent.resolve()

    def shorten(target: Path) -> Path:
        target = target.expanduser().resolve()
        return target.relative_to(folder) if target.is_relative_to(folder) else target

    entry = entry.model_copy(update=_with_paths(entry, shorten))
    values = entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
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


def invalid(error: ValidationError, where: object) -> InputError:
    """A pydantic error as one line naming the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "entry"
    return InputError(f"{field}: {first['msg']}", where=where, hint="Correct the value.")


def _existing_path(home: Path, name: str) -> Path:
    path = entry_path(home, name)
    if not path.exists():
        known = ", ".join(_names(home)) or "none yet"
        raise InputError(f"there is no dataset {name!r}", hint=f"Known datasets: {known}.")
    return path


def _names(home: Path) -> list[str]:
    names = {path.stem for path in (home / "datasets").glob("*.toml")}
    return sorted(names | ({DEMO_NAME} if (DEMO / "dataset.toml").exists() else set()))


def _with_paths(entry: DatasetEntry, change: Any) -> dict[str, Any]:
    """The entry's paths, each passed through ``change``."""
    return {
        "annotations": change(entry.annotations),
        "features": [change(path) for path in entry.features],
        "video_info": change(entry.video_info) if entry.video_info else None,
        "blocked": change(entry.blocked) if entry.blocked else None,
        "videos": change(entry.videos) if entry.videos else None,
        "class_scores": change(entry.class_scores) if entry.class_scores else None,
        "earlier": [
            one.model_copy(
                update={
                    "annotations": change(one.annotations),
                    "video_info": change(one.video_info) if one.video_info else None,
                }
            )
            for one in entry.earlier
        ],
    }
