"""Settings derived from a dataset's own durations, stride and sizes, and warnings about what won't fit.

The rules interpolate between what was published for datasets of very different sizes (THUMOS14: 200 training
videos, 3 000 segments; ActivityNet: 10 000 short videos) and what was measured on small ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Suggestion

LONGEST_CLIP = 2304  # snippets; what the published pyramids train on
CELLS_PER_SEGMENT = (4, 8)  # a level's segments are so many of its cells long
USUAL_RADIUS = 1.5  # center_radius of every published config
WHOLE_VIDEO_SHARE = 0.25  # segments this long against their video: positions are relative to the video


def check_data(summary: DataSummary) -> list[str]:
    """What no setting of any method can fix, a line each."""
    findings = []
    if summary.unseen:
        names = ", ".join(summary.unseen[:5]) + (", ..." if len(summary.unseen) > 5 else "")
        findings.append(
            f"{len(summary.unseen)} of {summary.num_classes} classes are evaluated but never trained and"
            f" can't be found: {names}."
        )
    empty = int((summary.counts == 0).sum())
    if empty:
        findings.append(f"{empty} of {summary.num_videos} training videos have no segment: only background.")
    return findings


def check_schedule(config: MethodConfig) -> list[str]:
    """Epochs that are over before the learning rate has risen, a line each."""
    if config.warmup_epochs == 0 or config.warmup_epochs < config.epochs:
        return []
    return [
        f"the learning rate rises during warmup_epochs={config.warmup_epochs:g}, which is all of the"
        f" {config.epochs} epochs: set warmup_epochs={config.epochs / 10:g}."
    ]


# Pyramid methods: ActionFormer, TriDet, TemporalMaxer


def suggest_pyramid(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings of ``PyramidConfig`` for this data; without training segments there is nothing to go by."""
    if len(summary.segments) == 0 or summary.num_videos == 0:
        return {}
    suggestions = _windows(summary)
    suggestions |= _sizes(summary)
    suggestions |= _schedule(summary, suggestions["batch_size"].value, suggestions["embed_dim"].value)
    suggestions["input_dropout"] = _input_dropout(suggestions["embed_dim"].value, len(summary.segments))
    return suggestions | _detection(summary)


def _windows(summary: DataSummary) -> dict[str, Suggestion]:
    """Clip length, levels and their regression ranges."""
    longest_video = int(summary.lengths.max())
    median, long = np.percentile(summary.segments, [50, 99])
    suggestions: dict[str, Suggestion] = {}
    scale, length = 1.0, longest_video
    share = median / np.median(summary.lengths)
    if share > WHOLE_VIDEO_SHARE and longest_video <= 4 * 192:
        length = 192
        scale = length / float(np.median(summary.lengths))
        why = f"actions fill {share:.0%} of these short videos, so all are stretched to one length"
        suggestions["resize"] = Suggestion(length, why)
    first, levels = _pyramid(median * scale, long * scale, length)
    stride = 2 ** (levels - 1)
    clip = -(-min(length, LONGEST_CLIP) // stride) * stride
    if length > LONGEST_CLIP and long > 0.5 * LONGEST_CLIP:
        clip = -(-math.ceil(2 * long) // stride) * stride
        why = f"twice the longest actions ({long:.0f}); the longest video ({longest_video}) is cropped"
    elif length > LONGEST_CLIP:
        why = f"the longest training video has {longest_video} snippets and is cropped to this"
    else:
        why = f"holds the longest training video ({length} snippets) whole; a multiple of {stride}"
    suggestions["sequence_length"] = Suggestion(clip, why)
    suggestions["levels"] = Suggestion(
        levels,
        f"99 % of the segments have up to {long * scale:.0f} snippets: a coarsest stride of {stride}",
    )
    bounds = [float(first * 2**level) for level in range(levels - 1)]
    text = f"doubling from half of {2 * first} snippets: the median segment is {median * scale:.1f}"
    suggestions["regression_bounds"] = Suggestion(bounds, text)
    return suggestions


def _pyramid(median: float, long: float, length: int) -> tuple[int, int]:
    """The first regression bound and the number of levels.

    From a segment's middle its ends are half its length away. A level of stride ``s`` sees ends up to
    ``4 s``; with a median below 6 snippets most segments would crowd on the first, so bounds start at 2.
    """
    first = 4 if median >= 6 else 2
    levels = 1 + max(1, math.ceil(math.log2(max(long / 2, 1) / first)))
    most = max(1, int(math.log2(max(length, 1))) - 2)  # at least four cells on the coarsest level
    return first, min(levels, most, 9)


def _sizes(summary: DataSummary) -> dict[str, Suggestion]:
    """Widths and batch size, by how much there is to learn from."""
    segments, videos = len(summary.segments), summary.num_videos
    width = 128 if segments < 1500 else 256 if segments < 2500 else 512
    why = f"{segments} training segments" + (", which a wider network would memorise" if width < 512 else "")
    batch = int(min(16, max(2, 2 ** round(math.log2(max(videos, 1) / 400)))))
    return {
        "embed_dim": Suggestion(width, why),
        "head_dim": Suggestion(width, why),
        "batch_size": Suggestion(batch, f"{videos} training videos: {-(-videos // batch)} steps an epoch"),
    }


def _input_dropout(width: int, segments: int) -> Suggestion:
    """With few segments the network memorises them by a few channels, unless those are missing at times."""
    if width > 256:
        return Suggestion(
            0.0, f"{segments} training segments: enough to see all channels at once, as published"
        )
    return Suggestion(0.3 if width <= 128 else 0.15, f"{segments} training segments lean on too few channels")


def _schedule(summary: DataSummary, batch: int, width: int) -> dict[str, Suggestion]:
    """Epochs, learning rate, averaged weights and the loss normaliser."""
    a_pass = -(-summary.num_videos // batch)
    epochs = int(min(500, max(15, round(11 + 700 / a_pass))))
    steps = epochs * a_pass
    rate = 1e-3 if width <= 128 or batch >= 8 else 3e-4 if width <= 256 else 1e-4
    decay = round(min(0.999, max(0.5, 1 - 10 / steps)), 4)
    positives = max(1, round(3 * batch * float(summary.counts.mean())))
    return {
        "epochs": Suggestion(epochs, f"{steps} steps of {a_pass} an epoch"),
        "warmup_epochs": Suggestion(max(1.0, round(0.1 * epochs, 1)), "a tenth of the epochs"),
        "learning_rate": Suggestion(rate, f"a network {width} wide, {batch} videos a step, {steps} steps"),
        "ema_decay": Suggestion(decay, f"averages over {1 / (1 - decay):.0f} of the {steps} steps"),
        "initial_normaliser": Suggestion(
            float(positives),
            f"{batch} videos of {summary.counts.mean():.1f} segments, about 3 cells each",
        ),
    }


def _detection(summary: DataSummary) -> dict[str, Suggestion]:
    """NMS and the number of detections."""
    overlap, most = summary.same_class_overlap, int(summary.counts.max())
    sigma = 0.5 if overlap < 0.1 else 0.9
    kept = int(min(2000, max(100, 100 * math.ceil(most / 10))))
    return {
        "nms_sigma": Suggestion(sigma, f"{overlap:.0%} of segments overlap another of their own class"),
        "max_detections": Suggestion(kept, f"about ten for each of the up to {most} segments of a video"),
    }


def suggest_actionformer(summary: DataSummary) -> dict[str, Suggestion]:
    """``suggest_pyramid``, and attention windows that the coarsest level can fill."""
    suggestions = suggest_pyramid(summary)
    if not suggestions:
        return suggestions
    coarsest = suggestions["sequence_length"].value // 2 ** (suggestions["levels"].value - 1)
    window = min(19, max(3, coarsest // 2 * 2 + 1))
    why = f"published for THUMOS14; the coarsest level has up to {coarsest} cells"
    return suggestions | {"attention_windows": Suggestion([window], why)}


def suggest_tridet(summary: DataSummary) -> dict[str, Suggestion]:
    """``suggest_pyramid``, an MLP that goes with the width, and bins as far as segments reach."""
    suggestions = suggest_pyramid(summary)
    if not suggestions:
        return suggestions
    width, stride = suggestions["embed_dim"].value, 2 ** (suggestions["levels"].value - 1)
    scale = (
        suggestions["resize"].value / float(np.median(summary.lengths)) if "resize" in suggestions else 1.0
    )
    longest = float(summary.segments.max()) * scale
    bins = int(min(32, max(8, 4 * math.ceil(longest / stride / 4))))
    return suggestions | {
        "mlp_dim": Suggestion(2 * width, f"twice the {width} channels of the pyramid"),
        "sgp_init": Suggestion(
            0.1, "so that the blocks learn to look around; at 0 their branches have no gradient"
        ),
        "bins": Suggestion(bins, f"the longest segment spans {longest / stride:.0f} of the coarsest cells"),
    }


def check_pyramid(config: Any, summary: DataSummary) -> list[str]:
    """What will go badly when a ``PyramidConfig`` trains on this data, a line each."""
    return [*_check_ranges(config, summary), *_check_clips(config, summary), *_check_average(config, summary)]


def _check_ranges(config: Any, summary: DataSummary) -> list[str]:
    if config.resize is not None or len(summary.starts) != len(summary.segments):
        return []  # positions on the stretched grid aren't known here
    radius = config.center_radius
    lost = unassigned(summary.starts, summary.segments, config.ranges, radius)
    if not lost.any():
        return []
    text = f"{lost.sum()} of {len(lost)} training segments are in no level's reach and won't be learnt"
    lengths = summary.segments[lost]
    text += f" ({lengths.min():.3g} to {lengths.max():.3g} snippets long)"
    options = {
        f"levels={len(bounds) + 1} and regression_bounds={','.join(f'{bound:g}' for bound in bounds)}": _lost(
            bounds, summary, radius
        )
        for bounds in _other_bounds(config, summary)
    }
    if radius is not None and radius < USUAL_RADIUS:
        reached = unassigned(summary.starts, summary.segments, config.ranges, USUAL_RADIUS)
        options[f"center_radius={USUAL_RADIUS:g}"] = int(reached.sum())
    better = min(options, key=options.__getitem__)
    if options[better] < lost.sum():
        hint = f"set {better}, which leaves {options[better]}"
    else:
        hint = f"they fall between snippets {summary.stride:g} s apart: use features of a smaller stride"
    return [f"{text}: {hint}."]


def _lost(bounds: Sequence[float], summary: DataSummary, radius: float | None) -> int:
    ranges = list(zip([0.0, *bounds], [*bounds, math.inf], strict=True))
    return int(unassigned(summary.starts, summary.segments, ranges, radius).sum())


def _other_bounds(config: Any, summary: DataSummary) -> list[list[float]]:
    """Bounds that double from level to level, as many as the config has levels or as the data needs."""
    levels = {config.levels, _windows(summary)["levels"].value}
    return [[first * 2.0**i for i in range(n - 1)] for n in sorted(levels) for first in (4, 2, 8)]


def unassigned(
    starts: np.ndarray, lengths: np.ndarray, ranges: Sequence[tuple[float, float]], radius: float | None
) -> np.ndarray:
    """Which segments ``(N,)`` no cell of any level is trained on.

    Level ``l`` has cells at the multiples of ``s = 2**l``. One of them is trained on a segment if it lies
    strictly inside it, nearer than ``radius * s`` to its centre, and its farther end is in the level's range
    (ActionFormer, section 3.3). From ``d`` beside the centre the farther end is ``length / 2 + d`` away.
    """
    centre, half = starts + 0.5 * lengths, 0.5 * lengths
    lost = np.ones(len(centre), bool)
    for level, (low, high) in enumerate(ranges):
        stride = 2.0**level
        nearest = np.maximum(low - half, 0)
        for side in (-1, 1):
            cell = np.ceil((side * centre + nearest) / stride) * stride  # the first so far away on this side
            away = cell - side * centre
            open_reach = half if radius is None else np.minimum(half, radius * stride)
            lost &= ~((away < open_reach) & (away <= high - half))
    return lost


def _check_clips(config: Any, summary: DataSummary) -> list[str]:
    if config.resize is not None:
        return []
    long = int((summary.segments > config.sequence_length).sum())
    if not long:
        return []
    stride = 2 ** (config.levels - 1)
    enough = -(-math.ceil(summary.segments.max()) // stride) * stride
    return [
        f"{long} of {len(summary.segments)} training segments are longer than sequence_length"
        f" ({config.sequence_length} snippets) and are never seen whole: set sequence_length={enough}."
    ]


def _check_average(config: Any, summary: DataSummary) -> list[str]:
    """Averaged weights that still hold much of the untrained network at the end."""
    steps = config.epochs * -(-summary.num_videos // config.batch_size)
    if config.ema_decay is None or config.ema_decay**steps < 0.01:
        return []
    better = round(max(0.5, 1 - 10 / steps), 4) if steps > 20 else None
    return [
        f"with ema_decay={config.ema_decay:g} and only {steps} steps, {config.ema_decay**steps:.0%} of the"
        f" averaged weights are still those of the untrained network: set ema_decay={better or 'none'}."
    ]
