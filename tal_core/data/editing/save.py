"""Edited ground truth as a new annotation file, and the dataset that uses it.

Nothing that exists is overwritten: the file is new, the one before stays where it is and is remembered in the
dataset's entry, so that one can go back to it. Beside the file ``<name>.changes.json`` says what changed,
when, and from which file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tal_core.data.dataset.dataset import Dataset, open_entry
from tal_core.data.dataset.entry import AnnotationSource, DatasetEntry, load_entry, save_entry
from tal_core.data.editing.changes import Edits, as_rows
from tal_core.data.formats.annotations import read_annotations, write_annotations
from tal_core.types import Annotations, InputError
from tal_core.workspace import check_name, write_json, writing

ENDINGS = (".json", ".csv")


def annotations_folder(home: Path) -> Path:
    return home / "annotations"


def suggest_name(home: Path, dataset: str, ending: str = ".json") -> str:
    """A file name that is free: ``<dataset>-edited.json``, then ``-edited-2`` and so on."""
    folder, number = annotations_folder(home), 1
    while True:
        name = f"{dataset[:60]}-edited{'' if number == 1 else f'-{number}'}{ending}"
        if not (folder / name).exists():
            return name
        number += 1


def save_edited(
    home: Path, dataset: Dataset, edits: Edits, file_name: str, *, use: bool = True
) -> tuple[Path, DatasetEntry]:
    """Write the ground truth with ``edits`` as a new annotation file; with ``use`` the dataset takes it.

    Subsets that a split decided are written down, so that corrected labels move no video to another subset.
    Returns the file and the entry that now counts.

    Raises:
        InputError: for a name that is taken or can't be one, without changes, or if the file can't be used;
            then nothing is written and the dataset stays as it was.
    """
    if not edits.done:
        raise InputError("there are no changes to save", where=f"dataset {dataset.name}")
    target = annotations_folder(home) / _check_file_name(file_name)
    changes = target.with_name(f"{target.stem}.changes.json")
    for path in (target, changes):
        if path.exists():
            raise InputError("this file exists", where=path, hint="Choose another name; none is overwritten.")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    _write_new(_edited(dataset, edits), target)
    try:
        entry = dataset.entry
        read_annotations(target)
        if use:
            entry = _with_source(entry, AnnotationSource(annotations=target.resolve()))
            entry = open_entry(home, entry).entry
            save_entry(entry, home / "datasets" / f"{dataset.name}.toml")
        write_json(changes, _provenance(dataset, edits))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target, entry


def use_earlier(home: Path, name: str, annotations: Path) -> DatasetEntry:
    """Let a dataset take one of its earlier annotation files again; the present one is remembered instead.

    Raises:
        InputError: if the dataset never had this file, or it can't be used any longer.
    """
    entry = load_entry(home, name)
    source = next((one for one in entry.earlier if one.annotations == annotations), None)
    if source is None:
        raise InputError("not an earlier annotation file of this dataset", where=annotations)
    entry = open_entry(home, _with_source(entry, source)).entry
    save_entry(entry, home / "datasets" / f"{name}.toml")
    return entry


def _check_file_name(file_name: str) -> str:
    check_name(file_name, "annotation file")
    if Path(file_name).suffix not in ENDINGS or file_name.endswith(".changes.json"):
        raise InputError(
            f"{file_name!r} doesn't say the form", hint="Let it end in .json (ActivityNet) or .csv."
        )
    return file_name


def _edited(dataset: Dataset, edits: Edits) -> Annotations:
    before = dataset.annotations
    subset = dataset.index.set_index("video_id")["subset"]
    videos = before.videos.assign(subset=before.videos["video_id"].map(subset).fillna(""))
    return Annotations(edits.apply(before.ground_truth), videos, before.ambiguous)


def _write_new(annotations: Annotations, target: Path) -> None:
    """Claim the name, then put the whole file in its place: none is overwritten or seen half-written."""
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    with writing(target):
        target.touch(exist_ok=False)
    try:
        write_annotations(annotations, temporary)
        with writing(target):
            temporary.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _with_source(entry: DatasetEntry, source: AnnotationSource) -> DatasetEntry:
    """The entry with other annotations; the present ones become the first of the earlier ones."""
    fields = list(AnnotationSource.model_fields)
    present = AnnotationSource(**{field: getattr(entry, field) for field in fields})
    others: Sequence[AnnotationSource] = [
        one for one in entry.earlier if one.annotations not in (source.annotations, present.annotations)
    ]
    return entry.model_copy(
        update={**{field: getattr(source, field) for field in fields}, "earlier": [present, *others]}
    )


def _provenance(dataset: Dataset, edits: Edits) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "from": str(dataset.entry.annotations),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "changes": [
            {"change": change.kind, **row}
            for change, row in zip(edits.done, as_rows(edits.done), strict=True)
        ],
    }
