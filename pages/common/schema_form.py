"""Form fields of a pydantic class: what `tal_core.schema` says of a field decides its widget."""

from __future__ import annotations

from typing import Any

import streamlit as st

from tal_core.schema import SchemaField, to_text


def field_widget(field: SchemaField, key: str, *, label: str = "", placeholder: str | None = None) -> Any:
    """The widget of a field, whose value waits under ``key``, its default at first; returns what it holds.

    Numbers are typed as text: 1e-4 and "none" stay as people write them, ``validated`` says what is wrong.
    """
    if key not in st.session_state:
        st.session_state[key] = shown_value(field, field.default)
    label = label or field.label
    placeholder = placeholder or ("none" if field.optional else None)
    if field.kind == "choice":
        options = [None, *field.choices] if field.optional else list(field.choices)
        return st.selectbox(label, options, key=key, help=field.help, format_func=_choice_text)
    if field.kind == "boolean":
        return st.toggle(label, key=key, help=field.help)
    if field.kind == "integer":
        step = max(1, 10 ** (len(str(field.default or 1)) - 2))
        start: Any = None if field.optional else "min"
        return st.number_input(
            label, value=start, step=step, key=key, help=field.help, placeholder=placeholder
        )
    if field.kind in ("texts", "paths"):
        return st.text_area(
            f"{label}, one per line", key=key, help=field.help, placeholder=placeholder, height=90
        )
    return st.text_input(label, key=key, help=field.help, placeholder=placeholder).strip()


def shown_value(field: SchemaField, value: Any) -> Any:
    """A field's value as its widget holds it."""
    if field.kind in ("choice", "boolean", "integer"):
        return value
    if field.kind in ("texts", "paths"):
        return "\n".join(map(str, value or ()))
    return "" if value is None else to_text(value).replace(",", ", ")


def _choice_text(value: str | None) -> str:
    return "none" if value is None else value
