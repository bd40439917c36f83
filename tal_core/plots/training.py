"""Live charts of a run: loss terms, learning rate, validation mAP, throughput and memory."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from tal_core.plots.colors import ACCENT, PALETTE

NOT_LOSSES = frozenset(
    [
        "step",
        "epoch",
        "time",
        "learning_rate",
        "samples_per_second",
        "memory_mb",
        "average_mAP",
        "seconds",
        "gradient_norm",
    ]
)
MOST_POINTS = 300
"""Points of one line on screen; longer series are averaged down."""

_HEIGHT = 240
_STEPS = alt.Axis(tickMinStep=1)
_LEGEND = alt.Legend(title="tIoU", orient="top", titleOrient="left")


def loss_terms(metrics: pd.DataFrame) -> list[str]:
    """Columns of the metrics table that are losses: ``loss`` first, then its terms."""
    numbers = [
        name
        for name in metrics.columns
        if name not in NOT_LOSSES
        and pd.api.types.is_numeric_dtype(metrics[name])
        and metrics[name].notna().any()
    ]
    return sorted(numbers, key=lambda name: (name != "loss", name))


def steps(metrics: pd.DataFrame) -> pd.DataFrame:
    return _of_kind(metrics, "step")


def downsample(table: pd.DataFrame, x: str, most: int = MOST_POINTS) -> pd.DataFrame:
    """At most ``most`` rows: means of neighbouring rows, in the order of ``x``."""
    table = table.sort_values(x, kind="stable")
    if len(table) <= most:
        return table
    groups = np.arange(len(table)) * most // len(table)
    return table.groupby(groups).mean(numeric_only=True)


def smooth(values: pd.Series, share: float = 0.05) -> pd.Series:
    """Exponential moving average over about ``share`` of the series, so that the trend shows."""
    return values.ewm(span=max(2.0, share * len(values)), ignore_na=True).mean()


def loss_chart(metrics: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Every loss term over steps: single steps faint, their moving average strong."""
    table = steps(metrics)
    names = loss_terms(table)
    table = table[["step", *names]]
    trend = table.assign(**{name: smooth(table[name]) for name in names})
    raw = downsample(table, "step").melt("step", names, "term", "value").dropna()
    trend = downsample(trend, "step").melt("step", names, "term", "value").dropna()
    color = alt.Color(
        "term:N",
        scale=alt.Scale(domain=names, range=[ACCENT, *PALETTE[1 : len(names)]]),
        legend=alt.Legend(title=None, orient="top", columns=3, symbolOpacity=1) if len(names) > 1 else None,
    )
    x = alt.X("step:Q", title="optimisation step", scale=alt.Scale(nice=False), axis=_STEPS)
    y = alt.Y("value:Q", title="loss (lower is better)")
    faint = alt.Chart(raw).mark_line(opacity=0.3, strokeWidth=1).encode(x=x, y=y, color=color)
    strong = (
        alt.Chart(trend)
        .mark_line(strokeWidth=2.2)
        .encode(x=x, y=y, color=color, tooltip=["step:Q", "term:N", alt.Tooltip("value:Q", format=".4g")])
    )
    return alt.layer(faint, strong).properties(height=_HEIGHT)


def validation_chart(metrics: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """mAP on the evaluation subset after each validation: each tIoU faint, their average strong."""
    average, lines = validation_tables(metrics)
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("mAP:Q", title="mAP (%)", scale=alt.Scale(domainMin=0))
    each = (
        alt.Chart(lines)
        .mark_line(strokeWidth=1.2, point={"size": 14})
        .encode(
            x=x,
            y=y,
            color=alt.Color("tIoU:O", scale=alt.Scale(scheme="tealblues"), legend=_LEGEND),
            tooltip=["epoch:Q", "tIoU:O", alt.Tooltip("mAP:Q", format=".1f")],
        )
    )
    strong = (
        alt.Chart(average)
        .mark_line(color=PALETTE[1], strokeWidth=3, point={"color": PALETTE[1], "size": 45})
        .encode(x=x, y=y, tooltip=["epoch:Q", alt.Tooltip("mAP:Q", format=".1f", title="average mAP")])
    )
    return alt.layer(each, strong).properties(height=_HEIGHT)


def validation_tables(metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``epoch, mAP`` of the average, and ``epoch, tIoU, mAP`` of each threshold, in percent."""
    rows = _of_kind(metrics, "validation")
    average = pd.DataFrame({"epoch": rows["epoch"], "mAP": 100 * rows["average_mAP"].astype(float)})
    lines = [
        {"epoch": epoch, "tIoU": f"{tiou:g}", "mAP": 100 * value}
        for epoch, thresholds, values in zip(rows["epoch"], rows["tiou"], rows["mAP"], strict=True)
        for tiou, value in zip(thresholds, values, strict=True)
    ]
    return average, pd.DataFrame(lines, columns=["epoch", "tIoU", "mAP"])


def curve_chart(metrics: pd.DataFrame, column: str, title: str) -> alt.Chart:
    """One column of the step rows over steps, such as the learning rate or samples per second."""
    table = steps(metrics)[["step", column]].dropna()
    if column == "samples_per_second":
        table[column] = smooth(table[column])  # a single step's speed is mostly noise
    table = downsample(table, "step")
    return (
        alt.Chart(table)
        .mark_line(color=ACCENT, strokeWidth=2)
        .encode(
            x=alt.X("step:Q", title="optimisation step", scale=alt.Scale(nice=False), axis=_STEPS),
            y=alt.Y(f"{column}:Q", title=None),
            tooltip=["step:Q", alt.Tooltip(f"{column}:Q", format=".4g", title=title)],
        )
        .properties(height=190, title=alt.Title(title, anchor="start", fontSize=14))
    )


def has_rows(metrics: pd.DataFrame, kind: str, columns: Sequence[str] = ()) -> bool:
    """Whether there is anything to draw yet: rows of ``kind`` with values in ``columns``."""
    rows = _of_kind(metrics, kind)
    return len(rows) > 0 and all(name in rows and rows[name].notna().any() for name in columns)


def _of_kind(metrics: pd.DataFrame, kind: str) -> pd.DataFrame:
    return metrics[metrics["kind"] == kind] if "kind" in metrics else metrics.iloc[:0]
