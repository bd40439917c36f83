"""Reading a person's text files: plain or gzipped, with errors that name the file."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_core.types import InputError


def read_text(path: Path) -> str:
    """The text of ``path``, unpacked if its name ends in ``.gz``.

    Raises:
        InputError: if the file is missing, empty, damaged or not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("no such file", where=path, hint="Check the path.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"damaged gzip file ({error})", where=path, hint="Copy it again.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"not a UTF-8 text file ({error.reason})", where=path, hint="Save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error})", where=path) from error
    if not text.strip():
        raise InputError("the file is empty", where=path, hint="Copy or write it again.")
    return text


def suffix(path: Path) -> str:
    """Lower-case file ending without a closing ``.gz``: ``.json`` for ``a.JSON.gz``."""
    path = Path(path)
    return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; a key that stands twice in one object is an error, not overwritten.

    Raises:
        InputError: if the file can't be read, isn't complete JSON, or repeats a key.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(
                f"{twice!r} is there twice", where=path, hint="Merge the two entries, or remove one of them."
            )
        return value

    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not complete JSON: line {error.lineno}, column {error.colno}: {error.msg}",
            where=path,
            hint="The file may be cut off; copy it again.",
        ) from error
    except RecursionError:
        raise InputError("JSON nested too deeply", where=path) from None


def read_columns(
    path: Path, aliases: Mapping[str, tuple[str, ...]], required: tuple[str, ...]
) -> pd.DataFrame:
    """A CSV file's known columns as text, under our names; empty cells are ``""``.

    Columns may be separated by comma, semicolon or tab. ``aliases`` maps our column names to the other
    names they go by (lower case).

    Raises:
        InputError: if the file isn't a table or a ``required`` column is missing.
    """
    text = read_text(path)
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, ValueError) as error:
        raise InputError(
            f"not a table: {error}", where=path, hint="Check the separators and quotes."
        ) from error
    names = {str(column).strip().lower(): column for column in table.columns}
    found = {}
    for column, others in aliases.items():
        name = next((n for n in (column, *others) if n in names), None)
        if name is not None:
            found[column] = table[names[name]].str.strip()
        elif column in required:
            raise InputError(
                f"no column {column!r} (found {', '.join(map(str, table.columns))})",
                where=path,
                hint=f"Add it; it may also be called {', '.join(others)}." if others else "Add it.",
            )
    return pd.DataFrame(found)


def numbers(table: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    """A text column of ``table`` as float64; empty cells are NaN.

    Raises:
        InputError: naming the first line whose cell is no number.
    """
    text = table[column]
    values = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(values) & ~text.str.lower().isin(("", "nan")).to_numpy()
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"line {line + 2}: {column} is {text.iloc[line]!r}, not a number",
            where=path,
            hint="Write it as 12.3.",
        )
    return values


def check_segments(table: pd.DataFrame, path: Path, entry: Callable[[int], str]) -> None:
    """Check that times (and scores) are finite and that no segment ends before it starts.

    ``entry(row)`` says where in the file a row stands.

    Raises:
        InputError: naming file, video and field of the first offender.
    """
    for column in ("start", "end", "score"):
        if column not in table:
            continue
        wrong = ~np.isfinite(table[column].to_numpy())
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"{entry(row)}: {column} is {table[column].iloc[row]}, not a finite number",
                where=path,
                hint="Correct or remove the entry.",
            )
    wrong = (table["start"] > table["end"]).to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        segment = f"[{table['start'].iloc[row]}, {table['end'].iloc[row]}]"
        raise InputError(
            f"{entry(row)}: segment {segment} ends before it starts",
            where=path,
            hint="Swap the two times or remove the entry.",
        )
