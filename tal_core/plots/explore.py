"""Figures of the Explore page: what a dataset is like, and what one video's features look like."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tal_core.data.exploring.snippets import BACKGROUND_LABEL
from tal_core.plots.colors import ACCENT, BACKGROUND, GRID, OUTCOME_COLORS, PALETTE, with_alpha

MOST_CLASSES = 40
"""Classes drawn in one figure; the tables beside the figures hold all."""

_MARKS = (("circle-open", OUTCOME_COLORS["missed"]), ("diamond-open", OUTCOME_COLORS["wrong label"]))
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "star", "x")
_TEAL = [[0.0, with_alpha(ACCENT, 0.04)], [0.5, with_alpha(ACCENT, 0.55)], [1.0, ACCENT]]
_DIVERGING = [[0.0, PALETTE[0]], [0.5, with_alpha(BACKGROUND, 0.08)], [1.0, PALETTE[1]]]


def class_distribution(statistics: pd.DataFrame, colors: Mapping[str, str]) -> go.Figure:
    """Instances of each class as bars, most frequent on top. ``statistics``: ``statistics.per_class``."""
    table = _most_frequent(statistics)
    figure = go.Figure(
        go.Bar(
            x=table["instances"],
            y=table["label"],
            orientation="h",
            marker_color=[colors[label] for label in table["label"]],
            customdata=table[["videos", "total", "median"]],
            hovertemplate="<b>%{y}</b><br>%{x} instances in %{customdata[0]} videos"
            "<br>%{customdata[1]:.0f} s in all, median %{customdata[2]:.1f} s<extra></extra>",
        )
    )
    return _lay_out(figure, x="instances", height=_height(len(table)))


def duration_by_class(statistics: pd.DataFrame, colors: Mapping[str, str]) -> go.Figure:
    """Durations of each class on a logarithmic axis: box from first to third quartile, whiskers from the
    shortest to the longest."""
    table = _most_frequent(statistics).dropna(subset=["median"])
    figure = go.Figure()
    row: Any
    for row in table.itertuples():
        # The logarithmic axis has no place for zero-length segments.
        quantiles = [max(value, 0.01) for value in (row.shortest, row.q1, row.median, row.q3, row.longest)]
        figure.add_box(
            y=[row.label],
            orientation="h",
            lowerfence=[quantiles[0]],
            q1=[quantiles[1]],
            median=[quantiles[2]],
            q3=[quantiles[3]],
            upperfence=[quantiles[4]],
            name=row.label,
            line_color=colors[row.label],
            fillcolor=with_alpha(colors[row.label], 0.35),
            showlegend=False,
        )
    _log_axis(figure)
    return _lay_out(figure, x="duration of a segment (s, logarithmic)", height=_height(len(table)))


def duration_histogram(ground_truth: pd.DataFrame, bins: int = 40) -> go.Figure:
    """Durations of all segments, in bins of equal width on a logarithmic axis, with the median marked."""
    durations = (ground_truth["end"] - ground_truth["start"]).to_numpy()
    durations = np.maximum(durations, 0.01)
    figure = go.Figure()
    if len(durations):
        low, high = np.log10(durations.min()), np.log10(durations.max())
        edges = np.logspace(low - 0.02, high + 0.02, bins + 1)
        counts, _ = np.histogram(durations, edges)
        figure.add_bar(
            x=np.sqrt(edges[:-1] * edges[1:]),
            y=counts,
            width=np.diff(edges) * 0.94,
            marker_color=ACCENT,
            customdata=np.stack([edges[:-1], edges[1:]], axis=1),
            hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f} s<br>%{y} segments<extra></extra>",
        )
        _mark_median(figure, float(np.median(durations)), "s")
        _log_axis(figure)
    return _lay_out(figure, x="duration of a segment (s, logarithmic)", y="segments")


def instances_histogram(videos: pd.DataFrame) -> go.Figure:
    """How many videos have how many segments. ``videos``: ``statistics.per_video``."""
    counts = videos["instances"].to_numpy()
    figure = go.Figure()
    if len(counts):
        step = max(1, int(np.ceil((counts.max() + 1) / 40)))
        edges = np.arange(0, counts.max() + step + 1, step)
        heights, _ = np.histogram(counts, edges)
        names = [f"{a}" if step == 1 else f"{a} to {a + step - 1}" for a in edges[:-1]]
        figure.add_bar(
            x=edges[:-1] + (step - 1) / 2,
            y=heights,
            width=step * 0.9,
            marker_color=ACCENT,
            customdata=names,
            hovertemplate="%{customdata} segments<br>%{y} videos<extra></extra>",
        )
        _mark_median(figure, float(np.median(counts)))
    return _lay_out(figure, x="segments in a video", y="videos")


def coverage_histogram(videos: pd.DataFrame) -> go.Figure:
    """How much of the videos lies under segments. ``videos``: ``statistics.per_video``."""
    coverage = videos["coverage"].dropna().to_numpy()
    counts, edges = np.histogram(coverage, np.linspace(0, 1, 21))
    figure = go.Figure(
        go.Bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=0.046,
            marker_color=ACCENT,
            hovertemplate="about %{x:.0%} covered<br>%{y} videos<extra></extra>",
        )
    )
    if len(coverage):
        _mark_median(figure, float(np.median(coverage)), percent=True)
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    return _lay_out(figure, x="share of the video under a segment", y="videos")


def co_occurrence_map(shares: pd.DataFrame, statistics: pd.DataFrame) -> go.Figure:
    """``statistics.co_occurrence`` as a map, most frequent classes first."""
    names = list(_most_frequent(statistics)["label"])[::-1]
    values = shares.loc[names, names].to_numpy()
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            colorscale=_TEAL,
            xgap=1,
            ygap=1,
            colorbar={"tickformat": ".0%", "thickness": 12, "title": {"text": "of videos", "side": "right"}},
            hovertemplate="of the videos with <b>%{y}</b><br>%{z:.0%} also have <b>%{x}</b><extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    return _lay_out(figure, height=max(320, 130 + 22 * len(names)))


def video_features(
    features: np.ndarray,
    seconds: np.ndarray,
    segments: pd.DataFrame,
    colors: Mapping[str, str],
    change: np.ndarray,
    points: np.ndarray,
) -> go.Figure:
    """One video: ground truth, standardised features ``(T, D)``, their norm, and change scores ``(T,)``
    with change points, on one time axis. ``seconds``: the snippets' centres ``(T,)``.

    The map is averaged down to at most 800 columns and 128 rows: more can't be seen.
    """
    figure = make_subplots(
        rows=4, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.16, 0.5, 0.17, 0.17]
    )
    _add_segments(figure, segments, colors)
    values, times, dimensions = _shrink(features, seconds)
    figure.add_heatmap(
        z=values.T,
        x=times,
        y=dimensions,
        zmin=-2.5,
        zmax=2.5,
        colorscale=_DIVERGING,
        row=2,
        col=1,
        colorbar={"title": {"text": "deviations", "side": "right"}, "thickness": 12, "len": 0.5},
        hovertemplate="%{x:.2f} s, dimension %{y}<br>%{z:.2f} deviations from the mean<extra></extra>",
    )
    norms = np.linalg.norm(np.asarray(features, np.float32), axis=1)
    for row, curve, name, color in ((3, norms, "norm", PALETTE[2]), (4, change, "change", ACCENT)):
        figure.add_scatter(
            x=seconds,
            y=curve,
            mode="lines",
            line={"color": color, "width": 1.5},
            name=name,
            row=row,
            col=1,
            hovertemplate=f"%{{x:.2f}} s<br>{name} %{{y:.3g}}<extra></extra>",
        )
        figure.update_yaxes(title_text=name, row=row, col=1, nticks=3)
    figure.add_scatter(
        x=seconds[points],
        y=change[points],
        mode="markers",
        marker={"color": PALETTE[1], "size": 7},
        name="change point",
        row=4,
        col=1,
        hovertemplate="change point at %{x:.2f} s<extra></extra>",
    )
    for edge in np.unique(segments[["start", "end"]].to_numpy()) if len(segments) <= 60 else ():
        figure.add_vline(x=edge, line={"color": BACKGROUND, "width": 0.7, "dash": "dot"})
    figure.update_yaxes(title_text="dimension", row=2, col=1)
    figure.update_xaxes(title_text="time (s)", row=4, col=1)
    return _lay_out(figure, height=560)


def snippet_map(
    positions: np.ndarray,
    snippets: pd.DataFrame,
    colors: Mapping[str, str],
    axes: tuple[str, str] = ("", ""),
    marks: Mapping[str, np.ndarray] | None = None,
) -> go.Figure:
    """Snippets at ``(N, 2)`` positions, one colour per class, what isn't among ``colors`` grey behind.

    ``snippets``: the table of ``snippets.sample_snippets``. ``marks``: names of what to circle, each with the
    rows (N,) that it is true of. Every point's ``customdata`` is its video, second and class.
    """
    figure = go.Figure()
    labels = snippets["label"].to_numpy(object)
    known = np.isin(labels, list(colors))
    background = labels == BACKGROUND_LABEL
    groups = {BACKGROUND_LABEL: background, "other classes": ~known & ~background}
    groups |= {label: labels == label for label in sorted(set(labels[known]))}
    symbols = _symbols(colors)
    for name, rows in groups.items():
        if rows.any():
            marker = {"size": 6, "color": colors.get(name, BACKGROUND), "opacity": 0.8}
            marker["symbol"] = symbols.get(name, "circle")
            if name not in colors:
                marker |= {"size": 4, "opacity": 0.3 if name == BACKGROUND_LABEL else 0.5}
            _add_snippets(figure, name, positions[rows], snippets[rows], marker)
    for (name, rows), (symbol, color) in zip((marks or {}).items(), _MARKS, strict=False):
        if rows.any():
            marker = {"size": 12, "symbol": symbol, "color": color, "line": {"width": 2}}
            _add_snippets(figure, f"{name} ({int(rows.sum())})", positions[rows], snippets[rows], marker)
    figure.update_layout(legend={"itemsizing": "constant"}, showlegend=True)
    figure.update_layout(clickmode="event+select", dragmode="pan")
    return _lay_out(figure, x=axes[0], y=axes[1], height=560)


def _symbols(colors: Mapping[str, str]) -> dict[str, str]:
    """A marker per class: of classes with the same hue only the first is a dot, so that they stay apart."""
    seen: Counter[float] = Counter()
    symbols = {}
    for label in sorted(colors):
        red, green, blue = (int(colors[label][i : i + 2], 16) / 255 for i in (1, 3, 5))
        hue = round(colorsys.rgb_to_hls(red, green, blue)[0], 1)
        symbols[label] = _SYMBOLS[seen[hue] % len(_SYMBOLS)]
        seen[hue] += 1
    return symbols


def _add_snippets(
    figure: go.Figure, name: str, positions: np.ndarray, rows: pd.DataFrame, marker: dict
) -> None:
    """Points of one kind; those not selected stay as they are."""
    figure.add_scattergl(
        x=positions[:, 0],
        y=positions[:, 1],
        mode="markers",
        name=name,
        marker=marker,
        customdata=rows[["video_id", "seconds", "label"]],
        unselected={"marker": {"opacity": marker.get("opacity", 1.0)}},
        hovertemplate="<b>%{customdata[2]}</b><br>%{customdata[0]} at %{customdata[1]:.1f} s<extra></extra>",
    )


def _most_frequent(statistics: pd.DataFrame) -> pd.DataFrame:
    """The classes worth drawing, least frequent first (plotly draws upwards)."""
    return statistics.sort_values(["instances", "label"], kind="stable").tail(MOST_CLASSES)


def _add_segments(figure: go.Figure, segments: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """One row per class with its segments as bars, in the figure's first panel."""
    for label, rows in segments.groupby("label"):
        figure.add_bar(
            base=rows["start"],
            x=rows["end"] - rows["start"],
            y=rows["label"],
            orientation="h",
            width=0.8,
            marker_color=colors.get(str(label), BACKGROUND),
            customdata=rows[["start", "end"]],
            hovertemplate=f"<b>{label}</b><br>%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}} s<extra/>",
            row=1,
            col=1,
        )
    figure.update_layout(barmode="overlay")
    # Class names would squeeze the other panels; hovering tells them, and so does the page's legend.
    figure.update_yaxes(showticklabels=False, title_text="truth", row=1, col=1)


def _shrink(
    features: np.ndarray, seconds: np.ndarray, columns: int = 800, rows: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features averaged to ``(T', D')``, with the times and dimensions of its cells."""
    values = np.asarray(features, np.float32)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    time_step = -(-len(values) // columns)
    dimension_step = -(-values.shape[1] // rows)
    values = np.add.reduceat(values, np.arange(0, values.shape[0], time_step), axis=0)
    values = np.add.reduceat(values, np.arange(0, values.shape[1], dimension_step), axis=1)
    # Sums of n standard values vary by sqrt(n), not n: so averaged maps keep their contrast.
    values /= np.sqrt(time_step * dimension_step)
    times = np.asarray(seconds)[::time_step]
    return np.round(values, 2), times, np.arange(features.shape[1])[::dimension_step]


def _mark_median(figure: go.Figure, value: float, unit: str = "", percent: bool = False) -> None:
    """A dashed line at the median, its value in the corner where it is never cut off."""
    text = f"median {value:.0%}" if percent else f"median {value:.3g} {unit}".strip()
    figure.add_vline(x=value, line={"color": PALETTE[1], "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=1.0,
        xref="paper",
        xanchor="right",
        y=1.0,
        yref="paper",
        yanchor="bottom",
        text=f"┆ {text}",
        showarrow=False,
        font={"color": PALETTE[1]},
    )


def _log_axis(figure: go.Figure) -> None:
    """Logarithmic seconds with ticks at 1, 2 and 5: plotly's own leave a span of one decade bare."""
    ticks = [digit * 10.0**power for power in range(-2, 5) for digit in (1, 2, 5)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def _height(classes: int) -> int:
    return max(260, 90 + 22 * classes)


def _lay_out(figure: go.Figure, *, x: str = "", y: str = "", height: int = 300) -> go.Figure:
    """What all figures share: no background (the theme shows through), quiet grid, tight margins."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 26, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        bargap=0.25,
        hovermode="closest",
    )
    if not figure.layout.showlegend:
        figure.update_layout(showlegend=False)
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
