import numpy as np
import pandas as pd
import pytest

from tal_core.data.dataset.entry import DatasetEntry, Split
from tal_core.data.dataset.subsets import (
    choose_subsets,
    class_counts,
    evaluation_subset,
    in_subset,
    split_videos,
    stratified_split,
)
from tal_core.data.formats.annotations import read_annotations
from tal_core.types import InputError
from tests.data.files_on_disk import four_videos, video, write_annotations


def random_truth(videos=200, classes=12, seed=0):
    """Instances with classes from frequent to rare, several classes in a video."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, classes + 1)
    rows = [
        (f"v{i:03d}", f"c{label:02d}")
        for i in range(videos)
        for label in random.choice(classes, size=random.integers(1, 9), p=weights / weights.sum())
    ]
    return pd.DataFrame(rows, columns=["video_id", "label"])


def test_split_keeps_every_class_its_share():
    truth = random_truth()
    ids = sorted(truth["video_id"].unique())
    held_out = stratified_split(ids, truth, 0.25, seed=3)
    assert abs(len(held_out) - 50) <= 6
    total = class_counts(ids, truth).sum(axis=0)
    taken = class_counts(held_out, truth[truth["video_id"].isin(held_out)]).sum(axis=0)
    assert len(taken) == len(total)  # every class is on both sides
    assert np.abs(taken / total - 0.25).max() < 0.06


def test_split_is_seeded():
    truth = random_truth()
    ids = sorted(truth["video_id"].unique())
    first = stratified_split(ids, truth, 0.25, seed=3)
    assert stratified_split(ids, truth, 0.25, seed=3) == first
    assert stratified_split(ids, truth, 0.25, seed=4) != first


def annotated(tmp_path, subsets):
    """Two videos in each of the given subsets; a ``-`` before the name: without annotations."""
    database = {}
    for name in subsets:
        segments = () if name.startswith("-") else ((1, 2, "jump"),)
        for k in range(2):
            database[f"{name}{k}"] = video(name.removeprefix("-"), 9.0, *segments)
    return read_annotations(write_annotations(tmp_path / "a.json", database))


def chosen(tmp_path, subsets, **fields):
    found = annotated(tmp_path, subsets)
    entry = DatasetEntry(name="x", annotations="a.json", features=["f"], **fields)
    return choose_subsets(entry, found.videos, found.ground_truth)


@pytest.mark.parametrize(
    ("subsets", "training", "evaluation"),
    [
        (["training", "testing"], "training", "testing"),
        (["training", "validation", "-testing"], "training", "validation"),  # ActivityNet
        (["validation", "testing"], "validation", "testing"),  # THUMOS14
        (["Validation", "Test"], "Validation", "Test"),
        (["train", "val", "test"], "train", "test"),
        (["test", "train"], "train", "test"),
    ],
)
def test_usual_names(tmp_path, subsets, training, evaluation):
    fields = chosen(tmp_path, subsets)
    assert (fields["training_subset"], fields["evaluation_subset"]) == (training, evaluation)
    assert "split" not in fields
    assert evaluation_subset(annotated(tmp_path, subsets)) == evaluation


def test_given_names_go_first(tmp_path):
    fields = chosen(tmp_path, ["train", "val", "test"], evaluation_subset="VAL")
    assert (fields["training_subset"], fields["evaluation_subset"]) == ("train", "val")


def test_unusual_names_must_be_given(tmp_path):
    with pytest.raises(InputError, match=r"east, west.*--training-subset"):
        chosen(tmp_path, ["east", "west"])
    with pytest.raises(InputError, match="--subset"):
        evaluation_subset(annotated(tmp_path, ["east", "west"]))
    fields = chosen(tmp_path, ["east", "west"], training_subset="west", evaluation_subset="east")
    assert fields == {"training_subset": "west", "evaluation_subset": "east"}


def test_a_subset_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"'dev'.*train, test"):
        chosen(tmp_path, ["train", "test"], evaluation_subset="dev")


@pytest.mark.parametrize(
    ("subsets", "held_out"), [([""], "testing"), (["training", "-testing"], "validation")]
)
def test_files_without_two_subsets_are_split(tmp_path, subsets, held_out):
    fields = chosen(tmp_path, subsets)
    assert (fields["training_subset"], fields["evaluation_subset"]) == ("training", held_out)
    assert "split by chance (seed 0, 20%" in fields["derived"][-1]


def test_split_names_every_annotated_video(tmp_path):
    database = {f"v{i}": video("", 9.0, (1, 2, f"c{i % 3}")) for i in range(20)} | {"w": video("spare", 9.0)}
    found = read_annotations(write_annotations(tmp_path / "a.json", database))
    entry = DatasetEntry(name="x", annotations="a.json", features=["f"], split=Split(seed=1, fraction=0.3))
    entry = entry.model_copy(update=choose_subsets(entry, found.videos, found.ground_truth))
    names = split_videos(entry, found.videos, found.ground_truth)
    assert names.value_counts().to_dict() == {"training": 14, "testing": 6, "spare": 1}


def test_ground_truth_of_a_subset(tmp_path):
    found = read_annotations(write_annotations(tmp_path / "a.json", four_videos()))
    truth, videos = in_subset(found, "Testing")
    assert videos == ["c", "d"]
    assert truth["video_id"].tolist() == ["c", "d", "d"]
    assert len(in_subset(found, "")[1]) == 4
    with pytest.raises(
        InputError, match=r"a\.json: no annotated videos in the subset 'dev'.*training, testing"
    ):
        in_subset(found, "dev", where="a.json")


def test_evaluation_subset_of_plain_files(tmp_path):
    assert evaluation_subset(annotated(tmp_path, ["dev"])) == "dev"
    assert evaluation_subset(annotated(tmp_path, [""])) == ""
