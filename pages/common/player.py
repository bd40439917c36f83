"""The video player that the timeline steers."""

from pathlib import Path

import streamlit as st

from pages.common import video_serving
from tal_core.data.dataset.dataset import Dataset

PLAYER = "timeline-player"


def show_player(path: Path) -> str | None:
    """The video, in the container that the timeline steers; None if it can't be played here."""
    if not path.is_file():
        st.caption(f"The video `{path.name}` is gone; the timeline works without it.")
        return None
    with st.container(key=PLAYER):
        st.video(video_serving.address(path) or path, alt=f"Video {path.stem}")
    return PLAYER


def frame_seconds(data: Dataset, video: str) -> float | None:
    """How long a frame of the video lasts, where its frame rate is known."""
    fps = float(data.index.loc[data.index["video_id"] == video, "fps"].iloc[0])
    return 1 / fps if fps > 0 else None
