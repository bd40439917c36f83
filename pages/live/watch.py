"""Live's view of a stream: everything on screen is read from the stream's folder, so nothing is lost."""

import base64
import time
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pages.common import address, downloads, job_progress, loaders, notices, readable
from tal_core.plots import live as plots
from tal_core.streaming.live.folder import ACTIVE, StreamFolder, list_streams, open_stream
from tal_core.types import DETECTION_COLUMNS

MARKS = {
    **readable.STATE_MARKS,
    "starting": ":gray[:material/schedule:]",
    "connecting": ":orange[:material/pending:]",
    "reconnecting": ":orange[:material/sync_problem:]",
}
NOTES = {
    "starting": "Loading the run, and choosing thresholds if `online` hasn't stored any.",
    "connecting": "Waiting for the first picture.",
    "reconnecting": "The connection to the source was lost; trying again.",
    "stopping": "Stopping; open segments are closed first.",
    "stopped": "Stopped by hand.",
    "finished": "The source has ended.",
}
WINDOWS = {30: "30 s", 60: "1 min", 300: "5 min"}
REFRESH_SECONDS = 1.0
MOST_ROWS = 200
LIKELY = 0.3
"""A score from which a class is named though no segment of it is open: over a buffer none ever is."""


def show_watch() -> None:
    """Follow one stream; polls only while it is active."""
    with notices.guard():
        streams = {stream.name: stream for stream in list_streams(loaders.home())}
        if not streams:
            st.info("No stream yet. Start one under “New stream”.")
            return
        picker, window = st.columns([4, 1])
        titles = {name: title(stream) for name, stream in streams.items()}
        stream_id = address.pick("Stream", list(titles), "stream", place=picker, format_func=titles.get)
        seconds = window.selectbox(
            "Time shown", list(WINDOWS), index=1, format_func=WINDOWS.__getitem__, key="live_window"
        )
        active = streams[stream_id].active
    st.fragment(watch, run_every=REFRESH_SECONDS if active else None)(stream_id, seconds, active)


def title(stream: StreamFolder) -> str:
    """How a stream is named in the picker."""
    with notices.guard(stop=False):
        return f"{stream.name} · {stream.request()['source']}"
    return stream.name


def watch(stream_id: str, window: float, polling: bool) -> None:
    """The live part of the page, redrawn without the rest."""
    with notices.guard():
        stream = open_stream(loaders.home(), stream_id)
        config, status, records = stream.request(), stream.status(), stream.records(MOST_ROWS)
        times, scores = stream.scores(window)
    if polling and status["state"] not in ACTIVE:
        st.rerun()  # the whole page once: the picker names the new state, and polling ends
    stats = status.get("stats") or {}
    now = max(stats.get("seconds") or 0.0, float(times[-1]) if len(times) else 0.0)
    segments = plots.segments_of(records, now)
    # A place of its own for each part, so that one which grows never pushes another through the page.
    with st.container():
        show_state(stream, config, status)
    left, right = st.columns(2)
    with left.container():
        show_picture(stream)
    with right.container():
        show_now(segments, times, scores, status)
        show_figures(stats)
    with st.container():
        if len(times):
            span = (max(0.0, now - window), max(now, window))
            gaps = plots.gaps_of(records, now)
            st.altair_chart(
                plots.scores_chart(times, scores, status["labels"], gaps, span),
                key="live_scores",
                alt="Scores of the classes over the last seconds",
            )
            st.altair_chart(
                plots.segments_chart(segments, status["labels"], span),
                key="live_strip",
                alt="Segments over the last seconds, a row per class",
            )
    with st.container():
        show_segments(stream, segments, records)
    with st.expander("Log", expanded=status["state"] in ("failed", "killed"), icon=":material/terminal:"):
        st.code(stream.log_tail() or "Nothing logged.", language=None)


def show_state(stream: StreamFolder, config: dict, status: dict) -> None:
    """State, source, and the button that makes sense now."""
    state = status["state"]
    text = f"{MARKS.get(state, '')} **{state}** · {config['run']} on {config['source']}"
    silent = time.time() - (status.get("heartbeat") or time.time())
    if state in ACTIVE and silent > (5 if state != "starting" else 60):
        text += f" · last sign of life {readable.seconds_text(silent)} ago"
    place, button = st.columns([5, 1], vertical_alignment="center")
    place.markdown(text)
    if state in NOTES:
        place.caption(NOTES[state])
    if status.get("error"):
        place.error(status["error"], icon=":material/error:")
    if state in ACTIVE and state != "stopping":
        button.button(
            "Stop",
            icon=":material/stop:",
            key="live_stop",
            width="stretch",
            on_click=job_progress.request_stop,
            args=(stream,),
        )


def show_picture(stream: StreamFolder) -> None:
    """The newest picture."""
    picture = stream.picture()
    if picture is None:
        st.caption("No picture yet.")
    else:
        # In the page itself: a file of its own is fetched anew each time, and flickers.
        source = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        st.image(source, width="stretch")


def show_now(segments: pd.DataFrame, times: np.ndarray, scores: np.ndarray, status: dict[str, Any]) -> None:
    """What is going on now: open segments, or else the highest score."""
    going_on = segments[segments["open"]]
    st.caption("NOW")
    if len(going_on):
        row: Any
        for row in going_on.itertuples():
            st.markdown(f"### {row.label}")
            st.caption(f"since {row.start:.1f} s, for {readable.seconds_text(row.end - row.start)}")
    elif len(times):
        best = int(scores[-1].argmax())
        name, score = status["labels"][best], scores[-1][best]
        st.markdown(f"### {name if score >= LIKELY else '–'}")
        st.caption(f"highest score: {name} {score:.2f}, at {times[-1]:.1f} s")
    else:
        st.markdown("### –")
        st.caption("nothing scored yet")


def show_figures(stats: dict) -> None:
    """Speed and losses, with what they mean."""
    latency = stats.get("latency_ms") or {}
    first, second = st.columns(2)
    first.metric(
        "Latency p50 / p95",
        "–" if latency.get("p50") is None else f"{latency['p50']:.0f} / {latency['p95']:.0f} ms",
        help="From the arrival of the last frame that a snippet needs until its scores and events are out.",
    )
    second.metric(
        "Frame rate", f"{stats.get('fps') or 0:.1f} /s", help="Frames that came over the last seconds."
    )
    first.metric(
        "Dropped frames",
        f"{stats.get('dropped', 0)} of {stats.get('frames', 0)}",
        help="Left out because they came faster than they could be worked on; the oldest waiting go first.",
    )
    second.metric(
        "Reconnects / gaps",
        f"{stats.get('reconnects', 0)} / {stats.get('gaps', 0)}",
        help="How often the source was lost and found again, and interruptions of its time.",
    )


def show_segments(stream: StreamFolder, segments: pd.DataFrame, records: list[dict]) -> None:
    """Closed segments, newest first, and all events as files."""
    closed = segments[~segments["open"]]
    st.subheader("Segments", anchor=False)
    if closed.empty:
        st.caption("None is closed yet.")
    else:
        st.dataframe(
            closed.iloc[::-1][["start", "end", "label", "score"]],
            hide_index=True,
            height=min(38 * (len(closed) + 1), 300),
            column_config={
                name: st.column_config.NumberColumn(f"{name} (s)" if name != "score" else name, format="%.2f")
                for name in ("start", "end", "score")
            },
            key="live_segments",
        )
    if records:
        downloads.stream_events(stream, lambda: all_segments(stream))


def all_segments(stream: StreamFolder) -> pd.DataFrame:
    """Every closed segment of the stream as a detection."""
    table = plots.segments_of(stream.records(10**9), 0.0)
    table = table[~table["open"]].assign(video_id=stream.name)
    return table[list(DETECTION_COLUMNS)]
