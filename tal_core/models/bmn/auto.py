"""Settings of BMN derived from a dataset, and warnings about what its map can't hold."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Suggestion

RESCALED_LENGTH = 100
SHORTEST_RESCALED = 2.0  # snippets that short actions need after rescaling
LONGEST_MAP = 256  # snippets; a map grows with length times longest proposal
SMALL = 5000  # segments: below, narrow layers learn as well and train several times faster
STEPS = 400
MAP_BYTES = 8e9


def suggest_bmn(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings that suit a dataset."""
    if len(summary.segments) == 0:
        return {}
    suggestions = _suggest_windows(summary)
    samples = summary.num_videos
    if "windows_per_video" in suggestions:
        samples *= suggestions["windows_per_video"].value
    small = len(summary.segments) < SMALL
    if small:
        why = f"{len(summary.segments)} segments to learn from: narrow layers suffice"
        suggestions["base_channels"] = Suggestion(128, why)
        suggestions["map_channels"] = Suggestion(64, why)
        suggestions["sample_channels"] = Suggestion(128, why)
    batch = 4 if small else 16
    suggestions["batch_size"] = Suggestion(batch, f"{samples} samples in an epoch")
    per_epoch = ceil(samples / batch)
    epochs = int(np.clip(round(STEPS / per_epoch), 9, 200))
    suggestions["epochs"] = Suggestion(epochs, f"{epochs * per_epoch} steps, {per_epoch} in an epoch")
    suggestions["gradient_clip"] = Suggestion(1.0, "small batches now and then have a steep gradient")
    suggestions["min_score"] = Suggestion(1e-4, "scores are products of six factors")
    if summary.same_class_overlap < 0.01:
        why = "segments of a class don't overlap here, so what overlaps a detection is likely a double"
        suggestions["nms_sigma"] = Suggestion(0.2, why)
    return suggestions


def _suggest_windows(summary: DataSummary) -> dict[str, Suggestion]:
    """Rescaled videos, or windows and the longest proposal in them."""
    typical = float(np.median(summary.lengths))
    short, long = np.percentile(summary.segments, [10, 99.5])
    rescaled = short * RESCALED_LENGTH / typical
    if rescaled >= SHORTEST_RESCALED:
        why = f"short actions still cover {rescaled:.1f} of {RESCALED_LENGTH} snippets of a rescaled video"
        return {"input": Suggestion("rescale", why), "length": Suggestion(RESCALED_LENGTH, why)}
    most = float(summary.segments.max())
    why_longest = f"99.5 % of actions have at most {long:.0f} snippets"
    if most <= 1.25 * long:
        long, why_longest = most, f"the longest action has {most:.0f} snippets"
    longest = int(np.clip(8 * ceil(long / 8), 8, LONGEST_MAP))
    length = max(longest, min(2 * longest, int(summary.lengths.max())), 16)
    windows = max(1, round(typical / length))
    why = f"short actions would cover {rescaled:.1f} of {RESCALED_LENGTH} snippets of a rescaled video"
    return {
        "input": Suggestion("windows", why),
        "max_duration": Suggestion(longest, why_longest),
        "length": Suggestion(length, "twice the longest proposal, so that it is seen with its surroundings"),
        "windows_per_video": Suggestion(windows, f"so many cover a video of {typical:.0f} snippets"),
    }


def check_bmn(config: Any, summary: DataSummary) -> list[str]:
    """What will go badly with these settings (``bmn.BMNConfig``) on this dataset."""
    findings = []
    cells = config.length * config.longest
    size = 4 * config.batch_size * cells * (2 * config.sample_channels + 12 * config.map_channels)
    if size > MAP_BYTES:
        findings.append(
            f"length {config.length} by max_duration {config.longest} at batch_size {config.batch_size} needs"
            f" some {size / 1e9:.0f} GB; lower batch_size, max_duration or sample_channels."
        )
    if len(summary.segments) == 0:
        return findings
    scale = config.length / float(np.median(summary.lengths)) if config.input == "rescale" else 1.0
    segments = summary.segments * scale
    longer = int((segments > config.longest + 0.5).sum())
    if longer and (config.input == "windows" or config.longest < config.length):
        needed = ceil(float(segments.max()))
        findings.append(
            f"{longer} of {len(summary.segments)} training segments are longer than max_duration"
            f" ({config.longest} snippets) and can't be proposed whole; set max_duration={needed} and length"
            " at least as high."
        )
    shorter = int((segments < 0.5).sum())
    if shorter:
        hint = "set input=windows" if config.input == "rescale" else "extract features at a smaller stride"
        findings.append(
            f"{shorter} of {len(summary.segments)} training segments are shorter than half a snippet of the"
            f" network's input, the shortest proposal being one; {hint}."
        )
    return findings
