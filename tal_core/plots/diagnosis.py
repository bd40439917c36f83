"""Figures of a diagnosis. Pure functions; fractions come in, percent is shown.

Every bar and cell carries in ``customdata`` what ``evaluation.behind`` needs to list its segments, so that a
click on it can lead there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tal_core.evaluation.diagnosis.buckets import bucket_sizes
from tal_core.evaluation.diagnosis.characteristics import Characteristic
from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.diagnosis.segment_errors import Calibration
from tal_core.evaluation.outcomes import MISSED, OUTCOMES
from tal_core.plots.colors import ACCENT, GRID, OUTCOME_COLORS, PALETTE, with_alpha

MOST_CLASSES = 25
"""Classes that a figure shows; the rest has to be found in the tables."""
HISTOGRAM_BINS = 31
BUCKET_COLORS = {"coverage": PALETTE[0], "length": PALETTE[2], "num-instances": PALETTE[6]}
TITLES = {
    "coverage": "Coverage of the video",
    "length": "Length",
    "num-instances": "Instances in the video",
}


def gain_figure(diagnosis: Diagnosis) -> go.Figure:
    """What fixing, and removing, each kind of error gains; the largest on top. ``customdata``: kind."""
    fixed, removed = diagnosis.fix_gain, diagnosis.false_positives.gain
    kinds = list(fixed)[::-1]
    figure = go.Figure()
    figure.add_bar(
        y=kinds,
        x=[100 * removed[kind] if kind in removed else None for kind in kinds],
        customdata=[[kind] for kind in kinds],
        name="normalised mAP, errors removed (DETAD)",
        orientation="h",
        marker={"color": [with_alpha(OUTCOME_COLORS[kind], 0.45) for kind in kinds]},
        hovertemplate="%{y}: %{x:+.2f} normalised mAP if removed<extra></extra>",
    )
    figure.add_bar(
        y=kinds,
        x=[100 * fixed[kind] for kind in kinds],
        customdata=[[kind] for kind in kinds],
        name="mAP, errors fixed",
        orientation="h",
        marker={"color": [OUTCOME_COLORS[kind] for kind in kinds]},
        text=[f"{100 * fixed[kind]:+.1f}" for kind in kinds],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:+.2f} mAP if fixed<extra></extra>",
    )
    _style(figure, "gain in mAP (points)", "", height=430)
    figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "reversed"})
    figure.update_yaxes(type="category")
    return figure


def profile_figure(diagnosis: Diagnosis) -> go.Figure:
    """Shares of outcomes in the bands 1G to 10G. ``customdata``: kind, band (from 0)."""
    found = diagnosis.false_positives
    bands = [f"{band + 1}G" for band in range(found.limit)]
    figure = go.Figure()
    for position, kind in enumerate(OUTCOMES):
        share = 100 * found.fractions[:, position]
        counts = found.counts[:, :, position].mean(axis=1)
        figure.add_bar(
            x=bands,
            y=share,
            customdata=[[kind, band, counts[band]] for band in range(found.limit)],
            name=kind,
            marker={"color": OUTCOME_COLORS[kind]},
            text=[f"{value:.0f}" if value >= 6 else "" for value in share],
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            hovertemplate="%{x}: %{y:.1f} % (%{customdata[2]:.0f})<extra>" + kind + "</extra>",
        )
    _style(figure, "detections by rank: 1G is the best G of a class with G annotations", "share (%)")
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(type="category")
    figure.update_yaxes(range=[0, 100])
    return figure


def sensitivity_figure(diagnosis: Diagnosis) -> go.Figure:
    """Normalised mAP per bucket, and over all as a line. ``customdata``: characteristic, bucket."""
    found = diagnosis.sensitivity
    values = {name: found.buckets(name) for name in diagnosis.characteristics}
    figure = _bucket_bars(diagnosis.characteristics, values, "normalised mAP")
    figure.add_hline(
        y=100 * found.base,
        line={"dash": "dash", "width": 1.5, "color": ACCENT},
        annotation_text=f"all: {100 * found.base:.1f} %",
        annotation_position="right",
    )
    figure.update_layout(margin={"r": 80})
    figure.update_yaxes(title="normalised mAP (%)")
    return figure


def missed_figure(diagnosis: Diagnosis) -> go.Figure:
    """Share of annotations missed per bucket. ``customdata``: characteristic, bucket."""
    found = diagnosis.false_negatives
    values = {name: found.rates(name) for name in diagnosis.characteristics}
    figure = _bucket_bars(diagnosis.characteristics, values, "missed")
    figure.update_yaxes(title="missed (%)")
    return figure


def _bucket_bars(
    kinds: Mapping[str, Characteristic], values: Mapping[str, np.ndarray], what: str
) -> go.Figure:
    figure = go.Figure()
    for name, kind in kinds.items():
        sizes = bucket_sizes(kind)
        figure.add_bar(
            x=[[TITLES[name]] * len(kind.names), kind.names],
            y=100 * values[name],
            customdata=[
                [name, bucket, kind.range_text(bucket), int(sizes[bucket])]
                for bucket in range(len(kind.names))
            ],
            name=TITLES[name],
            marker={"color": BUCKET_COLORS[name]},
            text=[f"{100 * value:.1f}" if np.isfinite(value) else "" for value in values[name]],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x}: %{customdata[2]}<br>"
            + what
            + " %{y:.1f} %<br>%{customdata[3]} annotations<extra></extra>",
        )
    highest = max((float(np.nanmax(v)) for v in values.values() if np.isfinite(v).any()), default=1.0)
    _style(figure, "", "")
    figure.update_layout(showlegend=False, bargap=0.2)
    figure.update_yaxes(range=[0, min(112.0, max(5.0, 115 * highest))])
    return figure


def boundary_figure(offsets: pd.DataFrame) -> go.Figure:
    """Offsets of starts and ends as histograms, with their medians as dotted lines.

    ``customdata``: side, low, high (seconds). The outermost bins also hold what lies beyond them.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09)
    edges = histogram_edges(offsets[["start", "end"]].to_numpy().ravel())
    middle, width = (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
    limits = [-np.inf, *edges[1:-1].tolist(), np.inf]
    for row, (side, color) in enumerate((("start", PALETTE[0]), ("end", PALETTE[1])), start=1):
        median = float(offsets[side].median()) if len(offsets) else 0.0
        bins = np.searchsorted(limits[1:-1], offsets[side], side="right")
        counts = np.bincount(bins, minlength=len(middle))
        figure.add_bar(
            x=middle,
            y=counts,
            width=width * 0.94,
            customdata=[[side, _finite(low), _finite(high)] for low, high in pairwise(limits)],
            name=f"{side}, median {median:+.2f} s",
            marker={"color": color},
            hovertemplate="%{y} " + side + "s are %{x:+.3g} s off (± " + f"{width / 2:.2g} s)<extra></extra>",
            row=row,
            col=1,
        )
        figure.add_vline(x=0, line={"color": GRID, "width": 2}, row=row, col=1)
        figure.add_vline(
            x=median,
            line={"dash": "dot", "width": 2, "color": ACCENT},
            row=row,
            col=1,
        )
    _style(figure, "", "segments", height=460)
    figure.update_xaxes(title="← early      offset from the annotation (s)      late →", row=2, col=1)
    return figure


def histogram_edges(values: np.ndarray) -> np.ndarray:
    """Edges of an odd number of bins of a round width, the middle one around zero, over most values."""
    reach = float(np.quantile(np.abs(values), 0.98)) if len(values) else 1.0
    width = _round_up(max(2 * reach / HISTOGRAM_BINS, 1e-3))
    half = int(np.ceil(max(reach, width) / width - 0.5))
    return (np.arange(-half, half + 2) - 0.5) * width


def _round_up(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))


def reliability_figure(calibration: Calibration) -> go.Figure:
    """Share of right detections per bin of scores, and the diagonal. ``customdata``: low, high."""
    table = calibration.table
    figure = go.Figure()
    figure.add_bar(
        x=(table["low"] + table["high"]) / 2,
        y=table["precision"],
        width=(table["high"] - table["low"]) * 0.94,
        customdata=table[["low", "high", "count", "score"]].to_numpy().tolist(),
        name="share that is right",
        marker={"color": ACCENT},
        text=[f"{n:,}".replace(",", "\u202f") for n in table["count"]],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="score %{customdata[0]:.2g} to %{customdata[1]:.2g}, mean %{customdata[3]:.3f}<br>"
        "right: %{y:.1%} of %{customdata[2]}<extra></extra>",
    )
    if calibration.error is not None:
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"dash": "dash", "width": 1.5, "color": OUTCOME_COLORS["background error"]},
            name="score = share that is right",
            hoverinfo="skip",
        )
    _style(figure, "score", "share of true positives")
    figure.update_yaxes(range=[0, 1.08], tickformat=".0%")
    return figure


def class_errors_figure(errors: pd.DataFrame) -> go.Figure:
    """Errors per class, the most wrong on top. ``customdata``: class, kind."""
    table = errors.head(MOST_CLASSES)[::-1]
    figure = go.Figure()
    for kind in (*OUTCOMES[1:], MISSED):
        figure.add_bar(
            y=[plain(label) for label in table["label"]],
            x=table[kind],
            customdata=[[label, kind] for label in table["label"]],
            orientation="h",
            name=kind,
            marker={"color": OUTCOME_COLORS[kind]},
            hovertemplate="%{y}: %{x} " + kind + "<extra></extra>",
        )
    _style(figure, "errors", "", height=max(260, 110 + 24 * len(table)))
    figure.update_layout(barmode="stack", bargap=0.2)
    figure.update_yaxes(type="category", dtick=1)
    return figure


def _style(figure: go.Figure, x: str, y: str, height: int = 400) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.03, "x": 0},
        hovermode="closest",
        clickmode="event+select",
    )
    figure.update_xaxes(title=x, gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(title=y, gridcolor=GRID, zeroline=False, automargin=True)


BEYOND = 3e7
"""Seconds that stand for infinity, which JSON doesn't have: no boundary is off by a year."""


def _finite(value: float) -> float:
    return float(np.clip(value, -BEYOND, BEYOND))


def offset_range(low: float, high: float) -> str:
    """A bar of `boundary_figure` in words."""
    if low <= -BEYOND:
        return f"{high:+.3g} s and earlier"
    return f"{low:+.3g} s and later" if high >= BEYOND else f"{low:+.3g} to {high:+.3g} s"


def plain(name: str) -> str:
    """Plotly reads a little HTML in its texts; names are not HTML."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
