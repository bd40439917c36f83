"""Add data, from videos: the extractions of the workspace, followed while they run."""

import pandas as pd
import streamlit as st

from pages.common import address, job_progress, loaders, navigation, notices, readable
from tal_core.types import InputError
from tal_core.video.extraction import jobs

KEY = "job"
RESUMABLE = ("stopped", "failed", "killed")


def show() -> None:
    """The chosen extraction, newest first."""
    known = {job.name: job for job in jobs.list_jobs(loaders.home())}
    if not known:
        return
    st.subheader("Extractions", anchor=False)
    chosen = address.pick("Extraction", list(known), KEY, format_func=lambda key: title(known[key]))
    with notices.guard(stop=False):
        active = known[chosen].active
        st.fragment(watch, run_every=1 if active else None)(known[chosen], active)


def title(job: jobs.ExtractionJob) -> str:
    """The dataset (or folder), the extractor and when."""
    try:
        request = job.request()
        name = (request.get("dataset") or {}).get("name") or request["out"]
        return f"{name} · {request['spec']['name']} · {job.name} · {job.status()['state']}"
    except (InputError, KeyError):
        return job.name


def watch(job: jobs.ExtractionJob, polling: bool) -> None:
    """Redrawn every second while it runs."""
    with notices.guard():
        status, request = job.status(), job.request()
    state = status["state"]
    if polling and state not in jobs.ACTIVE:
        st.rerun()
    total = status.get("seconds_total") or 0
    done = (status.get("seconds_done") or 0) / total if total else 0.0
    parts = [f"{readable.STATE_MARKS.get(state, '')} **{state}**"]
    parts.append(f"{status.get('done', 0)} of {status.get('total', 0)} videos")
    if total and state in jobs.ACTIVE:
        parts.append(f"{readable.seconds_text(status.get('seconds_done'))} of {readable.seconds_text(total)}")
    if status.get("eta_seconds") is not None:
        parts.append(f"about {readable.seconds_text(status['eta_seconds'])} left")
    if status.get("message"):
        parts.append(status["message"])
    st.progress(1.0 if state == "finished" else min(1.0, done), text=" · ".join(parts))
    if status.get("error"):
        st.error(status["error"], icon=":material/error:")
    show_buttons(job, state, request)
    show_problems(status)
    if state in ("failed", "killed"):
        with st.expander("Log", icon=":material/terminal:"):
            st.code(job.log_tail() or "Nothing logged.", language=None)


def show_buttons(job: jobs.ExtractionJob, state: str, request: dict) -> None:
    """Stop, resume, or go on with the dataset."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if state in jobs.ACTIVE:
            st.button(
                "Stop",
                icon=":material/stop:",
                key="stop_job",
                disabled=state == "stopping",
                help="What is done stays; resume goes on with the next video.",
                on_click=job_progress.request_stop,
                args=(job,),
            )
            st.caption("It goes on when you close the browser or the studio.")
        if state in RESUMABLE and st.button(
            "Resume", icon=":material/play_arrow:", key="resume_job", type="primary"
        ):
            with notices.guard():
                jobs.resume(loaders.home(), job)
                st.rerun()
        name = (request.get("dataset") or {}).get("name")
        if state == "finished" and name:
            st.markdown(f"Dataset **{name}** is ready.")
            navigation.link("explore", "Explore it", dataset=name, view="Dataset")
            query = {"dataset": name, "panel": "New training"}
            navigation.link("train", "Train on it", **query)


def show_problems(status: dict) -> None:
    """Videos that were damaged or couldn't be used."""
    problems = status.get("problems") or {}
    if problems:
        with st.expander(f"{len(problems)} videos with problems", icon=":material/warning:", expanded=True):
            rows = pd.DataFrame(problems.items(), columns=["video", "problem"])
            st.dataframe(rows, hide_index=True, alt="Videos with problems and what is wrong with each")
