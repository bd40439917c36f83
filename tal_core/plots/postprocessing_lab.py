"""Figures and tables of the post-processing lab: a run as it is beside what other settings make of it.

Pure functions; AP and mAP come as fractions and are shown in percent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from tal_core.evaluation.result import Evaluation
from tal_core.plots.colors import GRID, OUTCOME_COLORS
from tal_core.plots.evaluation import map_table, plain_text
from tal_core.postprocessing.lab import Suggestion, Trial
from tal_core.postprocessing.nms import Suppression

MOST_BARS = 20
_UP, _DOWN = OUTCOME_COLORS["true positive"], OUTCOME_COLORS["missed"]
_KINDS = {"none": "no NMS", "hard": "hard", "soft": "soft", "linear": "linear"}


def settings_text(settings: Suppression) -> str:
    """The settings in a few words: ``soft, sigma 0.5, per class``."""
    words = [_KINDS[settings.nms]]
    if settings.nms == "soft":
        words.append(f"sigma {settings.nms_sigma:g}")
    elif settings.nms != "none":
        words.append(f"tIoU {settings.nms_threshold:g}")
    words.append("per class" if settings.nms_per_class else "over all classes")
    if settings.voting_threshold > 0 and not settings.nms_per_class:
        words.append(f"voting {settings.voting_threshold:g}")
    return ", ".join(words)


def compare_table(present: Evaluation, changed: Evaluation) -> pd.DataFrame:
    """Rows ``as it is``, ``lab`` and ``difference``: mAP in percent at each tIoU, and ``average``."""
    table = map_table({"as it is": present, "lab": changed})
    numbers = table.columns[1:]
    difference = table[numbers].iloc[1] - table[numbers].iloc[0]
    table.loc[2] = ["difference", *difference]
    return table.rename(columns={"run": "settings"})


def class_changes(present: Evaluation, changed: Evaluation) -> pd.DataFrame:
    """``label``, average AP in percent ``as it is`` and in the ``lab``, ``change``; the best change first."""
    before = 100 * present.per_class()["average"]
    after = 100 * changed.per_class()["average"].reindex(before.index)
    table = pd.DataFrame({"as it is": before, "lab": after, "change": after - before}).reset_index()
    return table.sort_values("change", ascending=False, kind="stable", ignore_index=True)


def change_bars(changes: pd.DataFrame) -> go.Figure:
    """The largest changes of AP as bars, gains and losses in different colours."""
    largest = changes["change"].abs().sort_values(ascending=False, kind="stable").index[:MOST_BARS]
    shown = changes.loc[sorted(largest, reverse=True)]
    labels = [plain_text(str(label)) for label in shown["label"]]
    figure = go.Figure(
        go.Bar(
            x=shown["change"],
            y=labels,
            orientation="h",
            marker_color=np.where(shown["change"] >= 0, _UP, _DOWN),
            text=[f"{value:+.1f}" for value in shown["change"]],
            textposition="outside",
            cliponaxis=False,
            customdata=shown[["as it is", "lab"]],
            hovertemplate="%{y}: %{customdata[0]:.1f} → %{customdata[1]:.1f} %<extra></extra>",
        )
    )
    widest = max(1.0, 1.25 * float(shown["change"].abs().max())) if len(shown) else 1.0
    figure.update_layout(height=max(160, 60 + 22 * len(shown)), margin={"l": 10, "r": 10, "t": 10, "b": 10})
    figure.update_xaxes(title="change of AP (points)", range=[-widest, widest], gridcolor=GRID)
    figure.update_xaxes(zeroline=True, zerolinecolor=GRID)
    figure.update_yaxes(automargin=True, type="category", dtick=1)
    return figure


def suggestion_table(suggestion: Suggestion) -> pd.DataFrame:
    """The best settings and the present ones: average mAP in percent, on the chosen videos and on others."""
    rows = [_row(str(place), trial) for place, trial in enumerate(suggestion.best, start=1)]
    table = pd.DataFrame([*rows, _row("as set", suggestion.present)])
    return table if suggestion.num_reported else table.drop(columns="held back")


def _row(place: str, trial: Trial) -> dict:
    held_back = None if trial.reported is None else 100 * trial.reported
    words = settings_text(trial.settings)
    return {"place": place, "settings": words, "chosen on": 100 * trial.chosen, "held back": held_back}
