"""The progress of background work, as pages show it."""

import streamlit as st

from pages.common import notices, readable
from tal_core.background.job_folder import JobFolder


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


def show_cancel(job: JobFolder, status: dict, key: str | None = None) -> None:
    """The button that ends a job."""
    stopping = status["state"] == "stopping"
    st.button(
        "Cancel", icon=":material/stop:", key=key, disabled=stopping, on_click=request_stop, args=(job,)
    )


def request_stop(job: JobFolder) -> None:
    """Ask a job to stop; it may have ended by itself meanwhile."""
    with notices.guard(stop=False):
        job.request_stop()


def show_failure(status: dict, log: str) -> None:
    """Why the work ended early, and what its process said."""
    if status.get("error"):
        st.error(status["error"], icon=":material/error:")
    if log:
        with st.expander("Log", icon=":material/terminal:"):
            st.code(log, language=None)
