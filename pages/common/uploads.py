"""Uploaded files, read and checked once; errors name a file as its owner does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages.common.cached_results import cached_by_identity
from tal_core.data.dataset.dataset import Dataset
from tal_core.importing.run_of_detections import fit_videos, read_foreign
from tal_core.types import InputError


def read_upload(file: UploadedFile, read: Callable[..., Any], *arguments: Any) -> Any:
    """What ``read`` makes of an uploaded file (its path, then the arguments). Raises InputError."""
    return _read(file.file_id, file.name, file.getvalue(), read, arguments)


@st.cache_resource(
    max_entries=8, show_spinner="Reading the file", hash_funcs={FunctionType: lambda read: read.__qualname__}
)
def _read(file_id: str, name: str, _content: bytes, read: Callable[..., Any], arguments: tuple) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(_content)
        try:
            return read(path, *arguments)
        except InputError as error:
            where = str(error.where or name).replace(str(path), name)
            raise InputError(error.what, where=where, hint=error.hint) from None


def detections_file(title: str, key: str, *, expanded: bool) -> UploadedFile | None:
    """Where a detections file can be given instead of a run."""
    with st.expander(title, expanded=expanded):
        return st.file_uploader(
            "ActivityNet results JSON, or CSV with video_id, start, end, label, score (.gz is fine)",
            type=["json", "csv", "tsv", "gz", "pkl"],
            key=key,
        )


def read_detections(file: UploadedFile) -> pd.DataFrame:
    """The detections of an uploaded file, under its own video ids. Raises InputError."""
    return read_upload(file, read_foreign)


@cached_by_identity(entries=8)
def renamed(data: Dataset, detections: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A file's detections under the dataset's video ids, and what was renamed or left out."""
    return fit_videos(detections, data)
