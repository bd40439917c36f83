"""Train's advice: where the settings come from, what will go badly with them, what they cost."""

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices, readable
from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Suggestion
from tal_core.models.registry import METHODS
from tal_core.models.settings import form_fields
from tal_core.models.suggested_settings import AUTO, choose, preset_titles, warnings
from tal_core.schema import to_text
from tal_core.training import profile

COST_SECONDS = 60
"""After so long a measurement is given up."""


def pick_preset(method: str) -> str:
    """Where the settings come from."""
    titles = preset_titles(method)
    return address.pick(
        "Settings from",
        list(titles),
        "preset",
        format_func=titles.get,
        help="Auto derives them from this dataset's own durations, stride and sizes; published ones are those"
        " of a repository for its dataset. Every value can be changed below.",
    )


def chosen_settings(method: str, preset: str, summary: DataSummary) -> dict[str, Suggestion]:
    """What the preset sets, with a table of it and of the reasons."""
    with notices.guard():
        chosen = choose(method, preset, summary)
    if not chosen:
        if preset == AUTO:
            st.caption("This method derives nothing from the data: these are its defaults.")
        return chosen
    defaults = {field.name: field.default for field in form_fields(METHODS[method].config)}
    rows = [
        {"setting": name, "value": to_text(value), "default": to_text(defaults[name]), "because": reason}
        for name, (value, reason) in chosen.items()
    ]
    title = "Chosen for this dataset, because" if preset == AUTO else "What this preset sets"
    with st.expander(f"{title} ({len(rows)} settings)", icon=":material/auto_awesome:"):
        table = pd.DataFrame(rows)
        if preset != AUTO:
            st.caption(f"From {rows[0]['because']}")
            table = table.drop(columns="because")
        st.dataframe(table, hide_index=True, height="content", column_config={"because": {"width": "large"}})
    return chosen


def reason_text(name: str, value: object, chosen: dict[str, Suggestion]) -> str | None:
    """The line beneath a field: why auto chose its value, and which one if it was changed."""
    if name not in chosen:
        return None
    picked, reason = chosen[name]
    as_chosen = to_text(value).replace(" ", "") == to_text(picked) or value == picked
    return reason if as_chosen else f"Auto: {to_text(picked)} – {reason}"


def show_warnings(method: str, config: MethodConfig, summary: DataSummary) -> None:
    """What will go badly, above the start button."""
    found = warnings(METHODS[method], config, summary)
    if found:
        st.warning("\n".join(f"- {text[:1].upper()}{text[1:]}" for text in found), icon=":material/rule:")


def show_cost(dataset: str, method: str, config: MethodConfig, measure: bool) -> None:
    """The measured cost of the settings; measures it now, or shows what was measured for them before."""
    key = (dataset, method, config.model_dump_json())
    if measure:
        with (
            st.spinner("Measuring: a few training steps and one video", show_time=True),
            notices.guard(stop=False),
        ):
            cost = profile.measure_apart(loaders.home(), dataset, method, config, limit=COST_SECONDS)
            st.session_state["cost"] = (key, cost)
    known, cost = st.session_state.get("cost", (None, None))
    if known != key:
        return
    size, work, memory, steps, speed, total = st.columns(6)
    size.metric("Parameters", f"{cost.parameters / 1e6:.2f} M", help="Weights that are trained.")
    work.metric(
        "GFLOPs per minute", f"{cost.gflops_per_minute:.3g}", help="To detect in a minute of video, in 10⁹."
    )
    memory.metric("Memory", f"{cost.memory_mb:,.0f} MB", help="The most that a training step takes.")
    steps.metric(
        "Training steps", f"{cost.steps_per_second:.3g} /s", help=f"With {cost.batch_size} samples a step."
    )
    speed.metric(
        "Detection",
        f"{cost.times_real_time:,.0f}×",
        help=f"Times real time: {cost.detection_seconds:.3g} s for a video of {cost.video_seconds:.0f} s.",
    )
    total.metric(
        "Whole training",
        readable.seconds_text(cost.training_seconds),
        help=f"Estimate for {cost.steps} steps and the last detections; validations come on top.",
    )
    st.caption(f"Measured on {cost.device} in {cost.precision}; other work on this machine slows it down.")
