"""Diagnose: which kinds of error a run makes, what fixing each would gain, and where to see them."""

import streamlit as st

from pages.common import address, navigation, notices, pickers, readable
from pages.diagnose import detail_views as details
from pages.diagnose import error_views as views
from pages.diagnose import inputs as parts
from tal_core.data.dataset.dataset import Dataset
from tal_core.evaluation.diagnosis.advice import headline
from tal_core.evaluation.diagnosis.characteristics import SCHEMES

BUCKET_HELP = (
    "Edges of the buckets of coverage, length and number of instances. auto: the edges of the DETAD paper "
    "where the video ids are THUMOS14's or ActivityNet's, else equal shares (quantiles)."
)
SECTIONS = {
    "What to mend": views.show_gains,
    "False positives": views.show_profile,
    "Sensitivity": views.show_sensitivity,
    "Missed": views.show_missed,
    "Boundaries": details.show_boundaries,
    "Scores": details.show_calibration,
    "Classes": details.show_classes,
    "Videos": details.show_videos,
}
NAMES = {"What to mend": "What to fix"}
"""What is shown of a section whose old name stays in the address bar, so that links keep working."""


def pick_settings(data: Dataset) -> tuple[str | None, float, str]:
    """Subset (None: all), tIoU and the kind of buckets."""
    first, second, third = st.columns(3)
    subset = pickers.pick_subset(data, place=first)
    tiou = pickers.pick_tiou(second)
    buckets = address.pick("Buckets", SCHEMES, "buckets", place=third, help=BUCKET_HELP)
    return subset, tiou, buckets


def show_page() -> None:
    """Pickers, the largest gain in a sentence, then the section chosen."""
    navigation.header("Diagnose", "What is wrong, where to see it, and how much fixing it would gain.")
    first, second = st.columns([1, 2])
    data = pickers.pick_dataset(place=first)
    run_id, detections = parts.pick_detections(data, place=second)
    subset, tiou, buckets = pick_settings(data)
    if detections is None:
        st.info(f"Choose a run or a detections file to diagnose on **{data.name}**.")
        if not pickers.runs_of(data.name, with_detections=True):
            navigation.link("train", "Train a model", dataset=data.name)
        return
    view = parts.View(data, run_id, detections, subset, tiou, buckets)
    diagnosis = None
    with notices.guard(stop=False):
        diagnosis, usual = view.diagnosis, view.at(data.tiou)
    if diagnosis is None:
        navigation.link_to_timeline(data.name, [run_id] if run_id else [], subset)
        return
    st.markdown(
        f"mAP at tIoU {tiou:g}: **{readable.percent(diagnosis.average_map)}**, average over "
        f"{readable.tiou_text(data.tiou)}: **{readable.percent(usual.average_map)}**. {headline(usual)}"
    )
    if diagnosis.notes:
        st.warning("\n".join(f"- {note}" for note in diagnosis.notes))
    section = address.pick(
        "Section",
        list(SECTIONS),
        "section",
        format_func=lambda name: NAMES.get(name, name),
        kind="segmented_control",
        required=True,
        label_visibility="collapsed",
    )
    with notices.guard():
        SECTIONS[section](view)
    parts.show_downloads(view)


show_page()
