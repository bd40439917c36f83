"""What may be opened as a stream: files, cameras and network addresses; all else is refused in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from tal_core.types import InputError

NETWORK = ("rtmp", "rtmps", "rtsp", "rtsps", "http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CAMERA = re.compile(r"(?:camera:|/dev/video)(\d{1,3})")
_KNOWN = "Give a file, camera:0, or an address that begins with rtmp://, rtsp://, http:// or https://."


@dataclass(frozen=True)
class Address:
    """A source of pictures: ``target`` is what FFmpeg opens; ``shown`` is free of passwords and tokens."""

    kind: Literal["file", "camera", "network"]
    target: str
    shown: str
    scheme: str = ""


def read_address(text: str, allowed: Sequence[Path] | None = None) -> Address:
    """Check what a person or a client gave as source.

    ``allowed``: folders that a remote party may read files from; None lets any file be read.

    Raises:
        InputError: for anything but an existing file, a camera, or a network address of a known kind.
    """
    text = text.strip()
    if not text:
        raise InputError("no source is given", hint=_KNOWN)
    if len(text) > 2000 or any(ord(letter) < 32 for letter in text):
        raise InputError("is too long, or holds control characters", where="the source", hint=_KNOWN)
    if camera := _CAMERA.fullmatch(text):
        device = f"/dev/video{camera[1]}"
        return Address("camera", device, f"camera:{camera[1]}")
    if scheme := _SCHEME.match(text):
        return _network(text, scheme[1].lower())
    return _file(text, allowed)


def registered_folders(home: Path) -> list[Path]:
    """What a remote party may read: the workspace and the video folders of its datasets."""
    from tal_core.data.dataset.entry import list_datasets  # loads pandas

    return [home, *(entry.videos for entry in list_datasets(home) if entry.videos)]


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment; where they were there are dots."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = "…@" if "@" in parts.netloc else ""
    return urlunsplit((parts.scheme, user + host, parts.path, "…" if parts.query else "", ""))


def _network(text: str, scheme: str) -> Address:
    if scheme == "file":
        raise InputError("file: addresses are not opened", where=text[:80], hint="Give the path itself.")
    if scheme not in NETWORK:
        hint = f"{_KNOWN} A file whose name has a colon: put ./ in front."
        raise InputError(f"{scheme!r} is not a kind of source", where=text[:80], hint=hint)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
        shown = without_secrets(text)
    except ValueError:
        host, shown = None, f"{scheme}:…"
    if not host or not text[len(scheme) :].startswith("://") or re.search(r"\s", text):
        hint = f"It should look like {scheme}://host/path."
        raise InputError("is not a complete address", where=shown[:80], hint=hint)
    return Address("network", scheme + text[len(scheme) :], shown, scheme)


def _file(text: str, allowed: Sequence[Path] | None) -> Address:
    missing = InputError("there is no such file", where=text[:200], hint=f"Check the path. {_KNOWN}")
    try:
        path = Path(text).expanduser().resolve()
        if allowed is not None and not any(path.is_relative_to(Path(root).resolve()) for root in allowed):
            hint = "Register the folder as the videos of a dataset, or choose a file in the workspace."
            raise InputError("lies outside the registered folders", where=text[:200], hint=hint)
        if not path.is_file():
            raise missing
    except (OSError, RuntimeError):  # a name too long, a ring of links, nobody's home
        raise missing from None
    return Address("file", str(path), path.name if allowed is not None else text)
