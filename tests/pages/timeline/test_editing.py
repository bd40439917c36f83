"""Editing the ground truth on the Timeline page, by numbers and as the component sends it."""

import json

import pytest

from pages.timeline.editing import Editing
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import load_entry
from tal_core.data.editing.changes import Change, Edits, Segment, draft_path, read_draft, write_draft
from tal_core.workspace import write_json
from tests.pages.page_tools import button, open_page, selectbox, small_dataset, small_run, table, texts

JUMP = Segment(2.0, 6.0, "jump")


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


def open_editor(**query):
    return open_page("timeline", dataset="small", video="v4", edit="1", **query)


def relabel(app, label):
    """Give the first segment of the video another class, by the form."""
    selectbox(app, "Segment").set_value(str(JUMP)).run()
    selectbox(app, "Class").set_value(label).run()
    return button(app, "Apply").click().run()


def test_a_segment_is_changed_added_and_deleted_by_numbers(home):
    app = relabel(open_editor(), "run")
    assert not app.exception and not app.error
    selectbox(app, "Segment").set_value("new segment").run()
    app.number_input[0].set_value(15.0)
    app.number_input[1].set_value(17.5).run()
    button(app, "Add").click().run()
    selectbox(app, "Segment").set_value("run, 12.000 to 16.000 s").run()
    button(app, "Delete").click().run()
    assert [change.kind for change in read_draft(home, "small").done] == ["relabelled", "added", "deleted"]
    segments = table(app, "outcome")[["start", "end", "label"]].values.tolist()
    assert segments == [[2.0, 6.0, "run"], [15.0, 17.5, "jump"]]
    assert "3 unsaved changes" in texts(app)


def test_mended_labels_change_what_is_a_mistake_at_once(home):
    run = small_run(home, "finished")
    detection = {"segment": [2.0, 6.0], "label": "run", "score": 0.9}
    write_json(run.folder / "detections.json", {"version": "1", "results": {"v4": [detection]}})
    app = open_editor(score="0")
    assert "wrong label" in table(app, "outcome")["outcome"].tolist()
    app = relabel(app, "run")
    outcomes = table(app, "outcome")["outcome"].tolist()
    assert "true positive / found" in outcomes and "wrong label" not in outcomes


def test_wrong_times_get_a_box_and_change_nothing(home):
    app = open_editor()
    selectbox(app, "Segment").set_value(str(JUMP)).run()
    app.number_input[1].set_value(1.0).run()
    button(app, "Apply").click().run()
    assert "The end must come after the start" in app.error[0].value
    assert read_draft(home, "small") == Edits()
    assert not app.run().error, "said once"


def test_unsaved_changes_outlive_the_page(home):
    app = relabel(open_editor(), "run")
    app.switch_page("pages/explore/page.py").run()
    app.query_params.clear()
    app = open_page("timeline", dataset="small", video="v4")
    assert "1 unsaved change**" in texts(app) and table(app, "outcome")["label"].iloc[0] == "jump"
    app.toggle[0].set_value(True).run()
    assert table(app, "outcome")["label"].iloc[0] == "run" and app.query_params["edit"] == "1"


def test_saving_and_going_back(home):
    original = load_entry(home, "small").annotations
    content = original.read_bytes()
    app = relabel(open_editor(), "run")
    button(app, "Save as new annotation file").click().run()
    assert not app.exception and not app.error
    assert "Saved **1 change** as" in texts(app) and "unsaved" not in texts(app)
    new = load_entry(home, "small").annotations
    assert new == home / "annotations" / "small-edited.json" and original.read_bytes() == content
    assert json.loads(new.with_name("small-edited.changes.json").read_text())["from"] == str(original)
    assert table(app, "outcome")["label"].iloc[0] == "run" and read_draft(home, "small") == Edits()
    button(app, "Use again").click().run()
    assert load_entry(home, "small").annotations == original
    assert table(app, "outcome")["label"].iloc[0] == "jump"


def test_saving_beside_leaves_the_dataset_alone_and_taken_names_are_refused(home):
    app = relabel(open_editor(), "run")
    app.checkbox(key="edit_use").set_value(False)
    selectbox(app, "Form").set_value("CSV")
    button(app, "Save as new annotation file").click().run()
    assert (home / "annotations" / "small-edited.csv").exists()
    assert "still uses its file of before" in texts(app) and not load_entry(home, "small").earlier
    app = relabel(app, "run")
    app.text_input(key="edit_name:small-edited").set_value("small-edited.csv")
    selectbox(app, "Form").set_value("CSV")
    button(app, "Save as new annotation file").click().run()
    assert "this file exists" in app.error[0].value and len(read_draft(home, "small").done) == 1


def test_a_draft_that_no_longer_fits_can_be_discarded(home):
    write_draft(home, "small", Edits((Change("v4", Segment(7.0, 8.0, "gone"), None),)))
    app = open_editor()
    assert not app.exception and "isn't in the annotations" in app.error[0].value
    assert len(table(app, "outcome")) == 2, "the timeline shows what is saved"
    button(app, "Discard them all").click().run()
    assert not app.error and not draft_path(home, "small").exists()


def test_near_copies_are_told(home):
    write_draft(home, "small", Edits((Change("v4", None, Segment(2.0, 6.1, "jump")),)))
    assert "nearly covers" in texts(open_editor())


def test_what_the_component_sends_is_carried_out_once(home):
    data = open_dataset(home, "small")
    view = Editing(data, "v4", Edits(), data.ground_truth(videos=["v4"]), None)

    def edit(number, kind="change", before=None, after=None):
        return {"number": number, "kind": kind, "video_id": "v4", "before": before, "after": after}

    first = edit(1, after=[7.0, 8.0, "hop"])
    second = edit(2, before=[7.0, 8.0, "hop"], after=[7.0, 8.5, "hop"])
    view.receive({"client": "a", "edits": [first]})
    view.receive({"client": "a", "edits": [first, second]})  # sent again, since not yet confirmed
    view.receive({"client": "b", "edits": [edit(1, after=[9.0, 10.0, "hop"])]})  # another window
    assert [change.after for change in read_draft(home, "small").done] == [
        (7, 8, "hop"),
        (7, 8.5, "hop"),
        (9, 10, "hop"),
    ]
    assert view.for_component()["seen"] == {"a": 2, "b": 1}
    view.receive({"client": "a", "edits": [edit(3, "undo"), edit(4, "undo"), edit(5, "redo")]})
    draft = read_draft(home, "small")
    assert len(draft.done) == 2 and len(draft.undone) == 1
    for wrong in (
        edit(6, before=[1.0, 1.5, "gone"]),
        edit(7, after=[5.0, 4.0, "hop"]),
        edit(8, after=["x", 4.0, "hop"]),
    ):
        view.receive({"client": "a", "edits": [wrong]})
    assert read_draft(home, "small") == draft
