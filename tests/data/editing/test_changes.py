"""The model of edits: what may be changed, undone and redone, and the draft that keeps it."""

import numpy as np
import pandas as pd
import pytest

from tal_core.data.editing import changes
from tal_core.data.editing.changes import Change, Edits, Segment, check
from tal_core.types import GROUND_TRUTH_COLUMNS, InputError

JUMP, RUN = Segment(1.0, 4.0, "jump"), Segment(5.5, 8.25, "run")


@pytest.fixture
def truth():
    rows = [("b", *JUMP), ("a", *JUMP), ("a", *RUN), ("c", *RUN)]
    return pd.DataFrame(rows, columns=list(GROUND_TRUTH_COLUMNS))


def rows_of(table, video_id):
    mine = table[table["video_id"] == video_id]
    return [Segment(*row) for row in mine[["start", "end", "label"]].itertuples(index=False)]


def test_changes_apply_in_order_and_leave_the_rest_alone(truth):
    edits = Edits()
    for change in (
        Change("a", JUMP, Segment(1.5, 4.0, "jump")),
        Change("a", Segment(1.5, 4.0, "jump"), Segment(1.5, 4.0, "hop")),
        Change("a", None, Segment(9.0, 10.0, "jump")),
        Change("a", RUN, None),
        Change("d", None, Segment(0.0, 1.0, "run")),
    ):
        edits = edits.make(change)
    before = truth.copy()
    table = edits.apply(truth)
    assert rows_of(table, "a") == [Segment(1.5, 4.0, "hop"), Segment(9.0, 10.0, "jump")]
    assert rows_of(table, "b") == [JUMP] and rows_of(table, "c") == [RUN]
    assert table["video_id"].tolist() == ["b", "a", "a", "c", "d"], "an edited video keeps its place"
    assert table.index.tolist() == list(range(5)) and table.dtypes.equals(truth.dtypes)
    pd.testing.assert_frame_equal(truth, before)


def test_undo_and_redo_walk_through_every_state(truth):
    random, states, edits = np.random.default_rng(0), [truth], Edits()
    for number in range(12):
        present = rows_of(states[-1], "a")
        before = present[random.integers(len(present))] if present and random.random() < 0.6 else None
        after = (
            Segment(float(number), number + 0.5, "hop") if before is None or random.random() < 0.7 else None
        )
        edits = edits.make(Change("a", before, after))
        states.append(edits.apply(truth))
    for state in states[-2::-1]:
        edits = edits.undo()
        pd.testing.assert_frame_equal(edits.apply(truth), state)
    assert not edits.done and edits.undo() == edits
    for state in states[1:]:
        edits = edits.redo()
        pd.testing.assert_frame_equal(edits.apply(truth), state)
    assert edits.redo() == edits


def test_a_new_change_ends_what_could_be_redone(truth):
    edits = Edits().make(Change("a", JUMP, None)).undo().make(Change("a", RUN, None))
    assert edits.redo() == edits and len(edits.apply(truth)) == 3


def test_one_of_two_equal_segments_is_changed(truth):
    twice = pd.concat([truth, truth.iloc[[1]]], ignore_index=True)
    assert rows_of(Edits().make(Change("a", JUMP, None)).apply(twice), "a") == [RUN, JUMP]


def test_changes_from_segments_that_are_gone_are_refused(truth):
    with pytest.raises(InputError, match=r"video a: .*isn't in the annotations \(jump, 2.000 to 3.000 s\)"):
        Edits().make(Change("a", Segment(2.0, 3.0, "jump"), None)).apply(truth)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Segment(4.0, 4.0, "jump"), "end must come after"),
        (Segment(5.0, 4.0, "jump"), "end must come after"),
        (Segment(-0.1, 4.0, "jump"), "isn't inside the video"),
        (Segment(1.0, 20.1, "jump"), "isn't inside the video"),
        (Segment(float("nan"), 4.0, "jump"), "no numbers"),
        (Segment(2.0, 4.0, "  "), "has no name"),
        (Segment(2.0, 4.0, "Ambiguous"), "can't be a class"),
        (Segment(2.0, 4.0, "x" * 300), "can't be a class"),
        (RUN, "there already"),
    ],
)
def test_what_can_not_be_annotated_is_refused(truth, after, words):
    for before in (None, JUMP):
        with pytest.raises(InputError, match=words):
            check(Change("a", before, after), truth, 20.0)


def test_a_sound_change_gets_clean_times_and_words(truth):
    change = check(Change("a", None, Segment(1.23456, 19.99999, " two  words ")), truth, 20.0)
    assert change.after == Segment(1.235, 20.0, "two words")


def test_a_segment_beyond_the_end_can_still_be_relabelled(truth):
    odd = Segment(15.0, 25.0, "run")
    change = Change("a", odd, odd._replace(label="jump"))
    assert check(change, truth, 20.0) == change
    with pytest.raises(InputError, match="inside"):
        check(Change("a", odd, odd._replace(start=16.0)), truth, 20.0)


def test_kinds_of_changes():
    kinds = [
        Change("a", None, JUMP).kind,
        Change("a", JUMP, None).kind,
        Change("a", JUMP, JUMP._replace(end=5.0)).kind,
        Change("a", JUMP, JUMP._replace(label="run")).kind,
        Change("a", JUMP, RUN).kind,
    ]
    assert kinds == ["added", "deleted", "moved", "relabelled", "moved and relabelled"]


def test_times_snap_to_a_grid():
    assert changes.snap(1.23456, None) == 1.235
    assert changes.snap(1.31, 0.2) == 1.4


def test_near_copies_are_told(truth):
    mine = truth[truth["video_id"] == "a"]
    assert changes.near_copies(mine, Segment(1.0, 4.1, "jump")) == [JUMP]
    assert changes.near_copies(mine, Segment(1.0, 4.1, "run")) == []
    assert changes.near_copies(mine, JUMP) == []


def test_a_draft_comes_back_with_undone_changes(home):
    edits = Edits().make(Change("a", JUMP, None)).make(Change("a", None, Segment(0.1, 1 / 3, "é"))).undo()
    changes.write_draft(home, "small", edits)
    assert changes.read_draft(home, "small") == edits
    changes.write_draft(home, "small", Edits())
    assert not changes.draft_path(home, "small").exists() and changes.read_draft(home, "small") == Edits()


@pytest.mark.parametrize("text", ["{}", "[]", '{"done": [{"video_id": "a"}], "undone": []}', "{"])
def test_a_damaged_draft_is_named(home, text):
    path = changes.draft_path(home, "small")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=r"small\.edits\.json"):
        changes.read_draft(home, "small")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"video_id": 1, "before": None, "after": None},
        {"video_id": "a", "before": [1, 2], "after": None},
    ],
)
def test_what_is_no_edit_is_refused(value):
    with pytest.raises(InputError, match="not an edit"):
        changes.change_from(value)
