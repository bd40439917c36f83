"""Which file a video id means: names differ by ActivityNet's ``v_`` and by a video's ending."""

from __future__ import annotations

from collections.abc import Container, Iterator

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")
PREFIX = "v_"


def without_prefix(video_id: str) -> str:
    """What ids with and without ``v_`` of one video share."""
    return video_id.removeprefix(PREFIX)


def with_or_without_prefix(video_id: str) -> str:
    """The other spelling of a video id: without ``v_`` if it has that, else with it."""
    return without_prefix(video_id) if video_id.startswith(PREFIX) else PREFIX + video_id


def find_name(video_id: str, names: Container[str]) -> str | None:
    """The name (without ending) among ``names`` that a video id stands for: the closest that is there."""
    return next((name for name in _spellings(video_id) if name in names), None)


def _spellings(video_id: str) -> Iterator[str]:
    yield video_id
    yield PREFIX + video_id
    yield video_id.removeprefix(PREFIX)
    stem, dot, ending = video_id.rpartition(".")
    if dot and f".{ending.lower()}" in VIDEO_SUFFIXES:
        yield stem
