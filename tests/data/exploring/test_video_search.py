import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.exploring.video_search import VideoFilter, find_videos, page_count, page_of, video_table
from tests.data.files_on_disk import arrays_for, four_videos, write_annotations, write_features


@pytest.fixture
def data(tmp_path, home):
    database = four_videos()
    arrays = arrays_for(database)
    del arrays["d"]
    annotations = write_annotations(tmp_path / "four.json", database)
    features = write_features(tmp_path / "features", arrays)
    add_dataset(home, "four", annotations=annotations, features=features, snippet_seconds=0.5)
    return open_dataset(home, "four")


def test_table_has_one_row_per_video_of_the_subset(data):
    table = video_table(data)
    assert table["video_id"].tolist() == list("abcd")
    assert table["instances"].tolist() == [2, 1, 1, 2]
    assert table["health"].tolist() == ["usable"] * 3 + ["no features"]
    assert video_table(data, "testing")["video_id"].tolist() == ["c", "d"]


@pytest.mark.parametrize(
    "wanted,found",
    [
        (VideoFilter(), "abcd"),
        (VideoFilter(text="C"), "c"),
        (VideoFilter(text="("), ""),
        (VideoFilter(classes=["run"]), "abd"),
        (VideoFilter(classes=["run", "jump"]), "ad"),
        (VideoFilter(duration=(20.0, 24.0)), "ab"),
        (VideoFilter(duration=(None, 16.0)), "d"),
        (VideoFilter(instances=(2, None)), "ad"),
        (VideoFilter(instances=(2, None), health="usable"), "a"),
        (VideoFilter(health="no features"), "d"),
    ],
)
def test_filters(data, wanted, found):
    rows = find_videos(video_table(data), data.annotations.ground_truth, wanted)
    assert rows["video_id"].tolist() == list(found)


@pytest.mark.parametrize(
    "order,descending,found",
    [("video_id", True, "dcba"), ("duration", False, "dabc"), ("instances", True, "adbc")],
)
def test_sorted_with_ties_by_id(data, order, descending, found):
    rows = find_videos(video_table(data), data.annotations.ground_truth, VideoFilter(), order, descending)
    assert rows["video_id"].tolist() == list(found)


def test_pages_hold_every_row_once(data):
    table = video_table(data)
    assert page_count(4, 3) == 2 and page_count(0, 3) == 1 and page_count(3, 3) == 1
    pages = [page_of(table, number, 3)["video_id"].tolist() for number in (1, 2)]
    assert pages == [["a", "b", "c"], ["d"]]
    assert page_of(table, 9, 3)["video_id"].tolist() == ["d"]
    assert page_of(table, -1, 3)["video_id"].tolist() == ["a", "b", "c"]
