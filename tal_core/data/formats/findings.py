"""What is odd, but usable, in annotations and detections: counted and reported, never removed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tal_core.segments import temporal_iou
from tal_core.types import FINDING_COLUMNS, finding

BEYOND = 1e-3
"""Seconds that a segment may pass the video's end unreported: durations are often rounded to that."""
ALIKE = 0.9
"""tIoU from which two segments of a class in a video may be one action, annotated twice."""


def annotation_findings(truth: pd.DataFrame, ambiguous: pd.DataFrame, videos: pd.DataFrame) -> list[dict]:
    """Findings on ground truth whose numbers are finite and in order."""
    durations = videos.set_index("video_id")["duration"]
    past = truth["end"].to_numpy() - durations.reindex(truth["video_id"]).to_numpy()
    cut = "Kept for evaluation, cut for training. Check the times and the duration."
    notes = [
        *_per_video(truth, truth["end"] == truth["start"], "zero length", "of zero length",
                    "Kept for evaluation by the official protocol, left out of training."),
        *_per_video(truth, past > BEYOND, "beyond the end", "ending after the video", cut),
        *_per_video(truth, truth["start"] < 0, "negative start", "starting before 0", cut),
        *_per_video(truth, truth.duplicated().to_numpy(), "duplicate", "written twice",
                    "Kept for evaluation by the official protocol. Remove the copies if they are slips."),
        *_per_video(truth, _nearly_twice(truth), "overlap", "nearly the same as the one before",
                    "Kept. Remove one of the two if they mean the same action."),
    ]  # fmt: skip
    notes += _alike(sorted(truth["label"].unique()))
    numbered = truth["label"].str.fullmatch(r"\d+")
    if numbered.all():
        notes.append(finding("info", "labels", "the labels are numbers; they are shown as they are"))
    if len(ambiguous):
        detail = f"{len(ambiguous)} segments of {ambiguous['video_id'].nunique()} videos are marked Ambiguous"
        notes.append(
            finding(
                "info", "ambiguous", detail, advice="They are ignored in evaluation, as the benchmark does."
            )
        )
    return [*notes, *_silent(videos)]


def detection_findings(
    detections: pd.DataFrame,
    truth: pd.DataFrame,
    videos: pd.DataFrame | None = None,
    classes: Sequence[str] = (),
) -> pd.DataFrame:
    """Check detections against a ground truth: unknown videos and labels, zero length, duplicates.

    ``videos``: all videos known (``VIDEO_COLUMNS``), where some have no annotation. ``classes``: all labels
    known, where the subset has no annotation of some.
    """
    known = set(truth["video_id"]) | (set(videos["video_id"]) if videos is not None else set())
    notes = []
    elsewhere = set(classes) - set(truth["label"])
    if (idle := detections["label"].isin(elsewhere)).any():
        found = detections.loc[idle, "label"].unique()
        detail = f"{int(idle.sum())} detections of {len(found)} classes without annotations in this subset"
        notes.append(finding("info", "idle labels", detail, advice="They are ignored in evaluation."))
    for column, names, effect in (
        ("video_id", known, "By the official protocol they count as false positives."),
        ("label", set(truth["label"]) | elsewhere, "They are ignored in evaluation."),
    ):
        strange = ~detections[column].isin(names)
        if strange.any() and detections[column].any():
            word = "videos" if column == "video_id" else "labels"
            found = detections.loc[strange, column].unique()
            detail = f"{int(strange.sum())} detections of {len(found)} unknown {word} (first: {found[0]})"
            hint = "Check the spelling."
            if column == "video_id" and strange.all():
                hint = _prefix_advice(found[0], sorted(names))
            notes.append(finding("warning", f"unknown {word}", detail, advice=f"{effect} {hint}"))
    for kind, odd in (
        ("zero length", detections["start"] == detections["end"]),
        ("duplicate", detections.duplicated()),
    ):
        if odd.any():
            advice = "Kept: they count as false positives, as in the official protocol."
            notes.append(finding("warning", kind, f"{int(odd.sum())} detections: {kind}", advice=advice))
    return pd.DataFrame(notes, columns=list(FINDING_COLUMNS), dtype="str")


def _prefix_advice(stranger: str, known: list[str]) -> str:
    """How to make the names of two files meet, when not one video is in both."""
    for name in known:
        longer, shorter = (name, stranger) if len(name) > len(stranger) else (stranger, name)
        if longer != shorter and longer.endswith(shorter):
            prefix = longer.removesuffix(shorter)
            change = "Add" if longer == name else "Remove"
            return f"{change} {prefix!r} in front of the video names in the detections."
    first = f" ({known[0]})" if known else ""
    return f"Not one video is in both: is this the right ground truth{first}?"


def _per_video(
    truth: pd.DataFrame, odd: np.ndarray | pd.Series, kind: str, what: str, advice: str
) -> list[dict]:
    """One finding per video with an odd annotation."""
    rows = truth[np.asarray(odd)]
    notes = []
    for video_id, group in rows.groupby("video_id", sort=False):
        start, end, label = group[["start", "end", "label"]].iloc[0]
        plural = "s" if len(group) > 1 else ""
        detail = f"{len(group)} annotation{plural} {what} (first: {label}, {start:g} to {end:g} s)"
        notes.append(finding("warning", kind, detail, video_id=str(video_id), advice=advice))
    return notes


def _nearly_twice(truth: pd.DataFrame) -> np.ndarray:
    """Segments (G,) with a tIoU of ``ALIKE`` or more, but below 1, with the one before of their class."""
    order = truth.sort_values(["video_id", "label", "start", "end"], kind="stable")
    before = order.shift()
    tiou = temporal_iou(order[["start", "end"]].to_numpy(), before[["start", "end"]].to_numpy())
    odd = (order["video_id"] == before["video_id"]) & (order["label"] == before["label"])
    odd &= (tiou >= ALIKE) & (tiou < 1)
    return odd.reindex(truth.index).to_numpy()


def _alike(labels: list[str]) -> list[dict]:
    """Labels that differ only in case, spaces, hyphens or underscores are probably one class."""
    seen: dict[str, str] = {}
    notes = []
    for label in labels:
        plain = "".join(label.lower().replace("_", " ").replace("-", " ").split())
        if plain in seen:
            detail = f"the labels {seen[plain]!r} and {label!r} look like one class"
            notes.append(finding("warning", "labels", detail, advice="If they are, write them alike."))
        seen.setdefault(plain, label)
    return notes


def _silent(videos: pd.DataFrame) -> list[dict]:
    """Findings on videos without duration or subset."""
    notes = []
    missing = int(videos["duration"].isna().sum())
    if missing:
        detail = f"{missing} of {len(videos)} videos have no duration"
        notes.append(
            finding("info", "durations", detail, advice="It is taken from their features where these exist.")
        )
    missing = int((videos["subset"] == "").sum())
    if missing:
        detail = f"{missing} of {len(videos)} videos have no subset"
        advice = "Name it in the annotations or in a --video-info CSV; else a seeded split is made."
        notes.append(finding("info", "subsets", detail, advice=advice))
    return notes
