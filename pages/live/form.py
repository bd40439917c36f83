"""Live's form: which run, which source, how long to wait; and what the wait gains."""

import streamlit as st

from pages.common import address, loaders, navigation, notices
from tal_core.plots.delay_tradeoff import tradeoff_figure
from tal_core.runs.run import Run
from tal_core.streaming.live.choices import cameras, check_run, stream_runs, stream_videos
from tal_core.streaming.live.launch import start_stream
from tal_core.streaming.online.delay_tradeoff import read_tradeoff
from tal_core.streaming.online.events import LONGEST_DELAY

SOURCES = ("A video, played as a stream", "Camera", "Address")
ADDRESS_HELP = (
    "rtmp://, rtsp://, http:// or https:// (HLS, MJPEG, a file), as a player such as ffplay takes it."
)


def show_new() -> None:
    """Choose and start."""
    choices = {choice.run.run_id: choice for choice in stream_runs(loaders.home())}
    if not choices:
        st.info("A stream needs a trained run, and there is none yet.")
        navigation.link("train", "Train a model")
        return
    left, right = st.columns(2)
    run_id = address.pick(
        "Run",
        list(choices),
        "run",
        place=left,
        format_func=lambda name: choices[name].title,
        help="Online methods decide snippet by snippet. Any other method runs over the latest snippets "
        "again and again, and reports a segment once its end is old enough.",
    )
    with right:
        source = _source()
    delay = left.number_input(
        "Delay (seconds)",
        min_value=0.0,
        max_value=LONGEST_DELAY,
        value=None,
        step=0.2,
        placeholder="the run's own",
        help="How long the detector waits before it decides. The curve below says what a longer delay gains.",
    )
    fits = _fits(choices[run_id].run)
    begin = st.button(
        "Start",
        icon=":material/play_arrow:",
        type="primary",
        disabled=source is None or not fits,
        key="live_start",
    )
    if begin and source:
        with notices.guard(stop=False):
            stream = start_stream(loaders.home(), run_id, source, delay=delay)
            address.remember("stream", [stream.name])
            address.remember("panel", ["Watch"])
            st.rerun()
    show_trade_off(choices[run_id].run)


def _fits(run: Run) -> bool:
    """Whether the run can serve a stream; if not, the page says why."""
    with notices.guard(stop=False):
        check_run(run)
        return True
    return False


def _source() -> str | None:
    """What is chosen as the source, None as long as nothing is."""
    kind = st.segmented_control("Source", SOURCES, default=SOURCES[0], required=True, key="live_source")
    if kind == "Camera":
        found = cameras()
        if not found:
            st.info("This machine has no camera. A camera of another machine can be given by its address.")
            return None
        return st.selectbox("Camera of the machine that runs the studio", found)
    if kind == "Address":
        address = st.text_input("Address", placeholder="rtmp://127.0.0.1/live/demo", help=ADDRESS_HELP)
        return address.strip() or None
    videos = stream_videos(loaders.home())
    if not videos:
        st.info("No registered dataset has videos: add one with --videos, or choose another source.")
        return None
    return str(videos[st.selectbox("Video", list(videos), help="Played in real time, as if it were live.")])


def show_trade_off(run: Run) -> None:
    """The curve of delay against mAP, if it has been measured."""
    with notices.guard(stop=False):
        measured = read_tradeoff(run)
        if measured is None:
            st.caption(
                "The effect of the delay on mAP hasn't been measured for this run. "
                f"`python -m tal_core online --run {run.run_id}` measures it; the "
                "curve of delay against mAP then appears here."
            )
            return
        st.subheader("Delay against mAP", anchor=False)
        st.altair_chart(tradeoff_figure(measured), key="live_trade_off", alt="Delay in seconds against mAP")
        st.caption("As a stream, on the evaluation subset of the run's dataset.")
