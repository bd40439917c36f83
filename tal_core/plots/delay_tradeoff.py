"""Figures of online detection.

The page Live shows ``tradeoff_figure(read_tradeoff(run), run.run_id)``, where ``read_tradeoff`` of
``streaming.online_evaluation`` gives None for a run that ``python -m tal_core online`` hasn't measured yet.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from tal_core.plots.colors import PALETTE

MEASURES = {"average_mAP": "average mAP", "f1": "F1 at tIoU 0.5", "frame_mAP": "per-frame mAP"}


def tradeoff_figure(table: pd.DataFrame, title: str = "") -> alt.Chart:
    """Percent against the delay in seconds, a line for each measure; columns as of ``read_tradeoff``."""
    rows = table.melt(["delay", "end_latency"], list(MEASURES), "measure", "value").dropna(subset=["value"])
    rows = rows.assign(measure=rows["measure"].map(MEASURES), value=100 * rows["value"].astype(float))
    names = [name for name in MEASURES.values() if name in set(rows["measure"])]
    return (
        alt.Chart(rows, title=title)
        .mark_line(point=alt.OverlayMarkDef(size=45))
        .encode(
            x=alt.X("delay:Q", title="Delay before a decision (s)"),
            y=alt.Y("value:Q", title="Percent", scale=alt.Scale(zero=False, nice=True)),
            color=alt.Color(
                "measure:N",
                title=None,
                scale=alt.Scale(domain=names, range=list(PALETTE[: len(names)])),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("measure:N", title="Measure"),
                alt.Tooltip("delay:Q", title="Delay (s)"),
                alt.Tooltip("value:Q", title="Percent", format=".2f"),
                alt.Tooltip("end_latency:Q", title="End known after (s)", format=".2f"),
            ],
        )
        .properties(height=280)
    )
