"""Annotations as they were last read, kept beside the index, so that a big file is parsed only once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tal_core import __version__
from tal_core.data.formats.annotations import read_annotations
from tal_core.types import Annotations
from tal_core.workspace import write_bytes, writing

_FORM = f"2 {__version__}"
"""Changes whenever the same file would be read otherwise than before."""
_TABLES = ("ground_truth", "videos", "ambiguous", "findings")


def read_kept_annotations(
    path: Path, video_info: Path | None, kept: Path, tiers: Sequence[str] = ()
) -> tuple[Annotations, str]:
    """``read_annotations``, from the file ``kept`` if that holds this very content.

    Returns the annotations and a hash of what they were read from, ``""`` for a folder, which isn't kept.

    Raises:
        InputError: as ``read_annotations``, or if ``kept`` can't be written.
    """
    paths = [path, video_info] if video_info else [path]
    key = _content_hash(paths, tiers)
    known = _load(kept, key) if key else None
    if known is not None:
        return known, key
    annotations = read_annotations(path, video_info, tiers)
    if key and key == _content_hash(paths, tiers):  # not if it was written to meanwhile
        with writing(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, _packed(annotations, key))
    return annotations, key


def _content_hash(paths: Sequence[Path], tiers: Sequence[str]) -> str:
    content = hashlib.blake2b(repr((_FORM, *tiers)).encode(), digest_size=16)
    try:
        for path in paths:
            content.update(str(path).encode())
            content.update(path.read_bytes())
    except OSError:  # a folder, or unreadable: whoever reads it next says so
        return ""
    return content.hexdigest()


def _packed(annotations: Annotations, key: str) -> bytes:
    """The tables one after the other as Arrow streams, each marked with ``key``."""
    sink = pa.BufferOutputStream()
    for name in _TABLES:
        table = pa.Table.from_pandas(getattr(annotations, name), preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"key": key.encode()})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _load(kept: Path, key: str) -> Annotations | None:
    """The annotations kept there if they are complete and marked with ``key``."""
    tables: dict[str, pd.DataFrame] = {}
    try:
        source = pa.BufferReader(kept.read_bytes())
        for name in _TABLES:
            table = pa.ipc.open_stream(source).read_all()
            if (table.schema.metadata or {}).get(b"key") != key.encode():
                return None
            tables[name] = table.to_pandas()
    except (OSError, pa.ArrowInvalid):  # absent or damaged: it is made anew
        return None
    return Annotations(**tables)
