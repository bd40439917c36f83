"""The progress of background work, as pages show it."""

from pathlib import Path

import streamlit as st

from pages.common import notices, readable
from tal_core.background import job


def show_progress(status: dict, title: str = "") -> None:
    """A bar with state, what is being done and the time left; without a known share a line with a spinner."""
    state = status["state"]
    parts = [f"{readable.STATE_MARKS.get(state, '')} **{title or state}**", status.get("message") or ""]
    eta = status.get("eta_seconds")
    if eta is not None:
        parts.append(f"about {readable.seconds_text(eta)} left")
    total = status.get("total")
    share = min(1.0, (status.get("done") or 0) / total) if total else 0.0
    st.progress(1.0 if state == "finished" else share, text=" · ".join(part for part in parts if part))


def show_cancel(folder: Path, status: dict, key: str | None = None) -> None:
    """The button that ends the work of a folder."""
    stopping = status["state"] == "stopping"
    st.button("Cancel", icon=":material/stop:", key=key, disabled=stopping, on_click=cancel, args=(folder,))


def cancel(folder: Path) -> None:
    """Ask the work of a folder to end."""
    with notices.guard(stop=False):
        job.request_stop(folder)


def show_failure(status: dict, log: str) -> None:
    """Why the work ended early, and what its process said."""
    if status.get("error"):
        st.error(status["error"], icon=":material/error:")
    if log:
        with st.expander("Log", icon=":material/terminal:"):
            st.code(log, language=None)
