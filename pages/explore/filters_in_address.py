"""Explore's widgets that live in the address bar under their own keys, and leave nothing there when unset."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from pages.common import address


def kept(
    widget: Callable[..., Any], label: str, key: str, options: Sequence[str] | None = None, **more: Any
) -> Any:
    """A widget whose value lives in the address bar under ``key`` unless it is the usual one. Another value
    leads back to the first page."""
    name = f"explore_{key}"
    asked: Any = st.session_state[name] if name in st.session_state else address.choice(key)
    asked = asked if isinstance(asked, list) else [asked]
    usual: Any = None
    value: Any
    if widget.__name__ == "multiselect":
        usual, value = [], [label for label in asked if label in (options or ())]
    elif options is not None:
        usual, value = options[0], next((v for v in asked if v in options), options[0])
    elif widget.__name__ == "text_input":
        usual, value = "", str(asked[0] or "")
    else:
        value = asked[0] if isinstance(asked[0], float) else address_number(key)
    st.session_state[name] = value
    arguments = [label] if options is None else [label, list(options)]
    chosen = widget(*arguments, key=name, on_change=to_first_page, **more)
    in_address(key, [] if chosen == usual else chosen if isinstance(chosen, list) else [chosen])
    return chosen


def to_first_page() -> None:
    address.forget("page_number")


def in_address(key: str, values: Sequence[Any]) -> None:
    """Remember values; none leave nothing in the address bar."""
    if values:
        address.remember(key, values)
    else:
        address.forget(key)


def address_number(key: str) -> float | None:
    """The number that the address bar gives for ``key``; None for anything else."""
    try:
        value = float((address.choice(key) or [""])[0])
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
