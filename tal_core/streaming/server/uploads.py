"""A file that a client sends: kept on disk, looked at with care, turned into features."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from tal_core.data.features.arrays import Source, read_header
from tal_core.data.features.store import read_feature_file
from tal_core.streaming.server.errors import Refusal
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Served
from tal_core.types import InputError, TimeGrid
from tal_core.video.frames import open_video, read_frames

FEATURE_TYPES = {".npy": b"\x93NUMPY", ".npz": b"PK\x03\x04", ".pt": b"PK\x03\x04"}
"""Feature files by ending, and how they begin."""


async def save_upload(request: Request, folder: Path) -> Path:
    """Write the file in a request's body into ``folder``: the raw body, or the form's part ``file``.

    Its ending says what it is: the form's file name, the query's ``name``, or how the content begins.

    Raises:
        Refusal: if there is no file, or more than one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    path = folder / "upload"
    name = request.query_params.get("name", "")
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=0) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise Refusal(422, "there is no part named file", where="body", hint="Send -F file=@NAME.")
            name = upload.filename or name
            with path.open("wb") as file:
                await run_in_threadpool(shutil.copyfileobj, upload.file, file, 2**20)
    else:
        with path.open("wb") as file:
            async for part in request.stream():
                await run_in_threadpool(file.write, part)
    if path.stat().st_size == 0:
        raise Refusal(422, "the body is empty", where="body", hint="Send a feature file or a video.")
    return path.rename(path.with_suffix(_ending(path, name)))


def _ending(path: Path, name: str) -> str:
    """``.npy``, ``.npz`` or ``.pt``; anything else is taken for a video."""
    with path.open("rb") as file:
        head = file.read(8)
    fitting = [ending for ending, magic in FEATURE_TYPES.items() if head.startswith(magic)]
    wished = Path(name).suffix.lower()
    if wished in FEATURE_TYPES:
        return wished
    return fitting[0] if fitting else ".video"


def features_of(path: Path, served: Served, limits: Limits, name: str) -> tuple[np.ndarray, TimeGrid | None]:
    """Features (T, D) of an uploaded file, and their grid (None: as the run was trained).

    Raises:
        InputError: for a file that can't be read, is of another kind, or holds too much.
    """
    try:
        if path.suffix in FEATURE_TYPES:
            shape = read_header(Source(str(path))).shape
            if max(shape, default=0) > limits.snippets or np.prod(shape) * 4 > 4 * limits.body_bytes:
                what = f"an array of shape {tuple(shape)} is too large"
                raise Refusal(413, what, where=name, hint=f"Send at most {limits.snippets} snippets.")
            return read_feature_file(path, dimension=served.num_features), None
        return _video_features(path, served, limits, name)
    except Refusal:
        raise
    except InputError as error:
        raise Refusal(422, error.what, where=name, hint=error.hint) from None


def _video_features(path: Path, served: Served, limits: Limits, name: str) -> tuple[np.ndarray, TimeGrid]:
    extractor = served.extractor()
    _check_size(path, limits, name)
    snippets: list[np.ndarray] = []
    end = time.monotonic() + limits.request_seconds

    def wanted(seconds: float) -> bool:
        if time.monotonic() > end:
            what = f"the video takes longer than {limits.request_seconds:g} s"
            hint = "Send it in shorter pieces, or use the command predict."
            raise Refusal(503, what, where=name, hint=hint)
        return extractor.wants(seconds)

    for seconds, frame in read_frames(path, size=extractor.picture_size, wanted=wanted):
        snippets += extractor.push(seconds, frame)
    snippets += extractor.finish()
    if not snippets:
        raise InputError("is too short for a single feature", hint="Send a longer video.")
    return np.stack(snippets), extractor.grid


def _check_size(path: Path, limits: Limits, name: str) -> None:
    """Raise Refusal for pictures that are too large, before one is decoded."""
    with open_video(path) as (_, stream):
        width, height = stream.width, stream.height
    if width * height > limits.pixels:
        what = f"pictures of {width} x {height} are larger than {limits.pixels} pixels"
        raise Refusal(422, what, where=name, hint="Scale the video down before sending.")
