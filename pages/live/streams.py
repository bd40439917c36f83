"""Live's list of streams, running and past."""

from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices, tables
from tal_core.streaming.live.folder import ACTIVE, StreamFolder, list_streams
from tal_core.types import InputError

COLUMNS = {
    "began": st.column_config.DatetimeColumn("began", format="D MMM YYYY, HH:mm"),
    "seconds": st.column_config.NumberColumn("seconds", format="%.0f"),
}


def show_all() -> None:
    """A table; a row leads to its stream."""
    with notices.guard():
        streams = list_streams(loaders.home())
    if not streams:
        st.info("No stream yet. Start one under “New stream”.")
        return
    table = pd.DataFrame([row_of(stream) for stream in streams])
    st.caption("Newest first. Choose a row to watch or remove it.")
    alt = "Streams with state, run, source, length and number of events"
    position = tables.choose_row(table, "live_streams", alt=alt, column_config=COLUMNS) or 0
    stream, state = streams[position], table["state"].iloc[position]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{stream.name}**:")
        if st.button("Watch", icon=":material/visibility:", key="live_open"):
            address.remember("stream", [stream.name])
            address.remember("panel", ["Watch"])
            st.rerun()
        with st.popover("Remove", icon=":material/delete:", disabled=state in ACTIVE):
            st.markdown("Its events, scores and log are deleted for good.")
            if st.button("Remove it", type="primary", key="live_remove"):
                with notices.guard():
                    stream.remove()
                    address.forget("stream")
                    st.rerun()


def row_of(stream: StreamFolder) -> dict[str, Any]:
    """One row of the table; a stream that can't be read says so."""
    row: dict[str, Any] = {"stream": stream.name, "state": "unreadable"}
    try:
        config, status = stream.request(), stream.status()
        stats = status.get("stats") or {}
        return {
            **row,
            "state": status["state"],
            "run": config["run"],
            "source": config["source"],
            "began": datetime.fromtimestamp(config["created"]),
            "seconds": stats.get("seconds"),
            "events": stats.get("events"),
        }
    except (InputError, KeyError) as error:
        return {**row, "problem": str(error)}
