"""Choices live in the address bar, so that a link shares a view, and in the session for the other pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st


def choice(key: str) -> list[str] | None:
    """What the address bar says for ``key`` (several values: the key several times), else what this session
    chose before, else None."""
    if key in st.query_params:
        return [text for text in st.query_params.get_all(key) if text]
    return st.session_state.get(f"choice:{key}")


def remember(key: str, values: Sequence[Any]) -> None:
    """Put a choice into the address bar (so that a link shares it) and the session (so pages keep it)."""
    texts = [str(value) for value in values]
    shown = texts or [""]  # nothing chosen is a choice, too
    if st.query_params.get_all(key) != shown:
        st.query_params[key] = shown
    st.session_state[f"choice:{key}"] = texts


def forget(*keys: str) -> None:
    """Drop choices that no longer make sense, such as the video after another dataset was chosen."""
    for key in keys:
        st.query_params.pop(key, None)
        st.session_state.pop(f"choice:{key}", None)


def pick(
    label: str,
    options: Sequence[str],
    key: str,
    *,
    default: Sequence[str] = (),
    kind: Literal["selectbox", "multiselect", "segmented_control", "select_slider"] = "selectbox",
    resets: Sequence[str] = (),
    place: Any = None,
    **widget: Any,
) -> Any:
    """A widget whose choice lives in the address bar under ``key``: one option, or a list (multiselect).

    A link that asks for something that isn't there gets a warning and the default. Choosing something
    else drops the choices named in ``resets``.
    """
    multiple = kind == "multiselect"
    asked = choice(key)
    known = [value for value in (default if asked is None else asked) if value in options]
    missing = [value for value in asked or () if value not in options and key in st.query_params]
    if missing:
        names = ", ".join(f"`{value}`" for value in missing)
        st.warning(f"The link asks for {label.lower()} {names}, which isn't here. Choose another one.")
    if not known and options and not multiple:
        known = [next((d for d in default if d in options), options[0])]
    widget_key = f"pick:{key}"
    st.session_state[widget_key] = known if multiple else (known[0] if known else None)

    def changed() -> None:
        value = st.session_state[widget_key]
        remember(key, value if multiple else [value] if value is not None else [])
        forget(*resets)

    chosen = getattr(place or st, kind)(label, options, key=widget_key, on_change=changed, **widget)
    remember(key, chosen if multiple else [chosen] if chosen is not None else [])
    return chosen
