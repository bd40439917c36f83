"""Blocked videos: the list, and what it takes out of annotations, detections, datasets and runs."""

import gzip
import json

import pandas as pd
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.health import health_report
from tal_core.data.dataset.registry import add_dataset, make_subset
from tal_core.data.formats.annotations import read_annotations
from tal_core.data.formats.blocked import are_blocked, leave_out, read_blocked, without_blocked
from tal_core.importing.run_of_detections import keep_detections
from tal_core.types import InputError
from tests.data.files_on_disk import arrays_for, four_videos, write_annotations, write_features


def test_a_list_is_read_from_json_and_text(tmp_path):
    (tmp_path / "b.json").write_text('["x", "v_y"]')
    (tmp_path / "b.txt").write_text("x\n\n v_y \r\n")
    with gzip.open(tmp_path / "b.json.gz", "wt") as file:
        file.write('["x", "v_y"]')
    for name in ("b.json", "b.txt", "b.json.gz"):
        assert read_blocked(tmp_path / name) == {"x", "v_y"}


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("b.json", '{"x": 1}', "no list of video ids"),
        ("b.json", "[1, 2]", "no list of video ids"),
        ("b.json", "[]", "names no video"),
        ("b.json", '["x"', "not complete JSON"),
        ("b.txt", "  \n ", "the file is empty"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, name, text, what):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=what) as error:
        read_blocked(tmp_path / name)
    assert error.value.where == tmp_path / name and error.value.hint


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_blocked(tmp_path / "b.json")


def test_the_prefix_of_an_id_does_not_matter():
    videos = pd.Series(["v_x", "x", "y", "v_z", "xv_"])
    assert are_blocked(videos, frozenset({"x", "v_z"})).tolist() == [True, True, False, True, False]


def test_annotations_and_detections_lose_blocked_videos(tmp_path):
    path = tmp_path / "blocked.json"
    whole = read_annotations(write_annotations(tmp_path / "a.json", four_videos()))
    rest = leave_out(whole, frozenset({"v_a", "d", "unknown"}), path)
    assert rest.videos["video_id"].tolist() == ["b", "c"]
    assert rest.ground_truth["video_id"].tolist() == ["b", "c"]
    (row,) = rest.findings[rest.findings["kind"] == "blocked videos"].itertuples()
    assert row.detail == "2 videos with 4 annotations are left out (blocked.json)"
    assert row.advice.startswith("1 more of its ids")
    table = pd.DataFrame({"video_id": ["a", "b", "foreign"], "score": [1.0, 2.0, 3.0]})
    assert without_blocked(table, frozenset({"a"}))["score"].tolist() == [2.0, 3.0]
    assert without_blocked(table, frozenset()) is table


def test_a_list_of_another_dataset_or_of_all_videos_is_refused(tmp_path):
    whole = read_annotations(write_annotations(tmp_path / "a.json", four_videos()))
    with pytest.raises(InputError, match=r"none of its 2 videos .*\(the file has 'x'"):
        leave_out(whole, frozenset({"x", "y"}), tmp_path / "b.json")
    with pytest.raises(InputError, match="blocks every annotated video"):
        leave_out(whole, frozenset("abcd"), tmp_path / "b.json")


@pytest.fixture
def blocked_dataset(home, tmp_path):
    """The four videos, of which the testing video ``d`` is blocked; and the list's path."""
    blocked = tmp_path / "blocked.json"
    blocked.write_text('["d"]')
    add_dataset(
        home,
        "small",
        annotations=write_annotations(tmp_path / "a.json", four_videos()),
        features=write_features(tmp_path / "f", arrays_for(four_videos())),
        snippet_seconds=0.5,
        blocked=blocked,
    )
    return open_dataset(home, "small"), blocked


def test_a_dataset_is_without_its_blocked_videos(home, blocked_dataset):
    data, blocked = blocked_dataset
    assert data.videos() == ["a", "b", "c"] and data.blocked == {"d"}
    assert len(data.ground_truth("testing")) == 1
    assert "blocked videos" in set(health_report(data)["kind"])
    before = data.fingerprint()
    blocked.write_text('["a"]')  # a changed list is seen when the dataset is opened again
    again = open_dataset(home, "small")
    assert again.videos() == ["b", "c", "d"] and again.fingerprint() != before
    make_subset(home, "small", "smaller", videos=2)
    assert open_dataset(home, "smaller").blocked == frozenset()


def test_a_faulty_list_stops_the_registration(home, tmp_path, blocked_dataset):
    _, blocked = blocked_dataset
    blocked.write_text('["nothing here"]')
    with pytest.raises(InputError, match="none of its 1 videos"):
        open_dataset(home, "small")
    blocked.unlink()
    with pytest.raises(InputError, match="no such file") as error:
        open_dataset(home, "small")
    assert error.value.where == blocked


def test_runs_lose_detections_of_blocked_videos(home, blocked_dataset):
    data, blocked = blocked_dataset
    rows = [("c", 10, 12, "jump", 0.9), ("d", 0, 2, "run", 0.8), ("v_d", 0, 2, "run", 0.8)]
    table = pd.DataFrame(rows, columns=["video_id", "start", "end", "label", "score"])
    run, notes = keep_detections(home, data, table, "theirs.json")
    assert notes == ["2 detections of blocked videos were left out."]
    assert run.detections()["video_id"].tolist() == ["c"]
    assert run.evaluation().average_mAP == 1
    blocked.write_text('["c"]')  # what is blocked later is left out of what was detected before
    assert run.detections().empty
    written = json.loads((run.folder / "detections.json").read_text())
    assert list(written["results"]) == ["c"]
