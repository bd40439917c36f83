"""Where a person's datasets and runs are kept, and safe ways to write there."""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tal_core.types import InputError

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries them inside the package; in a checkout they lie beside it.
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
DEMO = ASSETS / "demo"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


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


@contextmanager
def writing(where: Path):
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
