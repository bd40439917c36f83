"""How the feature grid of each video runs in time.

seconds   0      offset    offset+step   offset+2*step          duration
          |---------x-----------x-------------x-------- ... -------|
snippet             0           1             2          ... T-1
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tal_core.data.dataset.entry import DatasetEntry
from tal_core.types import InputError


def steps(entry: DatasetEntry, videos: pd.DataFrame, lengths: np.ndarray | None = None) -> np.ndarray:
    """Seconds between the snippets of each video (V,), NaN where unknown.

    ``videos``: ``VIDEO_COLUMNS``; ``lengths``: snippets per video (V,), needed for stretched features.
    """
    if entry.timing == "stretched":
        known = np.full(len(videos), np.nan) if lengths is None else np.where(lengths > 0, lengths, np.nan)
        return videos["duration"].to_numpy() / known
    if entry.snippet_seconds is not None:
        return np.full(len(videos), entry.snippet_seconds)
    if entry.stride is not None and entry.fps is not None:
        return np.full(len(videos), entry.stride / entry.fps)
    if entry.stride is not None:
        return entry.stride / videos["fps"].to_numpy()
    return np.full(len(videos), np.nan)


def offsets(entry: DatasetEntry, step: np.ndarray) -> np.ndarray:
    """Seconds at the centre of each video's first snippet (V,); ``step``: as `steps` gives it."""
    if entry.offset_frames is not None and entry.stride is not None:
        return entry.offset_frames / entry.stride * step
    return step / 2 if entry.offset_seconds is None else np.full(len(step), entry.offset_seconds)


def check_timing(entry: DatasetEntry, videos: pd.DataFrame) -> None:
    """Check that what was given about time fits together.

    Raises:
        InputError: if it doesn't, naming the option.
    """
    if entry.snippet_seconds is not None and (entry.stride is not None or entry.fps is not None):
        raise InputError("both snippet seconds and stride or fps were given", hint="Give one or the other.")
    if entry.timing == "stretched" and (entry.snippet_seconds is not None or entry.stride is not None):
        raise InputError(
            "stretched features have no fixed step", hint="Leave out stride and snippet seconds."
        )
    if entry.offset_frames is not None and (entry.stride is None or entry.offset_seconds is not None):
        what = "without stride" if entry.stride is None else "and seconds were both given"
        raise InputError(
            f"the offset in frames {what}", hint="Give --offset-frames with --stride, or --offset-seconds."
        )
    if entry.fps is not None and entry.stride is None:
        raise InputError(
            "fps was given without stride", hint="Add --stride, the frames between two snippets."
        )
    if entry.stride is not None and entry.fps is None and videos["fps"].isna().all():
        raise InputError(
            "stride was given, but neither fps nor annotations that name it",
            hint="Add --fps, the frame rate that the features were made with.",
        )


def derive_timing(entry: DatasetEntry, videos: pd.DataFrame, lengths: np.ndarray) -> dict[str, object]:
    """What the entry leaves open about time, from durations and lengths: fields to set and a note.

    Raises:
        InputError: if no video has both a duration and features.
    """
    if entry.timing == "stretched" or entry.snippet_seconds is not None or entry.stride is not None:
        return {}
    durations = videos["duration"].to_numpy()
    known = (lengths > 0) & np.isfinite(durations)
    if not known.any():
        raise InputError(
            "the seconds between snippets can't be worked out without durations and readable features",
            where=f"dataset {entry.name}",
            hint="Give --stride and --fps, or --snippet-seconds.",
        )
    lengths, durations = lengths[known], durations[known]
    if len(lengths) > 2 and np.ptp(lengths) == 0 and np.ptp(durations) > 0.05 * np.median(durations):
        note = f"every video has {lengths[0]} snippets, so they are taken as stretched over its duration"
        return {"timing": "stretched", "derived": [*entry.derived, note]}
    ratios = durations / lengths
    step = float(np.median(ratios))
    spread = float(np.mean(np.abs(ratios - step) > 0.05 * step))
    note = f"snippet_seconds = {step:g} is the median of duration / snippets"
    if spread > 0.05:
        note += (
            f"; {spread:.0%} of the videos are more than 5 % away from it, so better give --stride and --fps"
        )
    return {"snippet_seconds": step, "derived": [*entry.derived, note]}
