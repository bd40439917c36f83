"""Edits of a dataset's ground truth before they are saved: checked, undone, redone, kept as a draft.

A change names the segment before and after, so that it can be undone, told to people, and refused where the
annotations no longer hold what it changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tal_core.data.formats.files import read_json
from tal_core.data.formats.findings import ALIKE, BEYOND
from tal_core.segments import temporal_iou
from tal_core.types import AMBIGUOUS, GROUND_TRUTH_COLUMNS, InputError
from tal_core.workspace import check_name, write_json, writing

MOST_LETTERS = 200


class Segment(NamedTuple):
    """An annotated segment: start and end in seconds, and its class."""

    start: float
    end: float
    label: str

    def __str__(self) -> str:
        return f"{self.label}, {self.start:.3f} to {self.end:.3f} s"


@dataclass(frozen=True)
class Change:
    """One edit in a video: without ``before`` a segment is added, without ``after`` one is deleted."""

    video_id: str
    before: Segment | None
    after: Segment | None

    @property
    def kind(self) -> str:
        """What it does, in a word or two."""
        if self.before is None or self.after is None:
            return "added" if self.before is None else "deleted"
        moved, named = self.before[:2] != self.after[:2], self.before.label != self.after.label
        return "moved and relabelled" if moved and named else "relabelled" if named else "moved"


@dataclass(frozen=True)
class Edits:
    """Changes in the order they were made, and those undone, the last one first to be redone."""

    done: tuple[Change, ...] = ()
    undone: tuple[Change, ...] = ()

    def make(self, change: Change) -> Edits:
        """With one change more; what was undone before can't be redone any longer."""
        return Edits((*self.done, change))

    def undo(self) -> Edits:
        """Without the last change; the same if there is none."""
        return replace(self, done=self.done[:-1], undone=(*self.undone, *self.done[-1:]))

    def redo(self) -> Edits:
        """With the change that was undone last; the same if there is none."""
        return replace(self, done=(*self.done, *self.undone[-1:]), undone=self.undone[:-1])

    def apply(self, truth: pd.DataFrame) -> pd.DataFrame:
        """The ground truth with all changes in it, its index 0 to G-1; an edited video keeps its place.

        Raises:
            InputError: if a change begins from a segment that isn't there.
        """
        if not self.done:
            return truth
        edited = {change.video_id for change in self.done}
        mine = truth["video_id"].isin(edited).to_numpy()
        segments: dict[str, list[Segment]] = {video_id: [] for video_id in edited}
        first: dict[str, int] = {}
        for row, (video_id, *segment) in enumerate(
            truth.loc[:, list(GROUND_TRUTH_COLUMNS)].itertuples(index=False)
        ):
            if mine[row]:
                segments[video_id].append(Segment(*segment))
                first.setdefault(video_id, row)
        for change in self.done:
            _put(segments[change.video_id], change)
        rows = [(video_id, *segment) for video_id in sorted(edited) for segment in segments[video_id]]
        table = pd.DataFrame(rows, columns=list(GROUND_TRUTH_COLUMNS)).astype(truth.dtypes.to_dict())
        places = [first.get(row[0], len(truth)) for row in rows]
        whole = pd.concat([truth[~mine], table.set_axis(places)])
        return whole.sort_index(kind="stable").reset_index(drop=True)


def _put(segments: list[Segment], change: Change) -> None:
    if change.before is None:
        segments += [change.after] if change.after else []
        return
    if change.before not in segments:
        raise InputError(
            f"an unsaved change begins from a segment that isn't in the annotations ({change.before})",
            where=f"video {change.video_id}",
            hint="The annotation file has changed since: discard the unsaved changes, or put it back.",
        )
    place = segments.index(change.before)
    segments[place : place + 1] = [change.after] if change.after else []


def snap(seconds: float, step: float | None) -> float:
    """The nearest multiple of ``step``, to the millisecond; without a step the time itself."""
    return round(round(seconds / step) * step if step else seconds, 3)


def check(change: Change, present: pd.DataFrame, duration: float) -> Change:
    """The change if it can be made to a video's ``present`` annotations, its times to the millisecond.

    Raises:
        InputError: if a time is no number, the segment is empty, turned round or outside the video, its
            class has no name, or exactly this segment is there already.
    """
    if change.before is None and change.after is None:
        raise InputError("an edit without a segment")
    if change.after is None or change.after == change.before:
        return change
    where = f"video {change.video_id}"
    after = Segment(*change.after[:2], " ".join(change.after.label.split()))
    if change.before is None or after[:2] != change.before[:2]:
        after = _check_times(after, duration, where)
    if not after.label or len(after.label) > MOST_LETTERS or after.label.lower() == AMBIGUOUS.lower():
        what = f"{after.label[:40]!r} can't be a class" if after.label else "the class has no name"
        raise InputError(
            what, where=where, hint=f"Write 1 to {MOST_LETTERS} letters; “Ambiguous” means something else."
        )
    mine = present[present["video_id"] == change.video_id]
    same = (mine["start"] == after.start) & (mine["end"] == after.end) & (mine["label"] == after.label)
    if same.any():
        raise InputError(f"this segment is there already ({after})", where=where, hint="Change its times.")
    return replace(change, after=after)


def _check_times(segment: Segment, duration: float, where: str) -> Segment:
    start, end = round(float(segment.start), 3), round(float(segment.end), 3)
    if not (math.isfinite(start) and math.isfinite(end)):
        raise InputError(f"times {start} and {end} are no numbers", where=where, hint="Write seconds.")
    if not start < end:
        raise InputError(
            f"the segment would start at {start:g} s and end at {end:g} s",
            where=where,
            hint="The end must come after the start.",
        )
    if start < 0 or end > duration + BEYOND:
        raise InputError(
            f"{start:g} to {end:g} s isn't inside the video (0 to {duration:g} s)",
            where=where,
            hint="Keep both times inside.",
        )
    return segment._replace(start=start, end=end)


def near_copies(present: pd.DataFrame, segment: Segment) -> list[Segment]:
    """Other segments of one video and of the same class that nearly cover each other with ``segment``."""
    same = present[present["label"] == segment.label]
    alike = same[temporal_iou(same[["start", "end"]].to_numpy(), np.array(segment[:2])) >= ALIKE]
    copies = [
        Segment(start, end, segment.label) for start, end in zip(alike["start"], alike["end"], strict=True)
    ]
    return [copy for copy in copies if copy != segment]


# ---------------------------------------------------------------- the draft on disk


def draft_path(home: Path, dataset: str) -> Path:
    """Where the unsaved changes of a dataset are kept, so that they outlive a closed browser."""
    return home / "datasets" / f"{check_name(dataset, 'dataset')}.edits.json"


def read_draft(home: Path, dataset: str) -> Edits:
    """The unsaved changes of a dataset; none if there is no draft. Raises InputError if it is damaged."""
    path = draft_path(home, dataset)
    if not path.exists():
        return Edits()
    value = read_json(path)
    try:
        return Edits(*(tuple(map(_change, value[part])) for part in ("done", "undone")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "the unsaved changes can't be read", where=path, hint="Discard them, or put the file right."
        ) from error


def write_draft(home: Path, dataset: str, edits: Edits) -> None:
    """Keep the unsaved changes; without any the draft goes. Raises InputError if that can't be done."""
    path = draft_path(home, dataset)
    if edits == Edits():
        with writing(path):
            path.unlink(missing_ok=True)
    else:
        write_json(path, {"done": as_rows(edits.done), "undone": as_rows(edits.undone)})


def as_rows(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Changes as JSON-able objects, a segment as [start, end, label]."""
    return [
        {"video_id": c.video_id, "before": c.before and list(c.before), "after": c.after and list(c.after)}
        for c in changes
    ]


def change_from(value: Any) -> Change:
    """A change from its object as ``as_rows`` makes it. Raises InputError if it is none."""
    try:
        return _change(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("this is not an edit") from error


def _change(value: Any) -> Change:
    def segment(part: Any) -> Segment | None:
        if part is None:
            return None
        start, end, label = part
        if not isinstance(label, str):
            raise TypeError(label)
        return Segment(float(start), float(end), label)

    if not isinstance(value["video_id"], str):
        raise TypeError(value)
    return Change(value["video_id"], segment(value["before"]), segment(value["after"]))
