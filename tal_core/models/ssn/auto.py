"""Settings of SSN that suit a dataset, and warnings of those that don't.

Made for features from disk: the heads get an encoder, as the paper's image network isn't there to learn, and
proposals from the ground truth beside the found ones, as small datasets have few that are nearly right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Suggestion
from tal_core.models.ssn.stages import proposer_of

CROWDED = 0.5  # from this part of the time in actions on, class-agnostic actionness runs them together
BATCH, EPOCHS, PROPOSAL_EPOCHS = 4, 20, 4
STEPS = 640  # of the second stage, at least: where the mAP of small datasets levels off


def suggest(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings by field; nothing without training segments."""
    if summary.num_videos == 0 or len(summary.segments) == 0:
        return {}
    long, longest = float(np.percentile(summary.segments, 95)), int(summary.lengths.max())
    layers = min(max(math.ceil(math.log2(long + 1)), 3), 8)
    repeats = max(1, math.ceil(STEPS * BATCH / (summary.num_videos * (EPOCHS - PROPOSAL_EPOCHS))))
    steps = repeats * math.ceil(summary.num_videos / BATCH) * (EPOCHS - PROPOSAL_EPOCHS)
    decay = round(min(max(1 - 6.4 / steps, 0.9), 0.999), 4)
    reach = f"sees {2**layers - 1} snippets to each side; 95 % of the actions have up to {long:.0f}"
    schedule = f"{steps} steps of the heads on {summary.num_videos} training videos"
    return {
        "proposals": Suggestion("actionness", "groups of actionness start and end between snippets"),
        "proposer_settings": _proposer_settings(summary, layers),
        "encoder_layers": Suggestion(layers, reach),
        "dropout": Suggestion(0.3, "the encoder has few weights beside an image network"),
        "sequence_length": Suggestion(
            min(longest, 2304) if longest > 1 else 2,
            f"the longest training video has {longest} snippets",
        ),
        "proposals_per_video": Suggestion(64, "snippet features make proposals cheap"),
        "moved_truth": Suggestion(64, "more proposals that are nearly right than the found ones"),
        "completeness_weight": Suggestion(1.0, "the encoder learns from all three losses alike"),
        "regression_weight": Suggestion(1.0, "the encoder learns from all three losses alike"),
        "batch_size": Suggestion(BATCH, "videos; a step looks at 64 proposals of each"),
        "epochs": Suggestion(EPOCHS, schedule),
        "proposal_share": Suggestion(PROPOSAL_EPOCHS / EPOCHS, "a fifth of the run makes the proposals"),
        "repeats": Suggestion(repeats, schedule),
        "optimizer": Suggestion("adamw", "the encoder's weights decay apart from their gradient"),
        "weight_decay": Suggestion(0.01, "goes with AdamW"),
        "schedule": Suggestion("cosine", "ends with small steps, whatever the number of epochs"),
        "gradient_clip": Suggestion(1.0, "keeps single odd videos from throwing the encoder off"),
        "ema_decay": Suggestion(decay, f"averages over the last hundredth of {steps} steps"),
        "first_nms": Suggestion(None, "moved boundaries overlap better; soft NMS sees those"),
        "nms": Suggestion("soft", "keeps actions that overlap a better one"),
        "nms_sigma": Suggestion(0.3, "actions of one class seldom overlap"),
    }


def _proposer_settings(summary: DataSummary, layers: int) -> Suggestion:
    share = float(summary.segments.sum() / max(summary.lengths.sum(), 1))
    text = f"classwise=true layers={layers} batch_size={BATCH}"
    why = f"actions take {share:.0%} of the time"
    if share > CROWDED:
        return Suggestion(text, f"{why} and follow each other, so that each class is grouped by itself")
    return Suggestion(text, f"{why}; grouping each class by itself also parts neighbours")


def proposer_text(config: Any, summary: DataSummary) -> str:
    """What the proposals' method suggests for itself, as ``proposer_settings``."""
    method, _ = proposer_of(config)
    shared = set(MethodConfig.model_fields) - {"batch_size"}
    own = {name: one.value for name, one in method.suggest(summary).items() if name not in shared}
    chosen = {name: value for name, value in own.items() if not name.startswith("classifier")}
    return " ".join(f"{name}={'none' if value is None else value}" for name, value in chosen.items())


def check(config: Any, summary: DataSummary) -> list[str]:
    """What will go badly, a line each."""
    found = []
    segments = summary.segments
    share = float(segments.sum() / max(summary.lengths.sum(), 1))
    if config.proposals == "actionness" and "classwise=true" not in config.proposer_settings and share > 0.7:
        found.append(
            f"Actions take {share:.0%} of the time: actionness runs neighbours together. Set"
            " proposer_settings to classwise=true, or proposals to bsn."
        )
    advised = proposer_text(config, summary)
    if advised and not config.proposer_settings:
        found.append(
            f"{config.proposals} finds better proposals with settings of its own. Set proposer_settings to:"
            f" {advised}"
        )
    if config.encoder_layers:
        cut = int((segments > config.sequence_length).sum())
        if cut:
            found.append(
                f"{cut} of {len(segments)} training segments are longer than sequence_length"
                f" ({config.sequence_length}) and teach nothing. Set it to {math.ceil(2 * segments.max())}."
            )
    else:
        short = int((segments < config.course_snippets).sum())
        if short > len(segments) / 10:
            found.append(
                f"{short} of {len(segments)} training segments are shorter than the {config.course_snippets}"
                " snippets that stand for one. Set encoder_layers above 0, which pools exact means."
            )
    if config.incomplete_share and int(config.numbers[1] * config.hard_negative_ratio) == 0:
        found.append(
            f"hard_negative_ratio {config.hard_negative_ratio:g} leaves none of {config.numbers[1]}"
            " incomplete proposals of a video. Raise proposals_per_video."
        )
    return found
