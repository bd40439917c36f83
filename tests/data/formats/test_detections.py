import gzip
import json

import pandas as pd
import pytest

from tal_core.data.formats.detections import read_detections, write_detections
from tal_core.data.formats.findings import detection_findings
from tal_core.types import DETECTION_COLUMNS, InputError

RESULTS = {
    "v2": [
        {"segment": [1, 2.5], "label": "run", "score": 0.1},
        {"segment": [0, 1], "label": "jump", "score": 1},
    ],
    "v1": [{"label": "run", "score": 0.9, "segment": [3.0000000001, 4]}],
    "v0": [],
}


def write(path, value):
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def table(tmp_path):
    return read_detections(
        write(tmp_path / "d.json", {"version": "x", "results": RESULTS, "external_data": {}})
    )


def test_json_keeps_the_order_of_the_file(table):
    assert tuple(table) == DETECTION_COLUMNS
    assert table.values.tolist() == [
        ["v2", 1.0, 2.5, "run", 0.1],
        ["v2", 0.0, 1.0, "jump", 1.0],
        ["v1", 3.0000000001, 4.0, "run", 0.9],
    ]
    assert table[["start", "end", "score"]].dtypes.eq("float64").all()


def test_other_forms_are_the_same(table, tmp_path):
    bare = write(tmp_path / "bare.json", RESULTS)
    packed = tmp_path / "d.json.gz"
    packed.write_bytes(gzip.compress(bare.read_bytes()))
    csv = tmp_path / "d.csv"
    csv.write_text(
        "video-id;t-start;t-end;class;confidence\nv2;1;2.5;run;.1\nv2;0;1;jump;1\nv1;3.0000000001;4;run;.9\n"
    )
    for path in (bare, packed, csv):
        pd.testing.assert_frame_equal(read_detections(path), table)


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_written_detections_read_back_equal(table, tmp_path, ending):
    path = tmp_path / "deep" / f"copy{ending}"
    write_detections(table, path)
    pd.testing.assert_frame_equal(read_detections(path), table)


def test_extra_fields(table, tmp_path):
    write_detections(table, tmp_path / "x.json", extra={"run": "first"})
    assert json.loads((tmp_path / "x.json").read_text())["run"] == "first"


def test_no_detections_at_all(tmp_path):
    empty = read_detections(write(tmp_path / "d.json", {"results": {}}))
    assert tuple(empty) == DETECTION_COLUMNS and empty.empty
    assert empty[["start", "end", "score"]].dtypes.eq("float64").all()


def test_proposals_have_no_label(tmp_path):
    proposals = {"v1": [{"segment": [1, 2], "score": 0.5}, {"segment": [1, 3], "score": 0.4}]}
    assert read_detections(write(tmp_path / "p.json", {"results": proposals}))["label"].tolist() == ["", ""]


def one(**fields):
    """A result file whose second entry is spoiled."""
    good = {"segment": [1, 2], "label": "x", "score": 1}
    return {"results": {"v1": [good, good | fields]}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], ["unknown form"]),
        ({"results": [1]}, ["unknown form"]),
        ({"v1": {"a": 1}}, ["unknown form"]),
        ({"database": {}}, ["annotation file"]),
        ({"results": {"v1": {"a": 1}}}, ["v1", "list"]),
        (one(score="0.5"), ["v1", "entry 2", "score is '0.5'"]),
        (one(score=None), ["v1", "entry 2", "score is None"]),
        (one(score=float("nan")), ["v1", "entry 2", "score is nan"]),
        (one(segment=[2, 1]), ["v1", "entry 2", "ends before"]),
        (one(segment=["1", 2]), ["v1", "entry 2", "segment"]),
        (one(label=""), ["some entries"]),
        (one(label=1.5), ["v1", "entry 2", "label is 1.5"]),
    ],
)  # fmt: skip
def test_unusable(tmp_path, value, words):
    path = write(tmp_path / "d.json", value)
    with pytest.raises(InputError) as error:
        read_detections(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_a_video_twice_is_not_overwritten(tmp_path):
    path = tmp_path / "d.json"
    path.write_text('{"results": {"v1": [], "v1": []}}')
    with pytest.raises(InputError, match="'v1' is there twice"):
        read_detections(path)


def test_csv_with_text_for_a_score(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("video_id,start,end,label,score\nv,1,2,x,high\n")
    with pytest.raises(InputError, match="line 2: score is 'high'"):
        read_detections(path)


def test_findings_against_a_ground_truth(table):
    truth = pd.DataFrame(
        {"video_id": ["v1", "v3"], "start": [1.0, 1], "end": [2.0, 2], "label": ["run", "run"]}
    )
    table = pd.concat([table, table.tail(1), table.tail(1).assign(start=4.0)], ignore_index=True)
    found = detection_findings(table, truth).set_index("kind")["detail"]
    assert set(found.index) == {"unknown videos", "unknown labels", "zero length", "duplicate"}
    assert "2 detections of 1 unknown videos (first: v2)" in found["unknown videos"]
    assert "1 detections of 1 unknown labels (first: jump)" in found["unknown labels"]
    videos = pd.DataFrame({"video_id": ["v1", "v2", "v3"]})
    assert "unknown videos" not in set(detection_findings(table, truth, videos)["kind"])
    known = detection_findings(table, truth, videos, ["run", "jump"]).set_index("kind")["detail"]
    assert "unknown labels" not in known.index
    assert known["idle labels"] == "1 detections of 1 classes without annotations in this subset"


@pytest.mark.parametrize(
    ("names", "advice"),
    [(["v_a", "v_b"], "Add 'v_'"), (["b", "c"], "Not one video is in both"), ([], "right ground truth?")],
)
def test_when_no_video_is_in_both_files_it_says_why(names, advice):
    table = pd.DataFrame({"video_id": ["a"], "start": 0.0, "end": 1.0, "label": "x", "score": 1.0})
    truth = pd.DataFrame({"video_id": names, "start": 0.0, "end": 1.0, "label": "x"})
    found = detection_findings(table, truth)
    assert advice in found.loc[found["kind"] == "unknown videos", "advice"].item()


def test_a_prefix_too_much_is_named():
    table = pd.DataFrame({"video_id": ["v_a"], "start": 0.0, "end": 1.0, "label": "x", "score": 1.0})
    truth = pd.DataFrame({"video_id": ["a"], "start": 0.0, "end": 1.0, "label": "x"})
    assert "Remove 'v_'" in detection_findings(table, truth)["advice"][0]
