"""Overview: what is in the workspace, what is running, what to do next."""

from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import loaders, navigation, notices, pickers, readable, tables
from tal_core.data.dataset.entry import list_datasets, load_entry
from tal_core.data.dataset.health import counts
from tal_core.runs.run import Run
from tal_core.training.machine import describe_machine
from tal_core.types import InputError

MOST_CARDS = 6
RUN_COLUMNS = {
    "mAP": st.column_config.NumberColumn(
        "average mAP (%)", format="%.1f", help="Mean over classes and the tIoU thresholds beside it."
    ),
    "started": st.column_config.DatetimeColumn("started", format="D MMM YYYY, HH:mm"),
}
COLUMN_ORDER = ["run", "state", "dataset", "method", "mAP", "at", "on subset", "started", "problem"]


def show_dataset(name: str) -> None:
    """One card: how much there is, and where to go with it."""
    with st.container(border=True, height="stretch"):
        st.subheader(name, anchor=False)
        try:
            data = loaders.load_dataset(name)
        except InputError as error:
            notices.show_error(error)
            return
        size = counts(data)
        if data.entry.description:
            st.caption(data.entry.description)
        st.markdown(
            f"**{readable.number(size['videos'])}** videos · "
            f"**{readable.number(size['annotations'])}** segments · "
            f"**{size['classes']}** classes · **{size['hours']:.1f}** hours"
        )
        st.caption(
            f"Trains on {len(data.videos(data.training_subset))} usable videos of “{data.training_subset}”, "
            f"evaluates on {len(data.videos(data.evaluation_subset))} of “{data.evaluation_subset}”, "
            f"{readable.tiou_text(data.tiou)}."
        )
        unusable = size["videos"] - size["usable"]
        if unusable:
            st.warning(f"{readable.number(unusable)} videos have no usable features. Explore says why.")
        with st.container(horizontal=True):
            navigation.link("explore", "Explore", dataset=name)
            navigation.link("train", "Train", dataset=name, panel="New training")


def run_row(run: Run) -> dict[str, Any]:
    """One row of the table of runs; a run that can't be read says so."""
    row: dict[str, Any] = {"run": run.run_id, "state": "unreadable"}
    try:
        config, status, result = run.config(), run.status(), run.evaluation()
        state = status["state"]
        done = (status.get("step") or 0) / (status.get("steps") or 1)
        row |= {
            "state": state if state == "finished" else f"{state} ({done:.0%})",
            "dataset": config["dataset"],
            "method": config["model"],
        }
        if result is not None:
            row |= {"mAP": 100 * result.average_mAP, "at": readable.tiou_text(result.tiou)}
            row["on subset"] = loaders.load_dataset(config["dataset"]).evaluation_subset
        row["started"] = datetime.fromtimestamp(status["created"]) if status.get("created") else None
    except InputError as error:
        row["problem"] = str(error)
    return row


def show_runs() -> None:
    """All runs as a table, and where to go with the chosen one."""
    runs = pickers.runs_of()
    if not runs:
        st.info("No run yet. Train a first model: the demo takes about a minute on two CPU cores.")
        navigation.link("train", "Train a model")
        return
    table = pd.DataFrame([run_row(run) for run in runs])
    st.caption(
        "Newest first. mAP is measured on the subset named beside it, by the official ActivityNet / THUMOS "
        "protocol. Choose a row to go on with it."
    )
    position = tables.choose_row(
        table,
        "overview_runs",
        column_config=RUN_COLUMNS,
        column_order=COLUMN_ORDER,
        alt="Runs with state, dataset, method and average mAP",
    )
    chosen = table.iloc[position or 0]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Go on with **{chosen['run']}**:")
        query = {"run": chosen["run"], "dataset": chosen.get("dataset")}
        navigation.link("train", "Training curves", panel="Watch a run", **query)
        navigation.link("timeline", "Timeline", **query)
        navigation.link("evaluate", "Evaluate", **query)


def show_machine() -> None:
    """Device, memory and disk at a glance."""
    machine = describe_machine(loaders.home())
    device, cores, memory, disk = st.columns([2, 1, 1, 1])
    device.metric(
        "Trains on (device “auto”)",
        machine.device,
        help=f"PyTorch {machine.torch_version}. CUDA is taken first, then MPS, then the CPU.",
    )
    cores.metric("CPU cores", machine.cores)
    memory.metric("Memory free", f"{machine.memory_free:.1f} GiB", help=f"Of {machine.memory:.1f} GiB.")
    disk.metric("Disk free", f"{machine.disk_free:.0f} GiB", help=f"Where the workspace is: {loaders.home()}")


navigation.header(
    "Overview", "Find when actions happen in long videos: explore data, train a detector, see its mistakes."
)
names = [entry.name for entry in list_datasets(loaders.home())]
faulty = sorted({path.stem for path in (loaders.home() / "datasets").glob("*.toml")} - set(names))

st.header("Datasets", anchor=False)
columns = st.columns(min(3, max(1, len(names[:MOST_CARDS]))) if len(names) > 1 else 2)
for position, dataset_name in enumerate(names[:MOST_CARDS]):
    with columns[position % len(columns)]:
        show_dataset(dataset_name)
if len(names) > MOST_CARDS:
    st.caption(f"And {len(names) - MOST_CARDS} more: {', '.join(names[MOST_CARDS:])}.")
for dataset_name in faulty:
    with notices.guard(stop=False):
        load_entry(loaders.home(), dataset_name)
with columns[-1] if len(names) == 1 else st.container():
    navigation.link("explore", "Add your own dataset", icon=":material/add:", view="Add data")

st.header("Runs", anchor=False)
show_runs()

st.header("This machine", anchor=False)
show_machine()
