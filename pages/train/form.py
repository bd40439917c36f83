"""Train's form: it follows from the method's config class, so a new method needs no line here."""

from typing import Any

import streamlit as st

from pages.common import address, loaders, notices, pickers, readable
from pages.common.schema_form import field_widget, shown_value
from pages.train import advice
from tal_core.models.data_summary import summarise
from tal_core.models.method import Suggestion
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config, form_fields
from tal_core.models.suggested_settings import AUTO
from tal_core.runs.run import ACTIVE, create_run
from tal_core.schema import SchemaField
from tal_core.training import launch
from tal_core.training.machine import describe_machine

FIRST_FIELDS = ("epochs", "batch_size", "learning_rate", "validate_every", "seed", "device")
"""Settings most people touch; the others wait in an expander."""


def fill(method: str, filled_by: tuple[str, ...], chosen: dict[str, Suggestion]) -> list[SchemaField]:
    """Put defaults and chosen settings into the form, once for each dataset, method and preset."""
    fields = form_fields(METHODS[method].config)
    anew = st.session_state.get("filled_by") != filled_by
    for field in fields:
        key = f"set:{method}:{field.name}"
        if anew or key not in st.session_state:
            value = chosen[field.name].value if field.name in chosen else field.default
            st.session_state[key] = shown_value(field, value)
    st.session_state["filled_by"] = filled_by
    return fields


def settings_form(method: str, fields: list[SchemaField], reasons: dict[str, Suggestion]) -> dict[str, Any]:
    """All settings of a method: the common ones in front, the rest by group; ``reasons`` stand beneath."""
    front = [field for name in FIRST_FIELDS for field in fields if field.name == name]
    rest = [field for field in fields if field not in front]
    values = {}

    def grid(shown: list[SchemaField]) -> None:
        for first in range(0, len(shown), 3):
            for column, field in zip(st.columns(3), shown[first : first + 3], strict=False):
                with column:
                    value = values[field.name] = field_widget(field, f"set:{method}:{field.name}")
                    reason = advice.reason_text(field.name, value, reasons)
                    if reason:
                        st.caption(f":material/auto_awesome: {reason}")

    grid(front)
    with st.expander(f"All {len(fields)} settings", icon=":material/tune:"):
        groups = list(dict.fromkeys(field.group for field in rest))
        for group, tab in zip(groups, st.tabs(groups), strict=True):
            with tab:
                grid([field for field in rest if field.group == group])
    return values


def show_new() -> None:
    """Choose, set, start."""
    left, middle, right = st.columns(3)
    with left:
        data = pickers.pick_dataset()
    with middle:
        method = address.pick(
            "Method",
            list(METHODS),
            "method",
            resets=("preset",),
            format_func=lambda name: METHODS[name].title,
        )
    with right:
        preset = advice.pick_preset(method)
    st.caption(f"{METHODS[method].summary} *{METHODS[method].reference}*")
    training, evaluating = data.videos(data.training_subset), data.videos(data.evaluation_subset)
    st.caption(
        f"Trains on {len(training)} usable videos of “{data.training_subset}”, measures mAP on "
        f"{len(evaluating)} of “{data.evaluation_subset}” at {readable.tiou_text(data.tiou)}. "
        f"Device “auto” is {describe_machine(loaders.home()).device}."
    )
    warn_of_others()
    summary = summarise(data)
    chosen = advice.chosen_settings(method, preset, summary)
    fields = fill(method, (data.name, method, preset), chosen)
    with st.form("new_training"):
        settings = settings_form(method, fields, chosen if preset == AUTO else {})
        name = st.text_input(
            "Name of the run (optional)", key="run_name", placeholder="made from dataset, method and time"
        )
        config = None
        with notices.guard(stop=False):
            config = build_config(method, settings)
            advice.show_warnings(method, config, summary)
        with st.container(horizontal=True):
            start = st.form_submit_button("Start training", type="primary", icon=":material/play_arrow:")
            measure = st.form_submit_button(
                "Check and measure cost",
                icon=":material/speed:",
                help="Checks them against the data, then trains a few steps and detects in one video.",
            )
    if config is None:
        return
    advice.show_cost(data.name, method, config, measure)
    if start:
        with notices.guard(stop=False):
            run = create_run(loaders.home(), data.name, method, config, run_id=name.strip() or None)
            launch.start(loaders.home(), run)
            address.remember("run", [run.run_id])
            address.remember("panel", ["Watch a run"])
            st.rerun()


def warn_of_others() -> None:
    """Two runs share cores and memory: say so before a second one is started."""
    for run in pickers.runs_of():
        with notices.guard(stop=False):
            if run.status()["state"] in ACTIVE:
                st.warning(
                    f"**{run.run_id}** is training now. A second run shares the device with it: both "
                    "get slower, and memory may run out.",
                    icon=":material/hourglass_top:",
                )
