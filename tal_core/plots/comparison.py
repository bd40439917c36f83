"""Figures of two runs side by side, and published results as reference lines.

Pure functions; scores come as fractions and are shown in percent. The first run has the first colour of the
palette, the second the second, as in the curves of mAP.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tal_core.plots.colors import BACKGROUND, GRID, PALETTE
from tal_core.plots.evaluation import plain_text, run_style
from tal_core.plots.training import downsample, smooth, steps

MOST_BARS = 60
"""Bars of one figure; of more, those that differ most."""

NOT_OURS = "published, not measured here"
_DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
_MARKERS = ("diamond-open", "square-open", "triangle-up-open", "cross-open", "x-open")


def most_different(table: pd.DataFrame, most: int = MOST_BARS) -> pd.DataFrame:
    """The rows with the largest ``difference`` either way, in their order."""
    largest = table["difference"].abs().sort_values(ascending=False, kind="stable").index[:most]
    return table.loc[table.index.isin(largest)]


def difference_bars(table: pd.DataFrame, column: str, names: tuple[str, str], what: str) -> go.Figure:
    """Second minus first per class or video: bars to the right where the second is better.

    ``table``: ``column``, ``first``, ``second``, ``difference`` (fractions), as ``evaluation.comparison``
    sorts it. ``what`` names the score ("AP").
    """
    figure = go.Figure()
    for index, (name, side) in enumerate(zip(names, (-1, 1), strict=True)):
        rows = table[np.sign(table["difference"]) == side]
        figure.add_bar(
            y=rows[column].map(plain_text),
            x=100 * rows["difference"],
            customdata=100 * rows[["first", "second"]].to_numpy(),
            name=f"{plain_text(name)} is better ({len(rows)})",
            orientation="h",
            marker={"color": PALETTE[index]},
            hovertemplate="%{y}<br>" + what + " %{customdata[0]:.1f} % → %{customdata[1]:.1f} %"
            "<br>difference %{x:+.1f} points<extra></extra>",
        )
    figure.update_layout(
        height=max(220, 110 + 22 * len(table)),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        showlegend=True,
        bargap=0.25,
    )
    order = table[column].map(plain_text).tolist()[::-1]
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=order,
        automargin=True,
        dtick=1,
        range=[-0.6, len(order) - 0.4],
    )
    title = f"difference in {what} (percentage points)"
    figure.update_xaxes(title=title, gridcolor=GRID, zeroline=True, zerolinecolor=BACKGROUND)
    return figure


def with_published(figure: go.Figure, results: pd.DataFrame, tiou: list[float]) -> go.Figure:
    """Adds published results to ``map_curves``, at those of their thresholds that are evaluated here, too.

    ``results``: rows of ``data.published.published_maps``. Grey, thin and named as not measured here.
    """
    columns = {float(c): c for c in results.columns if c.replace(".", "", 1).isdigit()}
    shared = {t: c for t, c in columns.items() if np.isclose(tiou, t, atol=1e-6).any()}
    highest = figure.layout.yaxis.range[1] if figure.layout.yaxis.range else 0.0
    for index, row in enumerate(results.to_dict("records")):
        values = {t: row[c] for t, c in shared.items() if np.isfinite(row[c])}
        if not values:
            continue
        average = f", average {row['average']:.2f} %" if np.isfinite(row["average"]) else ""
        figure.add_scatter(
            x=list(values),
            y=list(values.values()),
            name=plain_text(f"{row['name']}{average}, {NOT_OURS}"),
            mode="lines+markers" if len(values) > 1 else "markers",
            line={"color": BACKGROUND, "width": 1.2, "dash": _DASHES[index % len(_DASHES)]},
            marker={"color": BACKGROUND, "symbol": _MARKERS[index % len(_MARKERS)], "size": 8},
            hovertemplate="mAP %{y:.2f} % at tIoU %{x:.3g}, "
            + NOT_OURS
            + "<br>"
            + plain_text(row["source"])
            + "<extra>"
            + plain_text(row["name"])
            + "</extra>",
        )
        highest = max(highest, 1.08 * max(values.values()))
    figure.update_yaxes(range=[0, min(105.0, highest)])
    return figure


def loss_curves(metrics: Mapping[str, pd.DataFrame]) -> go.Figure:
    """The training loss of each run, smoothed, over its epochs."""
    figure = go.Figure()
    for index, (name, table) in enumerate(metrics.items()):
        table = steps(table)
        if "loss" not in table or table["loss"].notna().sum() < 2:
            continue
        line = table[["step", "epoch", "loss"]].dropna().astype(float)
        # Within an epoch steps are spread evenly, so that runs of different batch sizes share an axis.
        progress = line["epoch"].max() * (line["step"] - line["step"].min()) / max(1.0, np.ptp(line["step"]))
        line = downsample(line.assign(progress=progress, loss=smooth(line["loss"])), "progress")
        figure.add_scatter(
            x=line["progress"], y=line["loss"], name=plain_text(name), mode="lines", **_line(index)
        )
    return _style(figure, "epoch", "training loss")


def validation_curves(metrics: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Average mAP after each validation of each run."""
    figure = go.Figure()
    for index, (name, table) in enumerate(metrics.items()):
        rows = table[table["kind"] == "validation"]
        if rows.empty:
            continue
        style = run_style(index)
        figure.add_scatter(
            x=rows["epoch"],
            y=100 * rows["average_mAP"].astype(float),
            name=plain_text(name),
            mode="lines+markers",
            hovertemplate="%{y:.2f} % after epoch %{x}<extra></extra>",
            **style,
        )
    figure = _style(figure, "epoch", "average mAP (%)")
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(rangemode="tozero")
    return figure


def _line(index: int) -> dict:
    return {"line": run_style(index)["line"]}


def _style(figure: go.Figure, x: str, y: str) -> go.Figure:
    figure.update_layout(
        height=320,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        showlegend=True,
    )
    figure.update_xaxes(title=x, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title=y, gridcolor=GRID, zeroline=False)
    return figure
