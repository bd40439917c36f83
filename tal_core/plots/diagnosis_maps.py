"""Heat maps of a diagnosis: classes by bucket, pairs of buckets, confused classes.

Pure functions. An invisible marker in each cell carries in ``customdata`` what ``evaluation.behind`` needs to
list the cell's segments, as only markers can be selected by a click.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from tal_core.evaluation.diagnosis.diagnose import Diagnosis
from tal_core.evaluation.diagnosis.segment_errors import ClassConfusion
from tal_core.evaluation.diagnosis.segments_behind import BACKGROUND
from tal_core.evaluation.outcomes import MISSED
from tal_core.plots.colors import ACCENT
from tal_core.plots.diagnosis import MOST_CLASSES, TITLES, plain


def class_map(diagnosis: Diagnosis, name: str) -> go.Figure:
    """Normalised AP per class and bucket as a heat map. ``customdata``: characteristic, bucket, class."""
    kind, labels = diagnosis.characteristics[name], diagnosis.ranked.labels
    table = diagnosis.sensitivity.per_class[name]
    order = np.argsort(diagnosis.sensitivity.ap.mean(axis=1), kind="stable")[:MOST_CLASSES][::-1]
    bucket_of, class_of = kind.bucket, diagnosis.ranked.truth_class
    sizes = np.zeros(table.shape, int)
    np.add.at(sizes, (class_of[bucket_of >= 0], bucket_of[bucket_of >= 0]), 1)
    return _cells(
        100 * table[order],
        [f"{bucket}: {kind.range_text(i)}" for i, bucket in enumerate(kind.names)],
        [labels[i] for i in order],
        [[[name, bucket, labels[i]] for bucket in range(len(kind.names))] for i in order],
        hover=[
            [
                f"AP<sub>N</sub> {_percent(table[i, b])}, {sizes[i, b]} annotations"
                for b in range(len(kind.names))
            ]
            for i in order
        ],
        title="AP<sub>N</sub> (%)",
        top=100.0,
    )


def pair_map(diagnosis: Diagnosis, first: str, second: str) -> go.Figure:
    """Share missed per pair of buckets as a heat map. ``customdata``: first, bucket, second, bucket."""
    one, other = diagnosis.characteristics[first], diagnosis.characteristics[second]
    rates = diagnosis.false_negatives.pair_rates(first, second)
    sizes = diagnosis.false_negatives.pair_sizes(first, second)
    figure = _cells(
        100 * rates,
        [f"{name}: {other.range_text(i)}" for i, name in enumerate(other.names)],
        [f"{name}: {one.range_text(i)}" for i, name in enumerate(one.names)],
        [[[first, i, second, j] for j in range(len(other.names))] for i in range(len(one.names))],
        hover=[
            [f"missed {_percent(rates[i, j])} of {sizes[i, j]}" for j in range(len(other.names))]
            for i in range(len(one.names))
        ],
        title="missed (%)",
        top=max(25.0, float(np.nanmax(100 * rates, initial=0))),
    )
    figure.update_xaxes(title=TITLES[second])
    figure.update_yaxes(title=TITLES[first])
    return figure


def confusion_map(confusion: ClassConfusion) -> go.Figure:
    """Annotated against detected classes, the most confused ones. ``customdata``: annotated, detected."""
    counts = confusion.counts
    wrong = counts[:-1, :-1].copy()
    np.fill_diagonal(wrong, 0)
    mixed = wrong.sum(axis=0) + wrong.sum(axis=1)
    shown = np.sort(np.argsort(-mixed, kind="stable")[:MOST_CLASSES])
    names = [confusion.labels[i] for i in shown]
    rows, columns = [*names, BACKGROUND], [*names, MISSED]
    picked = np.append(shown, len(confusion.labels))
    table = counts[np.ix_(picked, picked)].astype(float)
    share = table / np.maximum(counts[picked].sum(axis=1, keepdims=True), 1)
    table[-1, -1] = share[-1, -1] = np.nan
    return _cells(
        100 * share[::-1],
        columns,
        rows[::-1],
        [[[row, column] for column in columns] for row in rows][::-1],
        hover=[
            [
                f"{int(n)} annotated {row}, detected {column}" if np.isfinite(n) else ""
                for n, column in zip(line, columns, strict=True)
            ]
            for row, line in zip(rows[::-1], table[::-1], strict=True)
        ],
        title="% of row",
        top=100.0,
        texts=[[f"{int(n)}" if n > 0 else "" for n in line] for line in table[::-1]],
        axes=("detected class", "annotated class"),
    )


def _cells(
    values: np.ndarray,
    columns: Sequence[str],
    rows: Sequence[str],
    keys: list[list[list]],
    *,
    hover: list[list[str]],
    title: str,
    top: float,
    texts: list[list[str]] | None = None,
    axes: tuple[str, str] = ("", ""),
) -> go.Figure:
    """A heat map with an invisible, selectable marker in each cell that holds a number."""
    if texts is None:
        texts = [[f"{value:.0f}" if np.isfinite(value) else "" for value in line] for line in values]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            text=texts,
            texttemplate="%{text}",
            zmin=0,
            zmax=top,
            colorscale="Viridis",
            colorbar={"title": title, "thickness": 14},
            xgap=1,
            ygap=1,
            hoverinfo="skip",
        )
    )
    row, column = np.nonzero(np.isfinite(values))
    figure.add_scatter(
        x=column,
        y=row,
        mode="markers",
        marker={"symbol": "square", "size": 22, "opacity": 0, "color": ACCENT},
        selected={"marker": {"opacity": 0.01}},
        unselected={"marker": {"opacity": 0}},
        customdata=[keys[i][j] for i, j in zip(row, column, strict=True)],
        hovertext=[
            f"{plain(rows[int(i)])} × {plain(columns[int(j)])}<br>{hover[i][j]}"
            for i, j in zip(row, column, strict=True)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    figure.update_layout(
        height=max(280, 120 + (26 if len(rows) > 8 else 38) * len(rows)),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        hovermode="closest",
        hoverdistance=40,
    )
    labels = {"showgrid": False, "zeroline": False, "automargin": True}
    figure.update_xaxes(
        tickvals=list(range(len(columns))), ticktext=[plain(c) for c in columns], title=axes[0], **labels
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[plain(r) for r in rows], title=axes[1], **labels
    )
    return figure


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else "–"
