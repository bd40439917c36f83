"""Figures and tables of evaluations: mAP over tIoU, AP per class, precision-recall, what was counted.

Pure functions; AP and mAP come as fractions and are shown in percent, as the field's tables are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tal_core.evaluation.result import Evaluation
from tal_core.plots.colors import GRID, PALETTE

MOST_CELL_TEXTS = 600
"""Cells of the heat map that still get their number written in."""

_DASHES = ("solid", "dash", "dot", "dashdot")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def run_style(index: int) -> dict:
    """Colour, dash and marker of the ``index``-th run: told apart without colour, too."""
    return {
        "line": {"color": PALETTE[index % len(PALETTE)], "dash": _DASHES[index % len(_DASHES)], "width": 2},
        "marker": {"symbol": _MARKERS[index % len(_MARKERS)], "size": 8},
    }


def map_curves(evaluations: Mapping[str, Evaluation]) -> go.Figure:
    """mAP against the tIoU threshold, one line per run; the legend gives the average mAP."""
    figure = go.Figure()
    for index, (name, evaluation) in enumerate(evaluations.items()):
        figure.add_scatter(
            x=np.round(evaluation.tiou, 6),
            y=100 * evaluation.mAP,
            name=f"{name} (average {100 * evaluation.average_mAP:.2f} %)",
            mode="lines+markers",
            hovertemplate="mAP %{y:.2f} % at tIoU %{x:.3g}<extra>" + plain_text(name) + "</extra>",
            **run_style(index),
        )
    highest = max((100 * float(e.mAP.max()) for e in evaluations.values()), default=100.0)
    style_axes(figure, "tIoU threshold", "mAP (%)")
    figure.update_yaxes(range=[0, min(105.0, max(10.0, highest * 1.15))])
    thresholds = sorted({round(t, 6) for e in evaluations.values() for t in e.tiou})
    figure.update_xaxes(tickvals=thresholds, ticktext=[f"{t:g}" for t in thresholds])
    return figure


def precision_recall_figure(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Precision against recall of one class at one tIoU, one line per run.

    ``curves``: per run the table of ``precision_recall``. Thin: as measured; strong: interpolated, the curve
    whose area is the AP.
    """
    figure = go.Figure()
    for index, (name, table) in enumerate(curves.items()):
        style = run_style(index)
        recall = table["recall"].to_numpy()
        area = float((table["interpolated"] * np.diff(recall, prepend=0.0)).sum())
        figure.add_scatter(
            x=recall,
            y=table["precision"],
            customdata=table["score"],
            name=name,
            legendgroup=name,
            showlegend=False,
            mode="lines",
            opacity=0.4,
            line={**style["line"], "width": 1, "dash": "solid"},
            hovertemplate="recall %{x:.3f}, precision %{y:.3f} at score ≥ %{customdata:.3g}<extra>"
            + plain_text(name)
            + "</extra>",
        )
        figure.add_scatter(
            x=[0.0, *recall],
            y=[*table["interpolated"].head(1), *table["interpolated"]],
            name=f"{name} (AP {100 * area:.1f} %)",
            legendgroup=name,
            mode="lines",
            line={**style["line"], "shape": "vh"},
            hoverinfo="skip",
        )
    style_axes(figure, "recall", "precision")
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.05])
    return figure


def class_map(evaluation: Evaluation) -> go.Figure:
    """AP per class and tIoU as a heat map with the average in the last column, best class on top."""
    table = 100 * evaluation.per_class().sort_values("average", kind="stable")
    columns = [f"{t:g}" for t in np.round(evaluation.tiou, 6)] + ["average"]
    values = table.to_numpy()
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=columns,
            y=[plain_text(label) for label in table.index],
            zmin=0,
            zmax=100,
            colorscale="Viridis",
            colorbar={"title": "AP (%)", "thickness": 14},
            texttemplate="%{z:.1f}" if values.size <= MOST_CELL_TEXTS else None,
            hovertemplate="%{y}<br>AP %{z:.2f} % at tIoU %{x}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(
        height=max(240, 90 + (22 if len(table) <= 60 else 13) * len(table)),
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )
    figure.update_xaxes(type="category", side="top", title="tIoU threshold")
    figure.update_yaxes(type="category", automargin=True, dtick=1)
    return figure


def map_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per run: ``run``, mAP in percent at each tIoU (``mAP@0.5``), ``average``."""
    rows = []
    for name, evaluation in evaluations.items():
        cells = {
            f"mAP@{t:g}": 100 * m for t, m in zip(np.round(evaluation.tiou, 6), evaluation.mAP, strict=True)
        }
        rows.append({"run": name, **cells, "average": 100 * evaluation.average_mAP})
    return pd.DataFrame(rows)


def class_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per run and class: ``run``, ``label``, AP in percent per tIoU, ``average``."""
    tables = []
    for name, evaluation in evaluations.items():
        table = 100 * evaluation.per_class()
        table.columns = [c if isinstance(c, str) else f"{round(c, 6):g}" for c in table.columns]
        table = table.reset_index()
        table.insert(0, "run", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def count_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """What each evaluation counted and left out: ``what`` and a column per run."""
    columns = {}
    for name, evaluation in evaluations.items():
        counted = {
            "videos of the subset": evaluation.num_videos,
            "annotations counted": evaluation.num_ground_truth,
            "detections handed in": evaluation.num_detections,
            "classes": len(evaluation.labels),
        }
        left_out = {f"left out: {what.replace('_', ' ')}": n for what, n in evaluation.ignored.items()}
        columns[name] = {**counted, **left_out}
    table = pd.DataFrame(columns).fillna(0).astype(int)
    return table.rename_axis("what").reset_index()


def style_axes(figure: go.Figure, x: str, y: str) -> None:
    """Titles, grid and legend that these figures share."""
    figure.update_layout(
        height=400,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hovermode="closest",
        showlegend=True,
    )
    figure.update_xaxes(title=x, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title=y, gridcolor=GRID, zeroline=False)


def plain_text(text: str) -> str:
    """Plotly reads a little HTML in its texts; names are not HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
