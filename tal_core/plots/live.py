"""What a stream looks like now: scores of the classes over the last seconds, and segments under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from tal_core.plots.colors import BACKGROUND, class_colors

MOST_CLASSES = 8
"""Lines in the chart: those of the highest scores in sight."""
MOST_POINTS = 300
"""Points of one line on screen; of more, the highest of neighbouring scores stay."""

SEGMENT_COLUMNS = ("segment", "start", "end", "label", "score", "open")


def segments_of(records: Sequence[Mapping], now: float) -> pd.DataFrame:
    """Segments (``SEGMENT_COLUMNS``) from records in order; one that is still open ends ``now``."""
    rows: dict[int, dict] = {}
    for event in records:
        if event["kind"] not in ("start", "end"):
            continue
        still_open = event["kind"] == "start"
        rows[event["segment"]] = {
            "segment": event["segment"],
            "start": event["start"],
            "end": max(now, event["start"]) if still_open else event["end"],
            "label": event["label"],
            "score": event["score"],
            "open": still_open,
        }
    table = pd.DataFrame(list(rows.values()), columns=list(SEGMENT_COLUMNS))
    return table.astype({"start": float, "end": float, "score": float, "open": bool})


def gaps_of(records: Sequence[Mapping], now: float) -> pd.DataFrame:
    """Interruptions (``start, end, reason``) from records in order; one that lasts ends ``now``."""
    rows: dict[float, dict] = {}
    for gap in records:
        if gap["kind"] == "gap":
            end = max(now, gap["start"]) if gap["end"] is None else gap["end"]
            rows[gap["start"]] = {"start": gap["start"], "end": end, "reason": gap["reason"]}
    return pd.DataFrame(list(rows.values()), columns=["start", "end", "reason"])


def scores_chart(
    seconds: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    gaps: pd.DataFrame,
    window: tuple[float, float],
) -> alt.LayerChart | alt.FacetChart:
    """Scores (N, K) at ``seconds`` (N,) as lines, within ``window``; ``gaps`` grey behind them."""
    inside = (seconds >= window[0]) & (seconds <= window[1])
    seconds, scores = _thinned(seconds[inside], scores[inside])
    peaks = scores.max(axis=0) if len(scores) else np.zeros(len(labels))
    drawn = sorted(np.argsort(-peaks, kind="stable")[:MOST_CLASSES])
    shown = [labels[k] for k in drawn]
    colors = class_colors(labels)
    lines = pd.DataFrame(
        {
            "seconds": np.repeat(seconds, len(drawn)),
            "class": np.tile(shown, len(seconds)),
            "score": scores[:, drawn].ravel(),
        }
    )
    curves = (
        alt.Chart(lines)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("seconds:Q", title=None, scale=_across(window), axis=alt.Axis(labels=False)),
            y=alt.Y("score:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=_SIDE),
            color=alt.Color(
                "class:N",
                scale=alt.Scale(domain=shown, range=[colors[label] for label in shown]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("seconds:Q", format=".1f"),
                "class:N",
                alt.Tooltip("score:Q", format=".2f"),
            ],
        )
    )
    holes = (
        alt.Chart(_clipped(gaps, window))
        .mark_rect(color=BACKGROUND, opacity=0.35)
        .encode(x="start:Q", x2="end:Q", tooltip=["reason:N"])
    )
    title = alt.Title("score", anchor="start", fontSize=12, fontWeight="normal", offset=4)
    return alt.layer(holes, curves).properties(height=230, title=title)


def segments_chart(segments: pd.DataFrame, labels: Sequence[str], window: tuple[float, float]) -> alt.Chart:
    """Segments within ``window``, a row per class seen there; those still open are lighter."""
    seen = _clipped(segments, window).rename(columns={"label": "class"})
    shown = [label for label in labels if label in set(seen["class"])]
    colors = class_colors(labels)
    return (
        alt.Chart(seen)
        .mark_bar(height=16, cornerRadius=3)
        .encode(
            x=alt.X("start:Q", title="seconds of the stream", scale=_across(window)),
            x2="end:Q",
            y=alt.Y("class:N", title=None, sort=shown, axis=_SIDE),
            color=alt.Color(
                "class:N",
                scale=alt.Scale(domain=shown, range=[colors[label] for label in shown]),
                legend=None,
            ),
            opacity=alt.condition("datum.open", alt.value(0.5), alt.value(1)),
            tooltip=[
                "class:N",
                alt.Tooltip("start:Q", format=".2f"),
                alt.Tooltip("end:Q", format=".2f"),
                alt.Tooltip("score:Q", format=".2f"),
            ],
        )
        .properties(height=alt.Step(22))
    )


# One width for the axes of both charts, so that the same second is at the same place.
_SIDE = alt.Axis(minExtent=70, maxExtent=70, titlePadding=4)


def _across(window: tuple[float, float]) -> alt.Scale:
    return alt.Scale(domain=list(window), nice=False)


def _clipped(spans: pd.DataFrame, window: tuple[float, float]) -> pd.DataFrame:
    seen = spans[(spans["end"] >= window[0]) & (spans["start"] <= window[1])]
    return seen.assign(start=seen["start"].clip(lower=window[0]), end=seen["end"].clip(upper=window[1]))


def _thinned(seconds: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most ``MOST_POINTS`` points, each the last time and the highest scores of its neighbours."""
    if len(seconds) <= MOST_POINTS:
        return seconds, scores
    edges = np.linspace(0, len(seconds), MOST_POINTS + 1).astype(int)
    return seconds[edges[1:] - 1], np.maximum.reduceat(scores, edges[:-1], axis=0)
