"""Where a person's datasets and runs are kept, and safe ways to write there."""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tal_core.types import InputError

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries them inside the package; in a checkout they lie beside it.
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
DEMO = ASSETS / "demo"

MOST_LETTERS = 80  # of a name
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_LETTERS - 1}}}")


def home() -> Path:
    """The workspace folder: ``TAL_HOME``, or ``./workspace``."""
    return Path(os.environ.get("TAL_HOME") or "workspace").expanduser().resolve()


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can safely be a file name.

    Raises:
        InputError: for anything but letters, digits, ``.``, ``_`` and ``-`` (80 at most).
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} can't be the name of a {what}",
            hint="Use up to 80 letters, digits, '.', '_' or '-', starting with a letter or digit.",
        )
    return name


def numbered(name: str, joint: str = "-", start: int = 2) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3`` and so on, cut so that each can be a name; for a free one."""
    if start > 1:
        yield name[:MOST_LETTERS]
    for number in itertools.count(start):
        yield name[: MOST_LETTERS - len(f"{joint}{number}")] + f"{joint}{number}"


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into an ``InputError`` that names the place."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"can't be written ({error.strerror or error})",
            where=where,
            hint="Free some space, check the folder's permissions, or set TAL_HOME to another folder.",
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically: readers see the old content or the new, never a part.

    The folder must exist, so that a run deleted while it trains doesn't come back.

    Raises:
        InputError: if the folder is gone or can't be written to.
    """
    with writing(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` as ``write_bytes`` does, making its folder if need be. Raises the same."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. Raises as ``write_text``."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
