"""Errors as boxes, long work as a bar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from tal_core.types import InputError, Progress


def show_error(error: InputError) -> None:
    """A box that says what is wrong, where, and how to fix it."""
    lines = [f"**{str(error.what).rstrip('.')}.**"]
    if error.where is not None:
        lines.append(f"Where: `{error.where}`")
    if error.hint:
        lines.append(f"What to do: {error.hint}")
    st.error("\n\n".join(lines), icon=":material/error:")


@contextmanager
def guard(*, stop: bool = True) -> Iterator[None]:
    """Show an ``InputError`` from the block as a box; then end the page, or with ``stop=False`` go on."""
    try:
        yield
    except InputError as error:
        show_error(error)
        if stop:
            st.stop()


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Give the block a ``Progress`` that draws a bar, once the work has taken half a second."""
    place, begin, last = st.empty(), time.monotonic(), 0.0

    def report(done: int, total: int, message: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - begin < 0.5 or (now - last < 0.1 and done < total):
            return
        last = now
        text = f"{title}: {message}" if message else title
        place.progress(min(done / total, 1.0) if total else 0.0, text=text)

    try:
        yield report
    finally:
        place.empty()
