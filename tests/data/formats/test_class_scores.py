"""Video-level class scores: the forms they come in, and what is wrong with some."""

import json

import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import list_datasets
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.formats.class_scores import THUMOS_CLASSES, read_class_scores
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

LABELS = ["high jump", "long jump", "run"]


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_challenge_form_with_named_classes(tmp_path):
    content = {"class": ["run", "Long_Jump", "extra", "HighJump"], "results": {"abc": [[0.1, 0.2, 0.3, 0.4]]}}
    scores = read_class_scores(write(tmp_path / "s.json", content), LABELS)
    assert scores.of("abc") == pytest.approx([0.4, 0.2, 0.1])
    assert scores.of("v_abc") == pytest.approx([0.4, 0.2, 0.1])


def test_scores_by_class_name_and_scores_in_alphabetical_order(tmp_path):
    named = read_class_scores(
        write(tmp_path / "a.json", {"v_x": {"run": 1, "high jump": 0.5, "long jump": 0}}), LABELS
    )
    assert named.of("x").tolist() == [0.5, 0, 1]
    plain = read_class_scores(write(tmp_path / "b.json", {"results": {"x": [1, 2, 3]}}), LABELS)
    assert plain.of("x").tolist() == [1, 2, 3]


def test_npz(tmp_path):
    np.savez(tmp_path / "s.npz", video_ids=["x", "y"], labels=LABELS[::-1], scores=[[1, 2, 3], [4, 5, 6]])
    assert read_class_scores(tmp_path / "s.npz", LABELS).of("y").tolist() == [6, 5, 4]


def test_untrimmednet_scores_of_thumos(tmp_path):
    table = np.arange(3 * 101, dtype=np.float32).reshape(3, 101)
    np.save(tmp_path / "s.npy", table)
    labels = sorted(THUMOS_CLASSES.values())
    scores = read_class_scores(tmp_path / "s.npy", labels).of("video_test_0000002")
    assert len(scores) == 20
    assert scores[labels.index("Diving")] == table[1, 26 - 1]
    assert scores[labels.index("VolleyballSpiking")] == table[1, 97 - 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"results": {"x": [1, 2]}}, "2 scores for 3 classes"),
        ({"results": {"x": [1, 2, float("nan")]}}, "no finite"),
        ({"results": {"x": [1, 2, -3]}}, "softmax"),
        ({"results": {"x": [1, 2, "a"]}}, "not numbers"),
        ({"class": ["run", "high jump"], "results": {"x": [1, 2]}}, "'long jump'"),
        ({"x": {"run": 1, "high jump": 2, "long jump": 3}, "y": {"run": 1}}, "video 'y'"),
        ({"class": "run", "results": {"x": [1]}}, "no list of names"),
        ({"results": {}}, "unknown form"),
        ([1], "unknown form"),
    ],
)
def test_wrong_content_is_named(tmp_path, content, message):
    path = write(tmp_path / "s.json", content)
    with pytest.raises(InputError, match=message) as error:
        read_class_scores(path, LABELS)
    assert "s.json" in str(error.value)


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"PK no zip")
    (tmp_path / "s.npy").write_bytes(b"no array")
    np.save(tmp_path / "small.npy", np.zeros((3, 5)))
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name, message in [
        ("s.npz", "can't be read"),
        ("s.npy", "can't be read"),
        ("small.npy", "neither videos nor classes"),
        ("code.npy", "can't be read"),
        ("s.pkl", "unknown file ending"),
    ]:
        with pytest.raises(InputError, match=message):
            read_class_scores(tmp_path / name, LABELS)


def test_a_dataset_is_not_registered_with_scores_of_other_classes(home, tmp_path):
    entry = make_dataset(home).entry
    path = write(tmp_path / "s.json", {"class": ["swim"], "results": {"v00": [1]}})
    with pytest.raises(InputError, match="3 of the dataset's 3 classes have no score"):
        add_dataset(
            home,
            "scored",
            annotations=entry.annotations,
            features=entry.features,
            snippet_seconds=0.5,
            class_scores=path,
        )
    assert "scored" not in [known.name for known in list_datasets(home)]


def test_videos_without_scores_are_told_when_the_dataset_is_registered(home, tmp_path):
    entry = make_dataset(home).entry
    database = json.loads(entry.annotations.read_text())["database"]
    labels = sorted({a["label"] for video in database.values() for a in video["annotations"]})
    some = dict.fromkeys(sorted(database)[1:], [0.5] * len(labels))
    path = write(tmp_path / "s.json", {"class": labels, "results": some})
    scored = add_dataset(
        home,
        "scored",
        annotations=entry.annotations,
        features=entry.features,
        snippet_seconds=0.5,
        class_scores=path,
    )
    note = f"1 of {len(database)} videos have no class scores (first: {sorted(database)[0]})"
    assert note in scored.derived
    assert note in set(open_dataset(home, "scored").findings["detail"])


def test_missing_videos_are_counted(tmp_path):
    scores = read_class_scores(write(tmp_path / "s.json", {"v_x": [1, 2, 3]}), LABELS)
    scores.check(["x"])
    with pytest.raises(InputError, match=r"2 of 3 videos have no class scores \(first: 'y'"):
        scores.check(["x", "y", "z"])
    with pytest.raises(InputError, match="no scores of video 'y'"):
        scores.of("y")
