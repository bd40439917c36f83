"""Detections of one video as subtitles, so that any player shows them: WebVTT and SubRip (SRT)."""

from __future__ import annotations

import html
import re

import pandas as pd

SHORTEST = 0.001
"""Seconds that a caption lasts at least: players drop one that ends when it begins."""


def to_vtt(table: pd.DataFrame) -> str:
    """WebVTT (W3C) of the detections of one video, by start. The text is label and score."""
    return "WEBVTT\n\n" + "\n".join(
        f"{_time(start, '.')} --> {_time(end, '.')}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _captions(table)
    )


def to_srt(table: pd.DataFrame) -> str:
    """SubRip subtitles of the detections of one video, by start. The text is label and score."""
    return "\n".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_captions(table), start=1)
    )


def _captions(table: pd.DataFrame) -> list[tuple[float, float, str]]:
    """Start, end and text, by start; a video begins at 0."""
    captions = []
    rows = table.sort_values(["start", "end"], kind="stable")
    for start, end, label, score in zip(*(rows[c] for c in ("start", "end", "label", "score")), strict=True):
        start = max(0.0, start)
        # An empty line would end the caption, an arrow would be taken for its times.
        text = re.sub(r"\s+", " ", label).replace("-->", "→").strip() or "action"
        captions.append((start, max(end, start + SHORTEST), f"{text} {score:.2f}"))
    return captions


def _time(seconds: float, mark: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"
