"""Figures and tables of per-frame average precision: per run, per class, by tenth of an action."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tal_core.evaluation.frame_precision import STAGES, FrameEvaluation
from tal_core.plots.evaluation import MOST_CELL_TEXTS, plain_text, run_style, style_axes


def frame_table(found: Mapping[str, FrameEvaluation]) -> pd.DataFrame:
    """Per run: plain and calibrated mAP in percent, and what was counted."""
    rows = [
        {
            "run": name,
            "per-frame mAP": 100 * one.mean,
            "calibrated mAP": 100 * one.calibrated_mean,
            "snippets": one.num_frames,
            "videos": one.num_videos,
        }
        for name, one in found.items()
    ]
    return pd.DataFrame(rows)


def frame_class_table(found: Mapping[str, FrameEvaluation]) -> pd.DataFrame:
    """One row per run and class: ``run``, ``label``, ``AP`` and ``calibrated AP`` in percent."""
    tables = [
        pd.DataFrame(
            {
                "run": name,
                "label": one.labels,
                "AP": 100 * one.average_precision,
                "calibrated AP": 100 * one.calibrated,
            }
        )
        for name, one in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def frame_class_map(found: Mapping[str, FrameEvaluation], calibrated: bool = False) -> go.Figure:
    """AP per class and run as a heat map, the class that is best on average on top.

    Classes without a positive snippet are left out.
    """
    column = "calibrated AP" if calibrated else "AP"
    rows = frame_class_table(found).set_index(["run", "label"])[column]
    wide = pd.DataFrame({name: rows.loc[name] for name in found}).dropna(how="all")
    wide = wide.loc[wide.mean(axis=1).sort_values(kind="stable").index]
    figure = go.Figure(
        go.Heatmap(
            z=wide.to_numpy(),
            x=[plain_text(name) for name in wide.columns],
            y=[plain_text(label) for label in wide.index],
            zmin=0,
            zmax=100,
            colorscale="Viridis",
            colorbar={"title": "AP (%)", "thickness": 14},
            texttemplate="%{z:.1f}" if wide.size <= MOST_CELL_TEXTS else None,
            hovertemplate="%{y}<br>" + column + " %{z:.2f} %<extra>%{x}</extra>",
            hoverongaps=False,
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(
        height=max(240, 90 + (22 if len(wide) <= 60 else 13) * len(wide)),
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )
    figure.update_xaxes(type="category", side="top")
    figure.update_yaxes(type="category", automargin=True, dtick=1)
    return figure


def stage_curves(found: Mapping[str, FrameEvaluation]) -> go.Figure:
    """Mean calibrated AP when of every action only one tenth counts, a line per run."""
    figure = go.Figure()
    tenths = np.arange(1, STAGES + 1)
    for index, (name, one) in enumerate(found.items()):
        figure.add_scatter(
            x=tenths,
            y=100 * one.stages,
            name=plain_text(name),
            mode="lines+markers",
            hovertemplate="calibrated mAP %{y:.2f} % on tenth %{x}<extra>" + plain_text(name) + "</extra>",
            **run_style(index),
        )
    style_axes(figure, "tenth of the action, first to last", "calibrated mAP (%)")
    figure.update_xaxes(tickvals=tenths)
    return figure
