"""Sections of the Diagnose page after the DETAD paper: gains, false positives, sensitivity, missed.

Each draws a figure, plain words beside it, and the segments behind what was clicked.
"""

import streamlit as st

from pages.common import address, readable
from pages.diagnose.inputs import View
from pages.diagnose.segments import CLICK, CLICK_CELL, WIDTHS, clickable, draw, show_segments
from tal_core.evaluation.diagnosis import advice, segments_behind
from tal_core.evaluation.diagnosis.gains import FIXES
from tal_core.plots import diagnosis as plots
from tal_core.plots import diagnosis_maps as maps


def show_gains(view: View) -> None:
    """Gain in mAP from fixing each kind of error."""
    one, usual = f"tIoU {view.tiou:g}", f"average over {readable.tiou_text(view.data.tiou)}"
    options = list(dict.fromkeys([usual, one]))
    over = address.pick("mAP at", options, "gain", kind="segmented_control", required=True)
    shown = view.diagnosis if over == one else view.at(view.data.tiou)
    left, right = st.columns(WIDTHS)
    with left:
        picked = clickable(
            plots.gain_figure(shown), view.key(f"gains {over}"), "Gain in mAP per kind of error"
        )
    with right:
        kind, gain = next(iter(shown.fix_gain.items()))
        st.markdown(
            f"Each bar is what mAP ({over}) would gain if errors of its kind, and no others, were fixed. "
            f"Start with **{kind}** ({100 * gain:+.1f}): {advice.MEANINGS[kind]}. A click shows what is "
            f"behind a bar at {one}."
        )
        st.markdown(CLICK)
        with st.expander("What fixing means"):
            st.markdown("\n".join(f"- **{kind}**: {how}" for kind, how in FIXES.items()))
            st.caption(
                "Full bars: ordinary mAP, as on the Evaluate page. Pale bars: DETAD's normalised mAP of the "
                "best 10G detections, the errors deleted. Gains don't add up: errors hide each other."
            )
    if picked:
        show_segments(view, picked[0], segments_behind.of_kind(view.diagnosis, picked[0]))


def show_profile(view: View) -> None:
    """DETAD's false-positive profile."""
    diagnosis = view.diagnosis
    left, right = st.columns(WIDTHS)
    with left:
        picked = clickable(
            plots.profile_figure(diagnosis), view.key("profile"), "Outcomes of detections by rank"
        )
    with right:
        st.markdown(advice.profile_words(diagnosis))
        st.markdown(CLICK)
        with st.expander("What the kinds mean"):
            st.markdown("\n".join(f"- **{kind}**: {text}" for kind, text in advice.MEANINGS.items()))
    if picked:
        kind, band = picked[0], int(picked[1])
        show_segments(view, f"{kind} in {band + 1}G", segments_behind.of_kind(diagnosis, kind, band))


def show_sensitivity(view: View) -> None:
    """Normalised mAP by bucket, over all classes and per class."""
    diagnosis = view.diagnosis
    figure, words = plots.sensitivity_figure(diagnosis), advice.sensitivity_words(diagnosis)
    picked = draw(view, figure, "sensitivity", "Normalised mAP per bucket", words)
    if picked:
        show_bucket(view, picked[0], int(picked[1]))
    st.subheader("Per class", anchor=False)
    name = address.pick(
        "Characteristic", list(diagnosis.characteristics), "characteristic", kind="segmented_control",
        required=True, format_func=plots.TITLES.get,
    )  # fmt: skip
    st.caption(f"Normalised AP, the weakest classes on top; at most {plots.MOST_CLASSES}. {CLICK_CELL}")
    figure = maps.class_map(diagnosis, name)
    cell = clickable(figure, view.key(f"classes {name}"), "Normalised AP per class and bucket")
    if cell:
        show_bucket(view, cell[0], int(cell[1]), cell[2])


def show_bucket(view: View, name: str, bucket: int, label: str | None = None) -> None:
    """A bucket's annotations."""
    kind = view.diagnosis.characteristics[name]
    what = f"{name} {kind.names[bucket]} ({kind.range_text(bucket)})" + (f", {label}" if label else "")
    show_segments(
        view, f"{what}, missed ones first", segments_behind.of_bucket(view.diagnosis, name, bucket, label)
    )


def show_missed(view: View) -> None:
    """False negatives by bucket, and by pairs of buckets."""
    diagnosis = view.diagnosis
    figure, words = plots.missed_figure(diagnosis), advice.missed_words(diagnosis)
    picked = draw(view, figure, "missed", "Share missed per bucket", words)
    if picked:
        show_missed_in(view, {picked[0]: int(picked[1])})
    pairs = {f"{one} x {other}": (one, other) for one, other in diagnosis.false_negatives.pairs()}
    if pairs:
        st.subheader("Pairs of buckets", anchor=False)
        chosen = address.pick("Pair", list(pairs), "pair", kind="segmented_control", required=True)
        st.caption(f"Share of the annotations in both buckets that is missed. {CLICK_CELL}")
        figure = maps.pair_map(diagnosis, *pairs[chosen])
        cell = clickable(figure, view.key(f"pairs {chosen}"), "Share missed per pair of buckets")
        if cell:
            show_missed_in(view, {cell[0]: int(cell[1]), cell[2]: int(cell[3])})


def show_missed_in(view: View, buckets: dict[str, int]) -> None:
    """The missed annotations of one bucket or of a pair."""
    kinds = view.diagnosis.characteristics
    what = " and ".join(f"{name} {kinds[name].range_text(bucket)}" for name, bucket in buckets.items())
    show_segments(view, f"missed, {what}", segments_behind.missed_in(view.diagnosis, buckets))
