"""Train's view of a run: everything on screen is read from the run's folder, so nothing is lost."""

import time
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, job_progress, loaders, navigation, notices, pickers, readable
from tal_core.plots import training as plots
from tal_core.runs.run import ACTIVE, Run, open_run
from tal_core.training import launch

RESUMABLE = ("created", "stopped", "failed", "killed")
NOTES = {
    "created": "Not started yet.",
    "stopping": "Stopping after this step; a checkpoint is written first.",
    "stopped": "Stopped with a checkpoint: resuming continues with the very next step.",
}


def show_watch() -> None:
    """Follow one run; polls only while it is active."""
    runs = {run.run_id: run for run in pickers.runs_of()}
    if not runs:
        st.info("No run yet. Start one under “New training”.")
        return
    run_id = address.pick(
        "Run", list(runs), "run", format_func=lambda run_id: pickers.run_title(runs[run_id])
    )
    with notices.guard():
        state = open_run(loaders.home(), run_id).status()["state"]
    polling = state in (*ACTIVE, "created")
    st.fragment(watch, run_every=1 if polling else None)(run_id, polling)


def watch(run_id: str, polling: bool) -> None:
    """The live part of the page. Redrawn every second without the rest."""
    with notices.guard():
        run = open_run(loaders.home(), run_id)
        config, status, metrics = run.config(), run.status(), run.metrics()
    if polling and status["state"] not in (*ACTIVE, "created"):
        st.rerun()  # the whole page once: the picker names the new state, and polling ends
    # A place of its own for each part, so that one which grows never pushes another through the page.
    with st.container():
        show_status(run, config, status)
    show_numbers(status, metrics)
    with st.container():
        show_charts(config, metrics)
    failed = status["state"] in ("failed", "killed")
    with st.expander("Log", expanded=failed, icon=":material/terminal:"), notices.guard(stop=False):
        st.code(run.log_tail(40) or "Nothing logged yet.", language=None)
    with st.expander("Settings of this run", icon=":material/tune:"):
        st.json(config)


def show_status(run: Run, config: dict[str, Any], status: dict[str, Any]) -> None:
    """State, progress, and the buttons that make sense now."""
    state = status["state"]
    eta = status.get("eta_seconds")
    text = f"{readable.STATE_MARKS.get(state, '')} **{state}** · {config['model']} on {config['dataset']}"
    doing = f"epoch {status.get('epoch') or 0} of {status.get('epochs')}"
    text += f" · {status.get('message') or doing if state in ACTIVE else doing}"
    if state in ACTIVE and eta is not None:
        text += f" · about {readable.seconds_text(eta)} left"
    if state in ACTIVE and status.get("heartbeat"):
        silent = time.time() - status["heartbeat"]
        text += f" · last sign of life {readable.seconds_text(silent)} ago" if silent > 15 else ""
    done = (status.get("step") or 0) / (status.get("steps") or 1)
    st.progress(1.0 if state == "finished" else min(done, 1.0), text=text)
    if status.get("error"):
        st.error(f"**The run ended early.** {status['error']}", icon=":material/error:")
    elif state in NOTES or state == "finished":
        st.caption(NOTES.get(state) or status.get("message") or "Finished.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if state == "running":
            st.button(
                "Stop",
                icon=":material/stop:",
                key="stop",
                help="Writes a checkpoint.",
                on_click=job_progress.request_stop,
                args=(run,),
            )
        may_resume = state in RESUMABLE and not run.shipped
        label = "Start" if state == "created" else "Resume"
        if may_resume and st.button(label, icon=":material/play_arrow:", key="resume", type="primary"):
            with notices.guard():
                launch.start(loaders.home(), run)
                st.rerun()
        if run.detections_file.exists():
            query = {"run": run.run_id, "dataset": config["dataset"]}
            navigation.link("timeline", "See its mistakes on the timeline", **query)
            navigation.link("evaluate", "Evaluate", **query)


def show_numbers(status: dict, metrics: pd.DataFrame) -> None:
    """The latest figures, with what they mean."""
    steps = plots.steps(metrics)
    last = steps.iloc[-1] if len(steps) else pd.Series(dtype=float)
    average, _ = plots.validation_tables(metrics) if plots.has_rows(metrics, "validation") else (None, None)
    loss, best, speed, memory, left = st.columns(5)
    loss.metric(
        "Loss",
        f"{last['loss']:.4g}" if "loss" in last else "–",
        help="Of the last logged step; lower is better.",
    )
    best.metric(
        "Best average mAP",
        f"{average['mAP'].max():.1f} %" if average is not None else "–",
        help="Of all validations, on the evaluation subset; average over the tIoU thresholds of the chart.",
    )
    speed.metric(
        "Throughput", reading(last, "samples_per_second", "{:,.0f} /s"), help="Training samples a second."
    )
    memory.metric(
        "Memory", reading(last, "memory_mb", "{:,.0f} MB"), help="Of the training process, or the GPU's."
    )
    left.metric(
        "Time left",
        readable.seconds_text(status.get("eta_seconds")),
        help="Estimated from the epochs so far.",
    )


def reading(row: pd.Series, name: str, form: str) -> str:
    """A value of the last step, or a dash."""
    return form.format(row[name]) if name in row and pd.notna(row[name]) else "–"


def show_charts(config: dict, metrics: pd.DataFrame) -> None:
    """Loss and mAP, then the slower-changing curves."""
    if not plots.has_rows(metrics, "step"):
        st.info("The curves appear with the first logged step.")
        return
    left, right = st.columns(2)
    with left:
        st.subheader("Training loss", anchor=False)
        st.altair_chart(plots.loss_chart(metrics), key="loss", alt="Loss over optimisation steps")
        st.caption("Faint: single steps. Strong: moving average.")
    with right:
        st.subheader("Validation mAP", anchor=False)
        if plots.has_rows(metrics, "validation"):
            st.altair_chart(plots.validation_chart(metrics), key="validation", alt="mAP over epochs")
            st.caption(
                "On the evaluation subset. Orange: average over the thresholds. Blue: one line per tIoU."
            )
        else:
            every = config.get("validate_every")
            st.caption(
                f"Measured every {every} epochs."
                if every
                else "Switched off for this run (validate_every = 0)."
            )
    curves = [
        ("learning_rate", "learning rate"),
        ("samples_per_second", "samples per second"),
        ("memory_mb", "memory (MB)"),
    ]
    curves = [(column, title) for column, title in curves if plots.has_rows(metrics, "step", [column])]
    if curves:
        for place, (column, title) in zip(st.columns(len(curves)), curves, strict=True):
            place.altair_chart(plots.curve_chart(metrics, column, title), key=column, alt=title)
