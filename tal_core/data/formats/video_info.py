"""A CSV with one line per video (subset, duration, fps) beside annotations that lack them.

The flat ActivityNet form, for one, keeps its subsets in such a file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.formats.files import numbers, read_columns
from tal_core.types import InputError, finding

VIDEO = ("video", "video-id", "videoid", "video_name", "name", "id", "filename")
SUBSET = ("split", "set", "partition")
DURATION = ("seconds", "duration_second", "duration_seconds", "length_seconds")
FPS = ("frame_rate", "framerate", "rfps")


def read_video_info(path: Path) -> pd.DataFrame:
    """Table ``video_id`` (index), ``subset``, ``duration``, ``fps`` of those columns that the CSV has.

    Raises:
        InputError: if it isn't a table, names a video twice, or holds none of the columns.
    """
    path = Path(path)
    aliases = {"video_id": VIDEO, "subset": SUBSET, "duration": DURATION, "fps": FPS}
    table = read_columns(path, aliases, required=("video_id",))
    if table.columns.tolist() == ["video_id"]:
        raise InputError("no column subset, duration or fps", where=path, hint="Add one of them.")
    twice = table["video_id"].duplicated()
    if twice.any():
        raise InputError(
            f"video {table['video_id'][twice].iloc[0]!r} is there twice", where=path, hint="Keep one line."
        )
    for column in {"duration", "fps"} & set(table.columns):
        values = numbers(table, column, path)
        table[column] = np.where(values > 0, values, np.nan)
    return table.set_index("video_id")


def fill_from(videos: pd.DataFrame, info: pd.DataFrame, path: Path | None) -> tuple[pd.DataFrame, list[dict]]:
    """Fill what ``videos`` lacks from ``info``; what the annotations say themselves stays.

    Videos that ``info``, read from ``path``, doesn't know are a finding.
    """
    videos = videos.copy()
    matched = info.reindex(videos["video_id"])
    for column in info.columns:
        values = matched[column].to_numpy()
        silent = (videos[column] == "") if column == "subset" else videos[column].isna()
        videos[column] = videos[column].mask(silent, values)
    videos["subset"] = videos["subset"].fillna("").astype("str")
    unknown = int((~videos["video_id"].isin(info.index)).sum())
    if not unknown or path is None:
        return videos, []
    first = videos.loc[~videos["video_id"].isin(info.index), "video_id"].iloc[0]
    detail = f"{unknown} annotated videos are not in {path} (first: {first})"
    return videos, [finding("warning", "video info", detail, advice="Add a line for each of them.")]
