"""The files that lie in a dataset's folders, whether they are annotated or not."""

from __future__ import annotations

from pathlib import Path

from tal_core.data.dataset.entry import DatasetEntry
from tal_core.data.features.store import list_stream
from tal_core.data.formats.video_ids import VIDEO_SUFFIXES
from tal_core.types import InputError

MOST = 5000
"""Files listed of each folder; more can't be chosen from."""


def video_files(entry: DatasetEntry) -> dict[str, Path]:
    """Videos right inside the dataset's video folder by file name; none if it has no such folder.

    Raises:
        InputError: if the folder can't be listed.
    """
    if entry.videos is None:
        return {}
    try:
        files = sorted(path for path in entry.videos.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    except OSError as error:
        what = f"can't be listed ({error.strerror})"
        raise InputError(what, where=entry.videos, hint="Check its permissions.") from error
    return {path.name: path for path in files[:MOST]}


def feature_files(entry: DatasetEntry) -> dict[str, Path]:
    """Files with one array each in the dataset's feature folders, by file name; in front the folder's name
    where there are several. Raises InputError as ``list_stream``."""
    files: dict[str, Path] = {}
    for folder in entry.features:
        singles = [source.path for source in list_stream(folder).sources.values() if not source.key]
        prefix = f"{folder.name}/" if len(entry.features) > 1 else ""
        files |= {f"{prefix}{path.name}": path for path in sorted(singles)[:MOST]}
    return files
