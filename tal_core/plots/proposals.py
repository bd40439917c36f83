"""Figures and tables of proposals and of segments as labelled frames."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from tal_core.evaluation.proposal_recall import SHOWN, ProposalRecall
from tal_core.evaluation.segmentation import Segmentation
from tal_core.plots.evaluation import plain_text, run_style, style_axes


def recall_curves(found: Mapping[str, ProposalRecall]) -> go.Figure:
    """Average recall against the average number of proposals per video, one line per run."""
    figure = go.Figure()
    for index, (name, recall) in enumerate(found.items()):
        style = run_style(index)
        figure.add_scatter(
            x=recall.proposals_per_video,
            y=100 * recall.average_recall,
            name=f"{plain_text(name)} (AUC {100 * recall.auc:.2f})",
            mode="lines",
            line=style["line"],
            hovertemplate="AR %{y:.2f} % at %{x:.3g} proposals<extra>" + plain_text(name) + "</extra>",
        )
    style_axes(figure, "proposals per video on average (AN)", "average recall (%)")
    figure.update_yaxes(range=[0, 101])
    return figure


def recall_by_threshold(found: Mapping[str, ProposalRecall]) -> go.Figure:
    """Recall of all proposals looked at against the tIoU threshold, one line per run."""
    figure = go.Figure()
    for index, (name, recall) in enumerate(found.items()):
        figure.add_scatter(
            x=recall.tiou,
            y=100 * recall.recall[:, -1],
            name=plain_text(name),
            mode="lines+markers",
            hovertemplate="recall %{y:.2f} % at tIoU %{x:.3g}<extra>" + plain_text(name) + "</extra>",
            **run_style(index),
        )
    style_axes(figure, "tIoU threshold", "recall (%)")
    figure.update_yaxes(range=[0, 101])
    return figure


def recall_table(found: Mapping[str, ProposalRecall]) -> pd.DataFrame:
    """Per run: AR@1, 5, 10, 100 and AUC in percent, and how many proposals a video has."""
    rows = []
    for name, recall in found.items():
        figures = {f"AR@{number}": recall.at(number) for number in SHOWN}
        row = {"run": name} | {key: None if v is None else 100 * v for key, v in figures.items()}
        rows.append(row | {"AUC": 100 * recall.auc, "proposals": recall.num_proposals})
    return pd.DataFrame(rows)


def segmentation_table(found: Mapping[str, Segmentation], scores: Mapping[str, float]) -> pd.DataFrame:
    """Per run: the score threshold if there is one, and each figure's mean over the videos in percent."""
    cuts = {name: score if math.isfinite(score) else None for name, score in scores.items()}
    return pd.DataFrame(
        [{"run": name, "score at least": cuts[name], **one.means()} for name, one in found.items()]
    )
