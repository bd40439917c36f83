import pytest

from tal_core.data.formats.annotations import read_annotations
from tal_core.types import InputError


@pytest.fixture
def folder(tmp_path):
    """Both subsets of a tiny THUMOS14, with durations beside, as the benchmark ships them."""
    root = tmp_path / "thumos"
    files = {
        "temporal_annotations_test/Diving_test.txt": "video_test_0000001  1.0 3.5\nvideo_test_0000002 2 4\n",
        "temporal_annotations_test/Ambiguous_test.txt": "video_test_0000001 8 9\nvideo_test_0000003 1 2\n",
        "temporal_annotations_validation/Diving_val.txt": "video_validation_0000001  0.5 1.5\n\n",
        "temporal_annotations_validation/Golf Swing_val.txt": "video_validation_0000001  2.5 3.5\n",
        "th14_test_durations.txt": "/data/TH14/video_test_0000001.mp4\n12.5\nvideo_test_0000002.mp4\n3.0\n",
        "th14_val_durations.txt": "C:\\TH14\\video_validation_0000001.mp4\n40\nvideo_test_9.mp4\n7\n",
        "readme.txt": "not a class",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_both_subsets(folder):
    found = read_annotations(folder)
    assert found.videos.set_index("video_id")["subset"].to_dict() == {
        "video_test_0000001": "testing",
        "video_test_0000002": "testing",
        "video_test_0000003": "testing",
        "video_validation_0000001": "validation",
    }
    assert found.labels == ["Diving", "Golf Swing"]
    assert len(found.ground_truth) == 4
    assert found.ambiguous["video_id"].tolist() == ["video_test_0000001", "video_test_0000003"]
    assert found.videos["duration"].tolist()[:2] == [12.5, 3.0]
    assert found.videos["duration"].isna().tolist() == [False, False, True, False]
    assert found.findings.loc[found.findings["kind"] == "beyond the end", "video_id"].tolist() == [
        "video_test_0000002"
    ]


def test_one_subset_with_durations_beside(folder):
    found = read_annotations(folder / "temporal_annotations_test")
    assert found.videos["subset"].unique().tolist() == ["testing"]
    assert found.videos["duration"].tolist()[0] == 12.5


def test_without_durations(folder):
    for path in folder.glob("th14*"):
        path.unlink()
    found = read_annotations(folder)
    assert found.videos["duration"].isna().all()
    assert (found.findings["kind"] == "durations").any()


def test_empty_class_file_is_reported(folder):
    (folder / "temporal_annotations_test" / "Shotput_test.txt").write_text("")
    found = read_annotations(folder)
    assert any("Shotput" in detail for detail in found.findings["detail"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("video_test_0000001 1.0", ["line 2", "video start end"]),
        ("video_test_0000001 1.0 x", ["line 2", "video start end"]),
        ("video_test_0000001 5 4", ["line 2", "video_test_0000001", "ends before it starts"]),
        ("video_test_0000001 nan 4", ["line 2", "start is nan"]),
    ],
)
def test_faulty_lines(folder, line, words):
    path = folder / "temporal_annotations_test" / "Shotput_test.txt"
    path.write_text(f"video_test_0000001 1 2\n{line}\n")
    with pytest.raises(InputError) as error:
        read_annotations(folder)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_a_video_in_both_subsets(folder):
    (folder / "temporal_annotations_test" / "Shotput_test.txt").write_text("video_validation_0000001 1 2\n")
    with pytest.raises(InputError, match="video_validation_0000001"):
        read_annotations(folder)


def test_faulty_durations(folder):
    (folder / "th14_test_durations.txt").write_text("video_test_0000001.mp4\nlong\n")
    with pytest.raises(InputError, match="'long' after"):
        read_annotations(folder)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no class files"):
        read_annotations(tmp_path)
