import gzip
import json

import numpy as np
import pandas as pd
import pytest

from tal_core.data.formats import annotations as module
from tal_core.data.formats.annotations import read_annotations
from tal_core.types import FINDING_COLUMNS, GROUND_TRUTH_COLUMNS, VIDEO_COLUMNS, InputError
from tests.data.files_on_disk import four_videos, video, write_annotations


def kinds(annotations):
    return dict(zip(annotations.findings["kind"], annotations.findings["video_id"], strict=True))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "annotations.json"


# --- forms --------------------------------------------------------------------------------------------


def test_activitynet_json(path):
    found = read_annotations(write_annotations(path, four_videos()))
    assert tuple(found.ground_truth) == GROUND_TRUTH_COLUMNS
    assert tuple(found.videos) == VIDEO_COLUMNS
    assert found.ground_truth.values.tolist()[:2] == [["a", 1.0, 3.0, "jump"], ["a", 5.0, 9.5, "run"]]
    assert found.ground_truth[["start", "end"]].dtypes.eq("float64").all()
    assert found.videos["subset"].tolist() == ["training", "training", "testing", "testing"]
    assert found.videos["duration"].tolist() == [20, 24, 30, 16]
    assert found.videos["fps"].isna().all()
    assert found.labels == ["jump", "run"]
    assert found.findings.empty
    assert tuple(found.findings) == FINDING_COLUMNS


def test_flat_form_takes_fps_from_the_frame_count(path):
    entry = {
        "duration_second": 10.0,
        "duration_frame": 250,
        "annotations": [{"segment": [1, 2], "label": "x"}],
    }
    path.write_text(json.dumps({"v_1": entry, "v_2": {"duration_second": 5.0, "annotations": []}}))
    found = read_annotations(path)
    assert found.videos["duration"].tolist() == [10, 5]
    assert found.videos["fps"].tolist()[0] == 25
    assert found.videos["subset"].tolist() == ["", ""]
    assert "subsets" in kinds(found)


def test_detad_form_gives_the_duration_through_coverage(path):
    entry = {
        "subset": "testing",
        "annotations": [
            {"segment": [10, 15], "label": "x", "length": 5.0, "coverage": 0.05, "context-size": None},
            {"segment": [20, 30], "label": "x", "length": 10.0, "coverage": 0.1, "num-instances": 2},
        ],
    }
    found = read_annotations(write_annotations(path, {"v": entry}))
    assert found.videos["duration"].tolist() == [pytest.approx(100)]


def test_gzipped(path):
    write_annotations(path, four_videos())
    packed = path.with_name("annotations.json.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pd.testing.assert_frame_equal(read_annotations(packed).ground_truth, read_annotations(path).ground_truth)


@pytest.mark.parametrize(
    "text",
    [
        "video_id,start,end,label,subset,duration,fps\na,1,3,jump,training,20,25\na,5,9.5,run,training,20,25\nb,,,,testing,9,\n",
        "Video;Begin;End;Class;split;seconds;fps\na;1;3;jump;training;20;25\na;5;9.5;run;;;\nb;;;;testing;9;\n",
        "name\tt_start\tt_end\taction\tsubset\tduration\tfps\na\t1\t3\tjump\ttraining\t20\t25\na\t5\t9.5\trun\t\t\t\nb\t\t\t\ttesting\t9\t\n",
    ],
    ids=["comma", "semicolon and other names", "tab"],
)
def test_csv(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = read_annotations(path)
    assert found.ground_truth.values.tolist() == [["a", 1.0, 3.0, "jump"], ["a", 5.0, 9.5, "run"]]
    assert found.videos.set_index("video_id")["subset"].to_dict() == {"a": "training", "b": "testing"}
    assert found.videos["duration"].tolist() == [20, 9]
    assert found.videos["fps"].tolist()[0] == 25


def test_csv_keeps_ids_and_labels_as_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video,start,end,label\n007,0,1,None\nNA,0,1,12\n")
    found = read_annotations(path)
    assert found.ground_truth["video_id"].tolist() == ["007", "NA"]
    assert found.ground_truth["label"].tolist() == ["None", "12"]


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_written_annotations_read_back_equal(path, ending):
    database = four_videos()
    database["e"] = video("testing", 12.0)
    database["a"]["annotations"].append({"segment": [0.1, 0.7000000001], "label": "Ambiguous"})
    first = read_annotations(write_annotations(path, database))
    copy = path.with_name(f"copy{ending}")
    module.write_annotations(first, copy)
    second = read_annotations(copy)
    pd.testing.assert_frame_equal(first.ground_truth, second.ground_truth)
    pd.testing.assert_frame_equal(first.ambiguous, second.ambiguous)
    pd.testing.assert_frame_equal(first.videos, second.videos)


def test_unknown_ending_is_not_written(path, tmp_path):
    found = read_annotations(write_annotations(path, four_videos()))
    with pytest.raises(InputError, match=r"\.json or \.csv"):
        module.write_annotations(found, tmp_path / "x.txt")


def test_ambiguous_is_kept_apart(path):
    database = four_videos()
    database["a"]["annotations"].append({"segment": [6, 7], "label": "Ambiguous"})
    found = read_annotations(write_annotations(path, database))
    assert found.ambiguous.values.tolist() == [["a", 6.0, 7.0, "Ambiguous"]]
    assert found.labels == ["jump", "run"]
    assert len(found.ground_truth) == 6


def test_video_info_fills_what_is_missing(path, tmp_path):
    flat = {
        "v_1": {"duration_second": 10.0, "annotations": [{"segment": [1, 2], "label": "x"}]},
        "v_2": {"annotations": [{"segment": [1, 2], "label": "x"}]},
        "v_3": {"annotations": []},
    }
    path.write_text(json.dumps(flat))
    info = tmp_path / "info.csv"
    info.write_text("video,numFrame,seconds,fps,subset\nv_1,1,99,30,training\nv_2,2,7,25,validation\n")
    found = read_annotations(path, info)
    assert found.videos["subset"].tolist() == ["training", "validation", ""]
    assert found.videos["duration"].tolist()[:2] == [10, 7]
    assert found.videos["fps"].tolist()[:2] == [30, 25]
    detail = found.findings.set_index("kind").loc["video info", "detail"]
    assert "1 annotated videos" in detail and "v_3" in detail


def test_video_info_names_a_video_twice(path, tmp_path):
    write_annotations(path, four_videos())
    info = tmp_path / "info.csv"
    info.write_text("video,subset\na,training\na,testing\n")
    with pytest.raises(InputError, match="'a' is there twice"):
        read_annotations(path, info)


# --- odd but usable: reported and kept ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "kind"),
    [((4, 4), "zero length"), ((15, 21), "beyond the end"), ((-0.5, 2), "negative start")],
)
def test_odd_segments_are_kept_and_reported(path, segment, kind):
    database = {"a": video("training", 20.0, (*segment, "jump")), "b": video("testing", 9.0, (1, 2, "jump"))}
    found = read_annotations(write_annotations(path, database))
    assert found.ground_truth[["start", "end"]].values.tolist()[0] == list(segment)
    assert kinds(found) == {kind: "a"}
    assert "jump" in found.findings["detail"][0]


def test_duplicates_are_kept_and_reported(path):
    database = {"a": video("training", 20.0, (1, 2, "jump"), (1, 2, "jump"), (1, 2, "run"))}
    found = read_annotations(write_annotations(path, database))
    assert len(found.ground_truth) == 3
    assert kinds(found) == {"duplicate": "a"}


def test_labels_that_look_alike(path):
    database = {"a": video("training", 20.0, (1, 2, "high_jump"), (3, 4, "High Jump"))}
    assert "labels" in kinds(read_annotations(write_annotations(path, database)))


def test_labels_that_are_numbers_become_text(path):
    database = {"a": video("training", 20.0, (1, 2, 3), (3, 4, 12))}
    found = read_annotations(write_annotations(path, database))
    assert found.ground_truth["label"].tolist() == ["3", "12"]
    assert "labels" in kinds(found)


def test_rounded_durations_are_no_finding(path):
    database = {"a": video("training", 20.0, (1, 20.0004, "jump"))}
    assert read_annotations(write_annotations(path, database)).findings.empty


# --- unusable: one line that names file, video and field ----------------------------------------------


def entry(annotations, fields='"subset": "training", "duration": 9'):
    """The text of a file with one video, ``v1``."""
    return f'{{"database": {{"v1": {{{fields}, "annotations": [{annotations}]}}}}}}'


GOOD = '{"segment": [1, 2], "label": "x"}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("  \n", ["empty"]),
        ('{"database": {"v1": {"annot', ["not complete JSON", "column"]),
        ("[1, 2]", ["unknown form"]),
        ("{}", ["unknown form"]),
        ("3", ["unknown form"]),
        ('{"database": []}', ["unknown form"]),
        ('{"a": 3}', ["unknown form"]),
        ('{"a": {"x": 1}}', ["unknown form"]),
        ('{"results": {}}', ["detections file"]),
        ('{"database": {"v1": 5}}', ["v1", "not an object"]),
        ('{"database": {"": {"annotations": []}}}', ["empty id"]),
        ('{"database": {"v1": {"annotations": 5}}}', ["v1", "list"]),
        ('{"database": {"v1": {"annotations": []}}}', ["no annotated segment"]),
        ('{"database": {"v1": {}, "v1": {}}}', ["'v1' is there twice"]),
        (entry("7"), ["v1", "entry 1", "number"]),
        (entry(GOOD + ', "x"'), ["v1", "entry 2", "text"]),
        (entry('{"label": "x"}'), ["v1", "segment is missing"]),
        (entry('{"segment": [1], "label": "x"}'), ["v1", "segment is [1]"]),
        (entry('{"segment": [1, "2"], "label": "x"}'), ["v1", "segment is [1, '2']"]),
        (entry('{"segment": "12", "label": "x"}'), ["v1", "segment is '12'"]),
        (entry('{"segment": [1, null], "label": "x"}'), ["v1", "segment"]),
        (entry('{"segment": [true, 2], "label": "x"}'), ["v1", "segment"]),
        (entry('{"segment": [1, NaN], "label": "x"}'), ["v1", "entry 1", "end is nan"]),
        (entry('{"segment": [-Infinity, 2], "label": "x"}'), ["v1", "start is -inf"]),
        (entry(GOOD + ', {"segment": [5, 3], "label": "x"}'), ["v1", "entry 2", "ends before it starts"]),
        (entry(f'{{"segment": [1, 1{"0" * 400}], "label": "x"}}'), ["too large"]),
        (entry('{"segment": [1, 2]}'), ["v1", "label is missing"]),
        (entry('{"segment": [1, 2], "label": ""}'), ["v1", "label is missing"]),
        (entry('{"segment": [1, 2], "label": null}'), ["v1", "label is None"]),
        (entry('{"segment": [1, 2], "label": ["x"]}'), ["v1", "label"]),
        (entry(GOOD, '"duration": "9"'), ["v1", "duration is '9'"]),
        (entry(GOOD, '"duration": -1'), ["v1", "duration is -1"]),
        (entry(GOOD, '"subset": 3'), ["v1", "subset is 3"]),
    ],
)  # fmt: skip
def test_unusable_json(path, text, words):
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_annotations(path)
    message = str(error.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a,1,x,jump", ["line 2", "end", "'x'"]),
        ("a,1,,jump", ["line 2", "'a'", "end is nan"]),
        ("a,1,inf,jump", ["line 2", "end is inf"]),
        ("a,1,2,run\na,3,2,jump", ["line 3", "'a'", "ends before it starts"]),
        ("a,1,2,", ["line 2", "label is empty"]),
        (",1,2,run", ["line 2", "video_id is empty"]),
        ('a,1,2,"run', ["not a table"]),
    ],
)
def test_unusable_csv(tmp_path, rows, words):
    path = tmp_path / "a.csv"
    path.write_text(f"video_id,start,end,label\n{rows}\n")
    with pytest.raises(InputError) as error:
        read_annotations(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_csv_without_a_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video_id,start,label\na,1,jump\n")
    with pytest.raises(InputError, match=r"no column 'end' .*t_end"):
        read_annotations(path)


def test_csv_with_two_durations_of_one_video(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("video_id,start,end,label,duration\na,1,2,x,9\na,3,4,x,8\n")
    with pytest.raises(InputError, match="'a' has several values of duration"):
        read_annotations(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_annotations(tmp_path / "none.json")
    packed = tmp_path / "cut.json.gz"
    packed.write_bytes(gzip.compress(b'{"database": {}}' * 99)[:-9])
    with pytest.raises(InputError, match="damaged gzip"):
        read_annotations(packed)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        read_annotations(binary)


def test_many_videos_are_quick_enough_for_a_page(path):
    """20 000 videos; the limit is generous, a quadratic reader would take minutes."""
    import time

    database = {f"v{i}": video("training", 30.0, (1, 9, f"c{i % 200}")) for i in range(20_000)}
    write_annotations(path, database)
    start = time.process_time()
    found = read_annotations(path)
    assert time.process_time() - start < 5
    assert len(found.ground_truth) == 20_000
    assert np.isfinite(found.videos["duration"]).all()
