"""Editing the ground truth on the Timeline: what the component sends becomes a draft, saved as a new file.

The draft lies in the workspace (``tal_core.data.editing.changes``), so it outlives reruns, other pages
and a closed browser, and every window shows the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from pages.common import address, loaders, notices
from pages.common.player import frame_seconds
from tal_core.data.dataset.dataset import Dataset
from tal_core.data.dataset.entry import DEMO_NAME
from tal_core.data.editing import changes as editing
from tal_core.data.editing import save
from tal_core.data.editing.changes import Change, Edits, Segment
from tal_core.evaluation.outcomes import label_detections
from tal_core.plots.timeline import RunOutcomes
from tal_core.types import DETECTION_COLUMNS, InputError

SEEN, TOLD = "timeline_edits_seen", "timeline_edits_told"
NEW = "new segment"
FREE = "off"
FORMS = {"ActivityNet JSON": ".json", "CSV": ".csv"}


@dataclass(frozen=True)
class Editing:
    """One video while its annotations are edited: the unsaved changes, and what is annotated with them."""

    data: Dataset
    video: str
    edits: Edits
    truth: pd.DataFrame
    step: float | None

    @property
    def labels(self) -> list[str]:
        """The dataset's classes and those that the changes bring."""
        new = {change.after.label for change in self.edits.done if change.after}
        return sorted({*self.data.labels, *new})

    def receive(self, value: dict[str, Any]) -> None:
        """Carry out what the component sends, each edit once; what can't be done is told instead."""
        seen = st.session_state.setdefault(SEEN, {})
        client, edits = str(value["client"]), value["edits"]
        for edit in sorted(edits, key=lambda one: one["number"]):
            if edit["number"] > seen.get(client, 0):
                seen[client] = edit["number"]
                self.carry_out(edit["kind"], edit)

    def carry_out(self, kind: str, edit: dict[str, Any] | Change | None = None) -> None:
        """One edit: ``undo``, ``redo``, or a ``change``."""
        home, name = loaders.home(), self.data.name
        try:
            edits = editing.read_draft(home, name)
            if kind == "undo":
                self.tell_elsewhere("Undone", edits.done[-1:])
                edits = edits.undo()
            elif kind == "redo":
                self.tell_elsewhere("Done again", edits.undone[-1:])
                edits = edits.redo()
            else:
                change = edit if isinstance(edit, Change) else editing.change_from(edit)
                length = self.data.duration(change.video_id)
                truth = edits.apply(self.data.ground_truth(videos=[change.video_id]))
                edits = edits.make(editing.check(change, truth, length))
                edits.apply(self.data.ground_truth(videos=[change.video_id]))
            editing.write_draft(home, name, edits)
        except InputError as error:
            st.session_state.setdefault(TOLD, []).append(error)

    def tell_elsewhere(self, what: str, changes: Sequence[Change]) -> None:
        """Undoing may reach into another video than the one in view."""
        for change in changes:
            if change.video_id != self.video:
                st.toast(f"{what} in **{change.video_id}**: {change.after or change.before} {change.kind}.")

    def for_component(self) -> dict[str, Any]:
        """What the component's editor needs to know."""
        return {
            "labels": self.labels,
            "end": self.data.duration(self.video),
            "step": self.step,
            "undo": len(self.edits.done),
            "redo": len(self.edits.undone),
            "unsaved": len(self.edits.done),
            "seen": st.session_state.get(SEEN, {}),
        }


def start(data: Dataset, video: str) -> Editing | None:
    """The switch, and the choice of a time grid; None unless the annotations are being edited."""
    with notices.guard(stop=False):
        edits = editing.read_draft(loaders.home(), data.name)
        place, grid, note = st.columns([2, 4, 4], vertical_alignment="center")
        on = place.toggle(
            "Edit annotations",
            value="".join(address.choice("edit") or ()) == "1",
            key=f"edit:{data.name}",
            help="Add, move, relabel and delete segments of the ground truth. Saving makes a new file.",
        )
        if on:
            address.remember("edit", ["1"])
        else:
            address.forget("edit")
            if edits.done:
                note.caption(f":orange[**{_changes(edits)}**] of the ground truth: switch on to see or save.")
            return None
        with grid:
            step = _pick_step(data, video)
        name = data.name
        note.caption(
            "The shipped demo stays as it is: saving gives your workspace annotations of its own."
            if name == DEMO_NAME and not data.entry.earlier
            else "The annotation file stays as it is: saving makes a new one."
        )
        return _with_truth(Editing(data, video, edits, pd.DataFrame(), step))
    _offer_discard(data)
    return None


def _with_truth(view: Editing) -> Editing | None:
    """With the video's annotations; a draft that doesn't fit them can only be discarded."""
    with notices.guard(stop=False):
        return replace(view, truth=view.edits.apply(view.data.ground_truth(videos=[view.video])))
    _offer_discard(view.data)
    return None


def _pick_step(data: Dataset, video: str) -> float | None:
    """Seconds of the grid to which times snap; None for no grid."""
    steps: dict[str, float | None] = {FREE: None}
    frame = frame_seconds(data, video)
    if frame:
        steps["frame"] = frame
    steps["snippet"] = data.grid(video).stride
    chosen = st.segmented_control(
        "Snap to", list(steps), default=FREE, required=True, key="edit_snap", label_visibility="collapsed",
        format_func=lambda name: "no grid" if name == FREE else f"{name}s ({steps[name]:.3g} s)",
    )  # fmt: skip
    return steps[chosen]


def rematched(view: Editing, runs: Sequence[RunOutcomes], tiou: float) -> list[RunOutcomes]:
    """The runs' detections in this video, against its edited annotations."""
    found = []
    for run in runs:
        mine = run.labelled.loc[run.labelled["video_id"] == view.video, list(DETECTION_COLUMNS)]
        found.append(replace(run, labelled=label_detections(view.truth, mine, tiou)[0]))
    return found


# ---------------------------------------------------------------- under the timeline


def show(view: Editing) -> None:
    """What was refused, editing by numbers, the unsaved changes and how to keep them."""
    for error in st.session_state.pop(TOLD, []):
        notices.show_error(error)
    last = (
        view.edits.done[-1].after if view.edits.done and view.edits.done[-1].video_id == view.video else None
    )
    for other in editing.near_copies(view.truth, last) if last else []:
        st.warning(f"**{last}** nearly covers **{other}**: are both meant?")
    left, right = st.columns(2)
    with left, st.expander("Edit by numbers", icon=":material/edit:"):
        _by_numbers(view)
    with right, st.expander("Annotation files", icon=":material/history:"):
        _show_files(view)
    if view.edits.done:
        _show_changes(view)


def _by_numbers(view: Editing) -> None:
    segments = {NEW: Segment(0.0, min(1.0, view.data.duration(view.video)), view.labels[0])}
    row: Any
    for row in view.truth.sort_values("start").itertuples():
        segment = Segment(row.start, row.end, row.label)
        segments[str(segment)] = segment
    chosen = st.selectbox("Segment", list(segments), key="edit_segment")
    segment = segments[chosen]
    first, second, third = st.columns([2, 2, 3])
    suffix = f"{view.video}:{chosen}"  # fields begin anew with another segment
    begin = first.number_input("Start (s)", value=segment.start, step=0.1, format="%.3f", key=f"s:{suffix}")
    end = second.number_input("End (s)", value=segment.end, step=0.1, format="%.3f", key=f"e:{suffix}")
    label = third.selectbox(
        "Class",
        view.labels,
        index=view.labels.index(segment.label),
        accept_new_options=True,
        key=f"l:{suffix}",
    )
    before = None if chosen == NEW else segment
    after = Segment(
        begin if begin == segment.start else editing.snap(begin, view.step),
        end if end == segment.end else editing.snap(end, view.step),
        label or "",
    )
    with st.container(horizontal=True):
        st.button(
            "Add" if before is None else "Apply",
            key="edit_apply",
            disabled=after == before,
            on_click=view.carry_out,
            args=("change", Change(view.video, before, after)),
        )
        st.button(
            "Delete",
            key="edit_delete",
            disabled=before is None,
            on_click=view.carry_out,
            args=("change", Change(view.video, before, None)),
        )


def _show_changes(view: Editing) -> None:
    with st.container(border=True):
        st.markdown(f":orange[**{_changes(view.edits)}**], kept as a draft until you save or discard them.")
        rows = [
            {
                "video": c.video_id,
                "change": c.kind,
                "before": str(c.before or "–"),
                "after": str(c.after or "–"),
            }
            for c in reversed(view.edits.done)
        ]
        st.dataframe(rows, hide_index=True, height=min(220, 38 + 35 * len(rows)), alt="Unsaved changes")
        with st.form("edit_save", border=False, enter_to_submit=False):
            form, name, use = st.columns([2, 3, 4], vertical_alignment="bottom")
            chosen = form.selectbox("Form", list(FORMS), key="edit_form")
            suggested = save.suggest_name(loaders.home(), view.data.name, "")
            file_name = name.text_input("File name", value=suggested, key=f"edit_name:{suggested}")
            used = use.checkbox(
                f"Let the dataset “{view.data.name}” use the new file",
                value=True,
                key="edit_use",
                help="The file in use now is remembered: switch back under “Annotation files”.",
            )
            if st.form_submit_button(
                "Save as new annotation file", type="primary", icon=":material/save:", key="edit_submit"
            ):
                ending = FORMS[chosen]
                _save(view, file_name.strip().removesuffix(ending) + ending, used)
        _offer_discard(view.data)


def _save(view: Editing, file_name: str, use: bool) -> None:
    with notices.guard(stop=False):
        with notices.progress("Saving"):
            path, _ = save.save_edited(loaders.home(), view.data, view.edits, file_name, use=use)
        editing.write_draft(loaders.home(), view.data.name, Edits())
        text = f"Saved **{_changes(view.edits, '')}** as `{path}`"
        text += ", which the dataset uses now." if use else "; the dataset still uses its file of before."
        st.session_state["timeline_saved"] = text
        st.rerun()


def show_saved() -> None:
    """Say where the changes went, once."""
    text = st.session_state.pop("timeline_saved", None)
    if text:
        st.success(text, icon=":material/save:")


def _show_files(view: Editing) -> None:
    home, name = loaders.home(), view.data.name
    st.markdown(f"In use: `{view.data.entry.annotations}`")
    for number, source in enumerate(view.data.entry.earlier):
        text, button = st.columns([4, 1], vertical_alignment="center")
        text.markdown(f"Earlier: `{source.annotations}`")
        if button.button("Use again", key=f"edit_earlier_{number}", disabled=bool(view.edits.done)):
            with notices.guard(stop=False):
                save.use_earlier(home, name, source.annotations)
                st.rerun()
    if view.data.entry.earlier and view.edits.done:
        st.caption("Save or discard the unsaved changes before you switch.")
    if not view.data.entry.earlier:
        st.caption("Files that you save appear here; one click goes back to an earlier one.")


def _offer_discard(data: Dataset) -> None:
    with st.popover("Discard the unsaved changes", icon=":material/delete:"):
        st.markdown("This can't be undone.")

        def discard() -> None:
            editing.draft_path(loaders.home(), data.name).unlink(missing_ok=True)

        st.button("Discard them all", type="primary", key="edit_discard", on_click=discard)


def _changes(edits: Edits, kind: str = "unsaved ") -> str:
    count = len(edits.done)
    return f"{count} {kind}change{'' if count == 1 else 's'}"
