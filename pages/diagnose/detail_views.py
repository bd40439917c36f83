"""Sections of the Diagnose page beyond the DETAD paper: boundaries, scores, classes, videos."""

import streamlit as st

from pages.common import address, downloads, tables
from pages.diagnose.inputs import View
from pages.diagnose.segments import CLICK, CLICK_CELL, COLUMNS, clickable, draw, show_segments
from tal_core.evaluation.diagnosis import advice, segments_behind
from tal_core.evaluation.diagnosis.segment_errors import class_confusion, errors_per_class, video_errors
from tal_core.evaluation.outcomes import MISSED
from tal_core.plots import diagnosis as plots
from tal_core.plots import diagnosis_maps as maps


def pick_multiple() -> int:
    """How many detections per class are counted, as a multiple of its annotations G."""
    text = address.pick(
        "Detections counted",
        [f"{k}G" for k in (1, 2, 5, 10)],
        "best",
        kind="segmented_control",
        required=True,
        help="Of each class with G annotations the best scored 1 x G detections, 2 x G, and so on.",
    )
    return int(text.removesuffix("G"))


def show_boundaries(view: View) -> None:
    """How far starts and ends of matched segments lie off."""
    diagnosis = view.diagnosis
    figure, words = plots.boundary_figure(diagnosis.boundaries), advice.boundary_words(diagnosis)
    picked = draw(view, figure, "boundaries", "Offsets of starts and ends", words)
    if picked:
        side, low, high = picked
        what = f"{side}s off by {plots.offset_range(low, high)}"
        show_segments(view, what, segments_behind.of_offset(diagnosis, side, low, high))


def show_calibration(view: View) -> None:
    """Whether scores can be believed."""
    diagnosis = view.diagnosis
    figure = plots.reliability_figure(diagnosis.calibration)
    words = advice.calibration_words(diagnosis.calibration)
    picked = draw(view, figure, "scores", "Share of right detections by score", words)
    if picked:
        low, high = picked[:2]
        what = f"score {low:.3g} to {high:.3g}, wrong ones first"
        show_segments(view, what, segments_behind.of_score(diagnosis, low, high))


def show_classes(view: View) -> None:
    """Errors per class, and which classes are taken for each other."""
    diagnosis, multiple = view.diagnosis, pick_multiple()
    counts = errors_per_class(diagnosis.ranked, diagnosis.best(multiple))
    st.caption(f"The classes with most errors, at most {plots.MOST_CLASSES}. {CLICK}")
    picked = clickable(
        plots.class_errors_figure(counts), view.key(f"class errors {multiple}"), "Errors per class"
    )
    if picked:
        show_segments(
            view,
            f"{picked[0]}: {picked[1]}",
            segments_behind.of_class(diagnosis, picked[0], picked[1], multiple),
        )
    with st.expander("All classes as a table"):
        st.dataframe(counts, hide_index=True, column_config=COLUMNS, alt="Errors per class")
        downloads.table(counts, f"{view.data.name}-errors-per-class")
    st.subheader("Classes taken for each other", anchor=False)
    confusion = class_confusion(diagnosis.ranked, diagnosis.detections, diagnosis.best(multiple))
    cell = draw(
        view,
        maps.confusion_map(confusion),
        f"confusion {multiple}",
        "Annotated against detected classes",
        advice.confusion_words(confusion),
        ":small[Segments are matched by time alone, the highest score first. Row “background”: detections "
        f"with no annotation left to match; column “{MISSED}”: annotations that nothing matches.]",
        click=CLICK_CELL,
    )
    if cell:
        what = f"annotated {cell[0]}, detected {cell[1]}"
        show_segments(view, what, segments_behind.of_confusion(diagnosis, confusion, multiple, *cell[:2]))


def show_videos(view: View) -> None:
    """Errors per video, the most wrong first."""
    diagnosis, multiple = view.diagnosis, pick_multiple()
    counts = video_errors(diagnosis.ranked, diagnosis.detections, diagnosis.best(multiple))
    st.caption("The most wrong first. Choose a row to see the video's errors.")
    key = view.key(f"videos {multiple}")
    row = tables.choose_row(counts, key, alt="Errors per video", height=420, column_config=COLUMNS)
    downloads.table(counts, f"{view.data.name}-errors-per-video")
    if row is not None:
        video_id = str(counts.loc[row, "video_id"])
        show_segments(view, f"Errors in {video_id}", segments_behind.of_video(diagnosis, video_id, multiple))
