"""Add data, from videos: a folder of videos and a label file become a dataset with features."""

from pathlib import Path
from typing import Any

import streamlit as st

from pages.common import address, loaders, notices, readable
from pages.common.schema_form import field_widget
from pages.explore import extraction_watch
from tal_core.data.dataset.entry import Split
from tal_core.data.formats.annotations import list_tiers
from tal_core.schema import validated
from tal_core.video.extraction import new_dataset
from tal_core.video.extractors import spec

LABELS = (
    "ActivityNet JSON, CSV (video_id, start, end, label), a THUMOS14 text folder, ELAN .eaf or a folder of "
    "them, a VIA 3 project or its CSV, Label Studio's JSON."
)
SEEN = 12
"""Previews kept."""


def show() -> None:
    """The form with its preview, and below it the extractions of this workspace."""
    st.subheader("Videos and labels in, a dataset out", anchor=False)
    st.caption(
        "Paths are on the machine that runs the studio. Videos and labels stay where they are, unchanged."
    )
    left, right = st.columns(2)
    with left:
        videos = st.text_input("Folder of videos", placeholder="/data/kitchen/videos", key="new_videos")
        name = st.text_input("Name of the dataset", placeholder="kitchen", key="new_name")
    with right:
        labels = st.text_input(
            "Label file", placeholder="/data/kitchen/labels.csv", key="new_labels", help=LABELS
        )
        share = pick_share()
    if videos.strip() and labels.strip():
        with notices.guard(stop=False):
            fill_in(name.strip(), Path(videos.strip()), Path(labels.strip()), share)
    extraction_watch.show()


def pick_share() -> float:
    """The share of videos held out, for label files that don't say how videos are divided."""
    return st.number_input(
        "Share of videos held out for evaluation",
        min_value=0.05,
        max_value=0.95,
        value=0.2,
        step=0.05,
        key="new_split",
        help="Used where the labels name no subsets: videos are drawn such that every class keeps its share.",
    )


def fill_in(name: str, videos: Path, labels: Path, share: float) -> None:
    """Tiers and preview, then the extractor, then the button."""
    tiers = tiers_of(str(labels), loaders.changed(labels))
    chosen = []
    if len(tiers) > 1:
        chosen = st.multiselect(
            "Tiers with the labels",
            list(tiers),
            key="new_tiers",
            placeholder="all of them",
            format_func=lambda tier: f"{tier} ({tiers[tier]} segments)",
            help="ELAN's tiers, VIA's attributes, Label Studio's controls. Leave out those with comments.",
        )
    fps = st.session_state.get("new_fps")
    values = {"name": name, "videos": videos, "annotations": labels, "tiers": chosen, "labelling_fps": fps}
    plan = make_plan(values)
    preview = preview_of(plan, loaders.changed(labels, videos))
    if "frame rate" in set(preview.findings["kind"]) or fps:
        st.number_input(
            "Frames per second of the labelling",
            min_value=1.0,
            value=None,
            key="new_fps",
            placeholder="24, Label Studio's default",
            help="Label Studio counts frames at the frameRate of its <Video> tag, which exports don't tell.",
        )
    show_preview(preview)
    settings = pick_extractor()
    if not st.button("Start extraction", type="primary", icon=":material/play_arrow:", key="new_start"):
        return
    named = {subset for subset in preview.annotations.videos["subset"] if subset}
    if len(named) < 2:
        values["split"] = Split(fraction=share)
    with notices.progress("Starting"):
        job = new_dataset.start(loaders.home(), make_plan({**values, "spec": spec.read_spec(settings)}))
    address.remember(extraction_watch.KEY, [job.name])
    st.rerun()


def make_plan(values: dict[str, Any]) -> new_dataset.Plan:
    """A plan of the form's fields. Raises InputError naming the field."""
    return validated(new_dataset.Plan, values, where="new dataset")


@st.cache_data(max_entries=SEEN, show_spinner=False)
def tiers_of(labels: str, _stamp: tuple) -> dict[str, int]:
    """Tiers of a label file with their segments."""
    return list_tiers(Path(labels))


@st.cache_resource(show_spinner=False)
def _previews() -> dict[tuple, new_dataset.Preview]:
    return {}


def preview_of(plan: new_dataset.Plan, stamp: tuple) -> new_dataset.Preview:
    """What the plan would give; looked at again when the files change."""
    previews = _previews()
    key = (str(plan.videos), str(plan.annotations), tuple(plan.tiers), plan.labelling_fps, stamp)
    if key not in previews:
        with notices.progress("Reading videos and labels") as report:
            previews[key] = new_dataset.look(plan, report)
        for old in list(previews)[:-SEEN]:
            previews.pop(old, None)
    return previews[key]


def show_preview(preview: new_dataset.Preview) -> None:
    """Numbers, what is odd, and all videos."""
    truth, table = preview.annotations.ground_truth, preview.table
    there = int((table["file"] != "").sum())
    figures = st.columns(4)
    figures[0].metric("Videos in the folder", there)
    figures[1].metric("With labels", preview.matched)
    figures[2].metric("Segments", len(truth[truth["video_id"].isin(table.loc[table["file"] != "", "video"])]))
    figures[3].metric("Length of the videos", readable.seconds_text(preview.seconds))
    labels = preview.annotations.labels
    st.caption(f"Classes ({len(labels)}): {', '.join(labels[:30])}{', …' if len(labels) > 30 else ''}")
    if len(preview.findings):
        st.dataframe(
            preview.findings,
            hide_index=True,
            height=min(250, 38 + 35 * len(preview.findings)),
            alt="What is odd about the videos and the labels",
        )
    else:
        st.success("Every video has its labels, and nothing odd was found.")
    with st.expander(f"All {len(table)} videos"):
        st.dataframe(
            table,
            hide_index=True,
            column_config={"duration": st.column_config.NumberColumn("duration (s)", format="%.1f")},
            alt="Videos with their file, duration and number of labelled segments",
        )


def pick_extractor() -> dict[str, Any]:
    """An extractor and its settings; the form follows from what the extractor knows."""
    chosen = st.selectbox(
        "Extractor",
        list(spec.KINDS),
        key="new_extractor",
        format_func=lambda name: f"{name}: {spec.KINDS[name].title}",
        help="Turns the videos into features. The built-in one needs no weights and no other package.",
    )
    values: dict[str, Any] = {"name": chosen}
    with st.expander("Settings of the extractor", icon=":material/tune:"):
        columns = st.columns(3)
        for column, setting in enumerate(spec.settings(chosen)):
            with columns[column % 3]:
                values[setting.name] = field_widget(setting, f"new:{chosen}:{setting.name}")
    return values
