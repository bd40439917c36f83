"""Parts of the Compare page: the table of runs, the pair that is compared, the verdict on it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import downloads, loaders, navigation, notices, pickers, readable, tables
from pages.common.cached_results import cached_by_identity, evaluated
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.comparison import Interval, Side, match_side, paired_bootstrap
from tal_core.evaluation.result import Evaluation
from tal_core.runs.run import Run
from tal_core.training.run_table import (
    can_measure,
    measure_run,
    recorded_cost,
    run_table,
    setting_differences,
)

COLUMNS: tables.Columns = {
    "run": st.column_config.TextColumn("run", pinned=True),
    "average_mAP": st.column_config.NumberColumn(
        "average mAP (%)",
        format="%.2f",
        help="When the run ended: mean over classes and its tIoU thresholds.",
    ),
    "tiou": "over tIoU",
    "parameters": st.column_config.NumberColumn("parameters", format="localized"),
    "gflops_per_minute": st.column_config.NumberColumn(
        "GFLOPs / min of video", format="%.3g", help="10⁹ operations to detect in a minute of video."
    ),
    "training_seconds": st.column_config.NumberColumn(
        "training (s)",
        format="%.0f",
        help="Time of the epochs alone, without validations and the final detections.",
    ),
    "times_real_time": st.column_config.NumberColumn(
        "× real time", format="%.0f", help="Seconds of video that detection works through in a second."
    ),
    "device": st.column_config.TextColumn("speed on", help="Where GFLOPs and speed were measured."),
    "created": st.column_config.DatetimeColumn("started", format="D MMM, HH:mm"),
}


@dataclass(frozen=True)
class Pair:
    """Two runs on one subset (None: all videos): what each section draws from."""

    data: Dataset
    runs: tuple[Run, Run]
    subset: str | None
    tiou: tuple[float, ...]
    protocol: str

    @property
    def names(self) -> tuple[str, str]:
        return self.runs[0].run_id, self.runs[1].run_id

    def file(self, what: str) -> str:
        """The name of a file to save, without its ending."""
        return f"{'-'.join(self.names)}-{what}"

    @cached_property
    def detections(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Of either run. Raises InputError."""
        return loaders.load_detections(self.runs[0]), loaders.load_detections(self.runs[1])

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        found = zip(self.names, self.detections, strict=True)
        return {n: evaluated(self.data, d, self.subset, self.tiou, self.protocol) for n, d in found}

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        settings = self.subset, self.tiou, self.protocol
        first, second = self.detections
        return matched_side(self.data, first, *settings), matched_side(self.data, second, *settings)

    def timeline(self, video: str, tiou: float, at: tuple[float, float] | None = None) -> dict[str, Any]:
        """The query of a link to a video on the Timeline, with both runs shown."""
        query = {"dataset": self.data.name, "run": list(self.names), "video": video, "tiou": f"{tiou:g}"}
        return query | ({"at": f"{at[0]:.2f}-{at[1]:.2f}"} if at else {})

    def timeline_url(self, video: str, tiou: float, at: tuple[float, float] | None = None) -> str:
        return navigation.timeline_address(self.timeline(video, tiou, at))


@cached_by_identity("Matching detections", 16)
def matched_side(
    data: Dataset, detections: pd.DataFrame, subset: str | None, tiou: tuple[float, ...], protocol: str
) -> Side:
    """A run matched with the annotations of a subset."""
    videos = data.videos(subset, usable=False)
    return match_side(data.ground_truth(subset), detections, tiou, videos, protocol)


@cached_by_identity("Resampling the videos 1000 times", 32, {Side: id})
def interval(first: Side, second: Side) -> Interval:
    """The bootstrap of two matched runs."""
    return paired_bootstrap(first, second)


def show_runs(dataset: str) -> None:
    """Every run of the dataset, or of all, as a sortable table; settings only where they differ."""
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    wanted = left.text_input(
        "Filter runs",
        key="compare_filter",
        placeholder="words in the run's name or method",
        icon=":material/search:",
    )
    everywhere = middle.toggle("Runs on all datasets", key="compare_everywhere")
    settings = right.toggle("Settings that differ", value=True, key="compare_settings")
    runs = [
        run
        for run in pickers.runs_of(None if everywhere else dataset)
        if all(word in pickers.run_title(run).lower() for word in wanted.lower().split())
    ]
    table = run_table(runs)
    if table.empty:
        st.info("No run matches." if wanted else f"There are no runs on **{dataset}** yet.")
        return
    table["average_mAP"] *= 100
    table["tiou"] = [readable.tiou_text(t).removeprefix("tIoU ") if t else None for t in table["tiou"]]
    table["created"] = pd.to_datetime(table["created"], unit="s", utc=True).dt.tz_convert(None)
    if not everywhere:
        table = table.drop(columns="dataset")
    known = list(table.columns)
    if settings:
        named = [run for run in runs if run.run_id in set(table["run"])]
        table = table.merge(setting_differences(named), on="run", suffixes=("", " (setting)"))
    st.dataframe(
        table[[*(name for name in table.columns if name != "created"), "created"]],
        hide_index=True,
        height=tables.height(len(table)),
        column_config=COLUMNS,
        placeholder="",
        alt="Runs with method, average mAP, cost and the settings in which they differ",
    )
    downloads.table(table, f"{dataset}-runs")
    different = len(table.columns) - len(known)
    note = (
        f" The {different} columns before “started” are the settings in which these runs differ."
        if different > 0
        else ""
    )
    st.caption(
        f"Click a heading to sort. Empty: never recorded; “Settings and cost” below measures it.{note}"
    )


def show_verdict(pair: Pair) -> None:
    """The difference in average mAP, and how far the choice of videos could have made it."""
    first, second = pair.names
    averages = [e.average_mAP for e in pair.evaluations.values()]
    columns = st.columns([1, 1, 3])
    columns[0].metric(first, readable.percent(averages[0], 2), help="Average mAP of the first run.")
    difference = 100 * (averages[1] - averages[0])
    columns[1].metric(
        second,
        readable.percent(averages[1], 2),
        f"{difference:+.2f} points",
        delta_color="off" if abs(difference) < 0.005 else "normal",
        help="Average mAP of the second run, and its difference from the first.",
    )
    with columns[2], notices.guard(stop=False):
        found = interval(*pair.sides)
        low, high = 100 * found.low, 100 * found.high
        verdict = f"**{first if difference < 0 else second}** is better in almost any choice of such videos"
        if not found.clear:
            verdict = "Zero lies within: on other videos like these **either could be better**"
        st.markdown(f"95 % interval of the difference: **{low:+.2f} to {high:+.2f} points**. {verdict}.")
        st.caption(
            f"Paired bootstrap: as many videos as there are ({found.videos}) were drawn with replacement "
            f"{found.draws} times, the same for both; {second} was better in {100 * found.share:.0f} % of "
            "the draws. It says how much depends on which videos were annotated, not what training again "
            "with another seed would give."
        )


def measure(run: Run) -> None:
    """The button that measures a run's cost, where that is possible."""
    if recorded_cost(run) is not None:
        return
    if not can_measure(run):
        imported = "its detections were imported" if not run.shipped else "it came with the program"
        st.caption(f"**{run.run_id}** can't be measured: {imported}.")
        return
    if st.button(f"Measure {run.run_id}", key=f"measure:{run.run_id}", icon=":material/speed:"):
        with notices.guard(stop=False):
            with st.spinner("Training a few steps and detecting in a video, about half a minute"):
                measure_run(loaders.home(), run)
            st.rerun()
