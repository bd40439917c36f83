"""Train's form: it follows from the method's config class, so a new method needs no line here."""

import streamlit as st

from pages import shared
from tal_core.models.registry import METHODS
from tal_core.training import launch
from tal_core.training.config import FormField, build_config, form_fields
from tal_core.training.machine import describe_machine
from tal_core.training.run import ACTIVE, create_run

FIRST_FIELDS = ("epochs", "batch_size", "learning_rate", "validate_every", "seed", "device")
"""Settings most people touch; the others wait in an expander."""


def field_widget(field: FormField, key: str):
    """The widget of one setting; returns its value."""
    if field.kind == "choice":
        options = [None, *field.choices] if field.optional else list(field.choices)
        return st.selectbox(
            field.label, options, options.index(field.default), key=key, help=field.help,
            format_func=lambda value: "none" if value is None else str(value),
        )  # fmt: skip
    if field.kind == "boolean":
        return st.toggle(field.label, field.default, key=key, help=field.help)
    if field.kind == "integer":
        step = max(1, 10 ** (len(str(field.default or 1)) - 2))
        return st.number_input(
            field.label, None, None, field.default, step=step, key=key, help=field.help,
            placeholder="none" if field.optional else None,
        )  # fmt: skip
    # Numbers are typed as text: 1e-4 and "none" stay as people write them, build_config says what is wrong.
    shown = field.default
    if isinstance(shown, list | tuple):
        shown = ", ".join(f"{value:g}" for value in shown)
    elif isinstance(shown, float):
        shown = f"{shown:g}"
    return st.text_input(
        field.label, "" if shown is None else shown, key=key, help=field.help,
        placeholder="none" if field.optional else None,
    )  # fmt: skip


def settings_form(method: str) -> dict:
    """All settings of a method: the common ones in front, the rest by group."""
    fields = form_fields(METHODS[method].config)
    front = [field for name in FIRST_FIELDS for field in fields if field.name == name]
    values = {}
    columns = st.columns(3)
    for position, field in enumerate(front):
        with columns[position % 3]:
            values[field.name] = field_widget(field, f"set:{method}:{field.name}")
    rest = [field for field in fields if field not in front]
    with st.expander(f"All {len(fields)} settings", icon=":material/tune:"):
        groups = list(dict.fromkeys(field.group for field in rest))
        for group, tab in zip(groups, st.tabs(groups), strict=True):
            with tab:
                columns = st.columns(3)
                for position, field in enumerate(f for f in rest if f.group == group):
                    with columns[position % 3]:
                        values[field.name] = field_widget(field, f"set:{method}:{field.name}")
    return values


def show_new() -> None:
    """Choose, set, start."""
    left, right = st.columns(2)
    with left:
        data = shared.pick_dataset()
    with right:
        method = shared.pick("Method", list(METHODS), "method", format_func=lambda name: METHODS[name].title)
    st.caption(f"{METHODS[method].summary} *{METHODS[method].reference}*")
    training, evaluating = data.videos(data.training_subset), data.videos(data.evaluation_subset)
    st.caption(
        f"Trains on {len(training)} usable videos of “{data.training_subset}”, measures mAP on "
        f"{len(evaluating)} of “{data.evaluation_subset}” at {shared.tiou_text(data.tiou)}. "
        f"Device “auto” is {describe_machine(shared.home()).device}."
    )
    warn_of_others()
    with st.form("new_training"):
        settings = settings_form(method)
        name = st.text_input(
            "Name of the run (optional)", key="run_name", placeholder="made from dataset, method and time"
        )
        start = st.form_submit_button("Start training", type="primary", icon=":material/play_arrow:")
    if start:
        with shared.guard(stop=False):
            config = build_config(method, settings)
            run = create_run(shared.home(), data.name, method, config, run_id=name.strip() or None)
            launch.start(shared.home(), run)
            shared.remember("run", [run.run_id])
            shared.remember("panel", ["Watch a run"])
            st.rerun()


def warn_of_others() -> None:
    """Two trainings share cores and memory: say so before a second one is started."""
    for run in shared.runs_of():
        with shared.guard(stop=False):
            if run.status()["state"] in ACTIVE:
                st.warning(
                    f"**{run.run_id}** is training now. A second training shares the device with it: both "
                    "get slower, and memory may run out.",
                    icon=":material/hourglass_top:",
                )
