"""ELAN annotation files (``.eaf``), one video each: tiers of annotations between time slots.

The standard library's parser fetches nothing from outside. What is left of XML's dangers, entities that
grow without end, needs a document type declaration, which no ``.eaf`` has: files with one are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tal_core.data.formats.annotation_tools import Mark, Read, VideoRow, number, skipped, tables, video_of
from tal_core.data.formats.files import read_text, suffix
from tal_core.types import InputError, finding

_UNALIGNED = "they have no time of their own (annotations of a dependent tier, or time slots without time)"


def is_elan(path: Path) -> bool:
    """Whether ``path`` is an ``.eaf`` file, or a folder that holds some."""
    return suffix(path) == ".eaf" or (path.is_dir() and next(_files(path), None) is not None)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.eaf*") if suffix(path) == ".eaf" and path.is_file())


def read_elan(path: Path) -> Read:
    """Segments, videos and findings of an ``.eaf`` file, or of all those in a folder and below.

    An annotation's text is its label; in a tier without any text the tier's name is. The video is the first
    media file named in the header, or else named like the ``.eaf``; times count from that file's start.

    Raises:
        InputError: if a file isn't a sound ``.eaf``.
    """
    files = sorted(_files(path)) if path.is_dir() else [path]
    marks: list[Mark] = []
    notes: list[dict] = []
    described: dict[str, Path] = {}
    for file in files:
        video_id, found = _read_file(file, notes)
        marks += found
        if video_id in described:
            detail = f"is annotated in {described[video_id].name} and in {file.name}; both are used"
            notes.append(finding("warning", "video twice", detail, video_id=video_id,
                                 advice="Remove one of them if they hold the same annotations."))  # fmt: skip
        described.setdefault(video_id, file)
    return tables(marks, [VideoRow(video) for video in described], path, notes)


def _read_file(path: Path, notes: list[dict]) -> tuple[str, list[Mark]]:
    root = _parse(path)
    video_id, shift = _video(root, path, notes)
    slots = {
        slot.get("TIME_SLOT_ID"): number(slot.get("TIME_VALUE"), "a time slot", path, f"video {video_id!r}")
        for slot in root.iter("TIME_SLOT")
        if slot.get("TIME_VALUE") is not None
    }
    marks: list[Mark] = []
    unaligned = empty = 0
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        aligned, without = _annotations(tier, slots)
        unaligned += without
        silent = bool(aligned) and not any(text for _, _, text in aligned)
        if silent:
            detail = f"the annotations of tier {name!r} have no text, so its name is their label"
            notes.append(finding("info", "labels", detail, video_id=video_id))
        for place, (start, end, text) in enumerate(aligned, 1):
            label = name if silent else text
            empty += not label
            where = f"tier {name!r}, annotation {place}"
            if label:
                marks.append(
                    Mark(video_id, start / 1000 + shift, end / 1000 + shift, label, name, f"{path}: {where}")
                )
    skipped(notes, {video_id: unaligned} if unaligned else {}, path, _UNALIGNED, "")
    hint = "Write a label into them in ELAN, or remove them."
    skipped(notes, {video_id: empty} if empty else {}, path, "their text is empty", hint)
    return video_id, marks


def _parse(path: Path) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text:
        raise InputError("has a document type declaration", where=path, hint="Save the file with ELAN again.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        hint = "The file may be cut off; copy it again, or save it with ELAN again."
        raise InputError(f"not complete XML ({error})", where=path, hint=hint) from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise InputError("not an ELAN file", where=path, hint="Give the .eaf file that ELAN saved.")
    units = next((header.get("TIME_UNITS") for header in root.iter("HEADER")), None)
    if units not in (None, "", "milliseconds"):
        raise InputError(f"its times are in {units}", where=path, hint="Save it with a newer ELAN.")
    return root


def _video(root: ElementTree.Element, path: Path, notes: list[dict]) -> tuple[str, float]:
    """The id of the annotated video, and seconds to add to ELAN's times to get those of the video.

    ``TIME_ORIGIN`` is how many milliseconds of the media file lie before ELAN's time 0.
    """
    media = [entry for entry in root.iter("MEDIA_DESCRIPTOR") if _address(entry)]
    films = [entry for entry in media if entry.get("MIME_TYPE", "").startswith("video")] or media
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    if not films:
        detail = f"{path.name} names no video, so the video is taken to be named {stem!r}, too"
        notes.append(finding("info", "video", detail, video_id=stem))
        return stem, 0.0
    video_id = video_of(_address(films[0])) or stem
    if len(films) > 1:
        others = ", ".join(video_of(_address(entry)) for entry in films[1:])
        detail = f"{path.name} shows several videos; the first one is used, not {others}"
        notes.append(finding("info", "video", detail, video_id=video_id))
    shift = number(films[0].get("TIME_ORIGIN") or 0, "TIME_ORIGIN", path, "MEDIA_DESCRIPTOR") / 1000
    if shift:
        detail = f"ELAN's time 0 is at {shift:g} s of the video ({path.name}); times are moved by that"
        notes.append(finding("info", "time origin", detail, video_id=video_id))
    return video_id, shift


def _address(media: ElementTree.Element) -> str:
    return (media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or "").strip()


def _annotations(
    tier: ElementTree.Element, slots: dict[str | None, float]
) -> tuple[list[tuple[float, float, str]], int]:
    """Start, end (milliseconds) and text of a tier's aligned annotations; the number of the others."""
    aligned, without = [], 0
    for annotation in tier.iter("ANNOTATION"):
        for entry in annotation:
            start, end = (slots.get(entry.get(f"TIME_SLOT_REF{place}")) for place in (1, 2))
            if start is None or end is None:
                without += 1
            else:
                text = entry.findtext("ANNOTATION_VALUE") or ""
                aligned.append((start, end, " ".join(text.split())))
    return aligned, without
