"""Edited ground truth as a file, and datasets that take it."""

import json

import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import Split, load_entry, remove_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.editing.changes import Change, Edits, Segment
from tal_core.data.editing.save import annotations_folder, save_edited, suggest_name, use_earlier
from tal_core.data.formats.annotations import read_annotations
from tal_core.types import InputError

JUMP = Segment(2.0, 6.0, "jump")
HOP = Change("v0", JUMP, Segment(2.5, 6.0, "hop"))


@pytest.fixture
def dataset(tmp_path, home):
    return make(tmp_path, home)


def make(folder, home, subsets=True, **more):
    features, database = folder / "features", {}
    features.mkdir()
    for number in range(6):
        np.save(features / f"v{number}.npy", np.full((20, 4), number, np.float32))
        segments = [{"segment": [2.0, 6.0], "label": "jump"}, {"segment": [8.0, 12.0], "label": "run"}]
        database[f"v{number}"] = {"duration": 20.0, "annotations": segments}
        if subsets:
            database[f"v{number}"]["subset"] = "training" if number < 4 else "testing"
    path = folder / "small.json"
    path.write_text(json.dumps({"database": database}))
    add_dataset(home, "small", annotations=path, features=features, snippet_seconds=1.0, **more)
    return open_dataset(home, "small")


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_a_saved_edit_is_in_the_dataset_and_the_original_is_untouched(dataset, home, ending):
    original = dataset.entry.annotations
    content = original.read_bytes()
    path, entry = save_edited(home, dataset, Edits().make(HOP), f"mended{ending}")
    assert original.read_bytes() == content
    assert path == annotations_folder(home) / f"mended{ending}" and entry.annotations == path
    again = open_dataset(home, "small")
    assert again.labels == ["hop", "jump", "run"]
    assert again.ground_truth(videos=["v0"]).values.tolist()[0] == ["v0", 2.5, 6.0, "hop"]
    assert again.index["subset"].tolist() == dataset.index["subset"].tolist()
    assert again.fingerprint() != dataset.fingerprint()
    assert [one.annotations for one in load_entry(home, "small").earlier] == [original]


def test_the_changes_file_says_what_when_and_from_where(dataset, home):
    path, _ = save_edited(home, dataset, Edits().make(HOP).make(Change("v1", JUMP, None)), "mended.json")
    told = json.loads(path.with_name("mended.changes.json").read_text())
    assert told["from"] == str(dataset.entry.annotations) and told["dataset"] == "small"
    assert told["when"].startswith("20") and len(told["changes"]) == 2
    assert told["changes"][0] == {
        "change": "moved and relabelled",
        "video_id": "v0",
        "before": [2.0, 6.0, "jump"],
        "after": [2.5, 6.0, "hop"],
    }


def test_without_use_only_the_file_is_written(dataset, home):
    path, entry = save_edited(home, dataset, Edits().make(HOP), "mended.json", use=False)
    assert entry == dataset.entry and load_entry(home, "small") == dataset.entry
    assert "hop" in read_annotations(path).labels


def test_going_back_and_forth_between_files(dataset, home):
    original = dataset.entry.annotations
    first, _ = save_edited(home, dataset, Edits().make(HOP), "one.json")
    second, _ = save_edited(
        home, open_dataset(home, "small"), Edits().make(Change("v1", JUMP, None)), "two.json"
    )
    assert [one.annotations for one in load_entry(home, "small").earlier] == [first, original]
    assert use_earlier(home, "small", original).annotations == original
    assert open_dataset(home, "small").labels == ["jump", "run"]
    assert [one.annotations for one in load_entry(home, "small").earlier] == [second, first]
    assert use_earlier(home, "small", second).annotations == second
    assert len(open_dataset(home, "small").annotations.ground_truth) == 11
    with pytest.raises(InputError, match="not an earlier"):
        use_earlier(home, "small", second)


@pytest.mark.parametrize(
    ("name", "words"),
    [("mended.txt", "the form"), ("../mended.json", "can't be the name"), ("a.changes.json", "the form")],
)
def test_names_that_can_not_be(dataset, home, name, words):
    with pytest.raises(InputError, match=words):
        save_edited(home, dataset, Edits().make(HOP), name)


def test_nothing_is_overwritten(dataset, home):
    path, _ = save_edited(home, dataset, Edits().make(HOP), "mended.json", use=False)
    content = path.read_bytes()
    with pytest.raises(InputError, match="this file exists"):
        save_edited(home, dataset, Edits().make(Change("v1", JUMP, None)), "mended.json")
    with pytest.raises(InputError, match="this file exists"):
        save_edited(home, dataset, Edits().make(HOP), "mended.csv")  # its changes file is taken
    assert path.read_bytes() == content
    assert suggest_name(home, "small") == "small-edited.json"
    save_edited(home, dataset, Edits().make(HOP), "small-edited.json", use=False)
    assert suggest_name(home, "small") == "small-edited-2.json"


def test_what_can_not_be_used_is_not_kept(dataset, home):
    edits = Edits()
    for number in range(6):
        for segment in (JUMP, Segment(8.0, 12.0, "run")):
            edits = edits.make(Change(f"v{number}", segment, None))
    for wrong, words in ((edits, "no annotated segment"), (Edits(), "no changes to save")):
        with pytest.raises(InputError, match=words):
            save_edited(home, dataset, wrong, "mended.json")
    assert not list(annotations_folder(home).iterdir()) and load_entry(home, "small") == dataset.entry


def test_a_split_stays_although_labels_change(tmp_path, home):
    dataset = make(tmp_path, home, subsets=False, split=Split(seed=3, fraction=0.4))
    parts = dict(zip(dataset.index["video_id"], dataset.index["subset"], strict=True))
    assert len(set(parts.values())) == 2
    edits = Edits()
    for number in range(3):
        edits = edits.make(Change(f"v{number}", JUMP, JUMP._replace(label="hop")))
    save_edited(home, dataset, edits, "mended.json")
    again = open_dataset(home, "small")
    assert dict(zip(again.index["video_id"], again.index["subset"], strict=True)) == parts
    assert again.training_subset == dataset.training_subset
    use_earlier(home, "small", dataset.entry.annotations)
    back = open_dataset(home, "small")
    assert back.entry.split == Split(seed=3, fraction=0.4) and back.fingerprint() == dataset.fingerprint()


def test_the_shipped_demo_gets_an_entry_of_its_own_in_the_workspace(home):
    demo = open_dataset(home, "demo")
    row = demo.ground_truth("training").iloc[0]
    before = Segment(row["start"], row["end"], row["label"])
    change = Change(row["video_id"], before, before._replace(label="mended"))
    shipped = demo.entry.annotations.read_bytes()
    save_edited(home, demo, Edits().make(change), "demo-edited.json")
    assert (home / "datasets" / "demo.toml").exists() and "mended" in open_dataset(home, "demo").labels
    assert demo.entry.annotations.read_bytes() == shipped
    remove_dataset(home, "demo")
    assert "mended" not in open_dataset(home, "demo").labels
    assert (annotations_folder(home) / "demo-edited.json").exists()
