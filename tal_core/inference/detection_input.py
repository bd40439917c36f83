"""One file to detect in: what it holds, which runs fit it, and how an uploaded one is taken in."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tal_core.data.features.arrays import SUFFIXES, Source, read_header
from tal_core.data.features.store import shape_problem
from tal_core.data.formats.video_ids import VIDEO_SUFFIXES
from tal_core.models.shared.weights import WeightsInfo, read_info
from tal_core.runs.run import Run
from tal_core.types import InputError, Progress, TimeGrid
from tal_core.video.extractors.extractor import BATCH, extract_with, make_extractor, spec_of
from tal_core.video.frames import Damage, VideoInfo, duration_of, probe
from tal_core.workspace import writing

INCOMING = Path("detect", "incoming")
MOST_MB = 500
"""Megabytes of an uploaded file; a bigger one is chosen from a dataset's folder."""
_OLD = 24 * 3600  # seconds after which an upload that nobody used is removed
_HEADS = {".npy": b"\x93NUMPY", ".npz": b"PK", ".h5": b"\x89HDF", ".hdf5": b"\x89HDF"}


@dataclass(frozen=True)
class DetectionInput:
    """What a file holds: a ``video``, or features of ``shape`` as stored. ``name`` is its video id."""

    path: Path
    name: str
    video: VideoInfo | None = None
    shape: tuple[int, int] | None = None


def inspect(path: Path) -> DetectionInput:
    """Look at a video or feature file, at its content and not only its name.

    Raises:
        InputError: if it is neither, or can't be used.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError("no such file", where=path.name, hint="Choose it again.")
    if not path.stat().st_size:
        raise InputError("the file is empty", where=path.name, hint="Copy it again.")
    if suffix in VIDEO_SUFFIXES:
        info = probe(path)
        if info.duration <= 0:
            raise InputError("the video has no duration", where=path.name, hint="Record or convert it again.")
        return DetectionInput(path, path.stem, video=info)
    if suffix not in SUFFIXES:
        known = f"Videos: {' '.join(VIDEO_SUFFIXES)}. Features: {' '.join(SUFFIXES)}."
        raise InputError(f"unknown ending {suffix!r}", where=path.name, hint=known)
    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith(_HEADS.get(suffix, b"")):
        hint = "Save the features again, under the ending of their form."
        raise InputError(f"is no {suffix} file, whatever its name says", where=path.name, hint=hint)
    header = read_header(Source(str(path)))
    problem = shape_problem(header)
    if problem:
        raise InputError(problem, where=path.name, hint="Give one 2-D array (time, channels).")
    return DetectionInput(path, path.stem, shape=(header.shape[0], header.shape[1]))


def why_not(run: os.PathLike, found: DetectionInput) -> str:
    """Why a run can't detect in this file; ``""`` if it can."""
    try:
        info = trained_weights(run)
    except InputError as error:
        return error.what
    if found.shape is not None:
        if info.num_features in found.shape:
            return ""
        return f"was trained on {info.num_features} channels, the file has shape {found.shape}"
    try:
        spec_of(info)
    except InputError as error:
        return f"can't read videos: {error.what}"
    return ""


def trained_weights(run: os.PathLike) -> WeightsInfo:
    """What the weights that a run detects with say of themselves. Raises InputError if it has none."""
    run = Run(Path(run))
    _, config = run.method_config()
    return read_info(run.weights_file(config.checkpoint))


def features_of_video(
    path: Path, info: WeightsInfo, progress: Progress | None = None, damage: Damage | None = None
) -> tuple[np.ndarray, TimeGrid]:
    """Features (T, D) of a video as a model was trained on, and their grid; ``damage`` notes what was odd.

    Raises:
        InputError: if the model's features weren't extracted here, or the video can't be used.
    """
    extractor = make_extractor(spec_of(info), batch=BATCH)
    total = max(1, round(duration_of(path)))

    def on_time(seconds: float) -> None:
        if progress is not None:
            progress(min(total, round(seconds)), total, "extracting features")

    return extract_with(extractor, path, damage=damage, on_time=on_time), extractor.grid


def safe_name(name: str) -> str:
    """A file name that can't leave its folder: letters and digits of any script, ``.``, ``_`` and ``-``."""
    name = re.split(r"[\\/]", name)[-1]
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, ending) if dot else (ending, "")
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:80] or "file"
    ending = re.sub(r"[^A-Za-z0-9]", "", ending).lower()[:8]
    return f"{stem}.{ending}" if ending else stem


def take_in(home: Path, name: str, size: int, content: BinaryIO) -> Path:
    """Write an upload into ``<home>/detect/incoming`` under a safe name; what was left there long ago goes.

    Raises:
        InputError: if it is too big, empty, or the disk is full.
    """
    if size > MOST_MB * 2**20:
        hint = "Put it into a dataset's video or feature folder, and choose it from there."
        what = f"has {size / 2**20:.0f} MB, more than the {MOST_MB} MB that can be uploaded"
        raise InputError(what, where=name, hint=hint)
    if not size:
        raise InputError("the file is empty", where=name, hint="Copy it again.")
    incoming = home / INCOMING
    with writing(incoming):
        incoming.mkdir(parents=True, exist_ok=True)
        for old in incoming.iterdir():
            if time.time() - old.stat().st_mtime > _OLD:
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=incoming))
        target = folder / safe_name(name)
        try:
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, 2**20)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return target
