import os
import sys

import numpy as np
import pytest

from pages.explore import pooled, videos
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import list_datasets
from tal_core.data.dataset.health import health_report
from tal_core.data.exploring import video_search
from tests.pages.page_tools import button, open_page, selectbox, small_dataset, table, texts


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home, broken=True)


@pytest.mark.parametrize("view", ["Dataset", "Videos", "One video", "Snippet map", "Health", "Add data"])
def test_every_view_opens(view):
    app = open_page("explore", dataset="small", view=view)
    assert not app.exception and not app.error


def test_numbers_of_a_subset():
    app = open_page("explore", dataset="small", subset="testing")
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Videos"] == "2" and metrics["Segments"] == "4" and metrics["Classes"] == "2"


def test_videos_are_searched_and_filtered():
    app = open_page("explore", dataset="small", view="Videos")
    assert len(table(app, "video_id")) == 6
    app.text_input(key="explore_search").set_value("V5").run()
    assert table(app, "video_id")["video_id"].tolist() == ["v5"]
    app.text_input(key="explore_search").set_value("").run()
    app.selectbox(key="explore_features").set_value("broken").run()
    assert table(app, "video_id")["video_id"].tolist() == ["v5"]
    app.text_input(key="explore_search").set_value("(").run()
    assert not app.exception and "No video matches" in texts(app)


def test_videos_are_filtered_by_class_and_numbers_and_sorted():
    app = open_page("explore", dataset="small", view="Videos", subset="training", sort="video_id")
    assert len(table(app, "video_id")) == 4
    app.multiselect(key="explore_has").set_value(["jump", "run"]).run()
    app.selectbox(key="explore_order").set_value("descending").run()
    assert table(app, "video_id")["video_id"].tolist() == ["v3", "v2", "v1", "v0"]
    app.number_input(key="explore_segments_from").set_value(3.0).run()
    assert not app.exception and "No video matches" in texts(app)
    assert app.query_params["segments_from"] == "3.0" and app.query_params["has"] == ["jump", "run"]


def test_only_one_page_of_videos_is_sent(monkeypatch):
    monkeypatch.setattr(video_search, "PAGE_SIZES", (2, 4))
    app = open_page("explore", dataset="small", view="Videos", page_number="2")
    assert table(app, "video_id")["video_id"].tolist() == ["v2", "v3"]
    assert "3 to 4 below" in texts(app)
    app.selectbox(key="explore_sort").set_value("instances").run()
    assert table(app, "video_id")["video_id"].tolist() == ["v0", "v1"]
    app.selectbox(key="explore_rows").set_value("4").run()
    assert len(table(app, "video_id")) == 4


@pytest.mark.parametrize("odd", ["-1", "x", "99", "nan"])
def test_odd_links_to_pages_and_limits_still_show_videos(odd):
    app = open_page(
        "explore", dataset="small", view="Videos", page_number=odd, seconds_to=odd, sort=odd, has=odd
    )
    assert not app.exception and not app.error


def test_of_many_videos_a_search_finds_one(monkeypatch):
    monkeypatch.setattr(videos, "ALL_IN_ONE", 3)
    monkeypatch.setattr(videos, "MATCHES", 2)
    app = open_page("explore", dataset="small", view="One video", video="v3")
    assert selectbox(app, "Video").options == ["v3", "v0", "v1"]
    app.text_input(key="explore_find").set_value("V4").run()
    assert not app.exception and selectbox(app, "Video").value == "v4"
    app.text_input(key="explore_find").set_value("absent").run()
    assert not app.exception and selectbox(app, "Video").value == "v4"


def test_similar_videos_and_leaks(tmp_path, home):
    folder = tmp_path / "small-features"
    np.save(folder / "v4.npy", np.load(folder / "v1.npy"))
    app = open_page("explore", dataset="small", view="One video", video="v1")
    found = table(app, "similarity")
    assert found["video_id"].iloc[0] == "v4" and found["similarity"].iloc[0] == pytest.approx(1)
    app = open_page("explore", dataset="small", view="Health")
    assert "1 video of “testing” is also in “training”" in texts(app)
    assert table(app, "leak")["video_id"].tolist() == ["v1", "v4"]


def test_reading_everything_is_asked_for_first(monkeypatch):
    monkeypatch.setattr(pooled, "READ_UNASKED", 0)
    app = open_page("explore", dataset="small", view="Health")
    assert "every feature file is read once" in texts(app)
    button(app, "Compare all videos").click().run()
    assert not app.exception and "No two videos are that similar" in texts(app)


def test_map_without_umap_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    app = open_page("explore", dataset="small", view="Snippet map", map="umap", sample="500")
    assert not app.exception and "pip install umap-learn" in app.error[0].value


def test_a_broken_video_says_why():
    app = open_page("explore", dataset="small", view="One video", video="v5")
    assert not app.exception
    assert "NaN" in app.warning[0].value


def test_health_is_the_report_of_the_command(home):
    shown = table(open_page("explore", dataset="small", view="Health"), "advice")
    report = health_report(open_dataset(home, "small"))
    assert shown["detail"].tolist() == report["detail"].tolist()


def test_features_that_vanish_under_the_page_get_a_box(tmp_path):
    app = open_page("explore", dataset="small", view="One video", video="v1")
    (tmp_path / "small-features" / "v1.npy").unlink()
    app.run()
    assert not app.exception
    assert app.error or app.warning


def test_register_a_dataset(tmp_path, home):
    app = open_page("explore", view="Add data", make="From features or another dataset")
    app.text_input(key="add_name").set_value("mine")
    app.text_input(key="add_annotations").set_value(str(tmp_path / "small.json"))
    app.text_area(key="add_features").set_value(str(tmp_path / "small-features"))
    # Six videos of 20 x 4 could be either way round.
    app.selectbox(key="add_layout").set_value("TD")
    button(app, "Register").click().run()
    assert not app.exception and not app.error
    assert "mine" in [entry.name for entry in list_datasets(home)]
    assert "**mine** is ready" in texts(app)


def test_register_a_benchmark_without_its_blocked_videos(tmp_path, home):
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("v4\n")
    app = open_page("explore", view="Add data", make="From features or another dataset")
    app.selectbox(key="add_benchmark").set_value("activitynet").run()
    selectbox(app, "Features").set_value("tsn-100").run()
    assert "spread over each video" in texts(app) and "opts.py" in texts(app)
    app.text_input(key="add_name").set_value("anet")
    app.text_input(key="add_annotations").set_value(str(tmp_path / "small.json"))
    app.text_area(key="add_features").set_value(str(tmp_path / "small-features"))
    app.selectbox(key="add_layout").set_value("TD")
    next(field for field in app.text_input if field.label.startswith("Blocked")).set_value(str(blocked))
    button(app, "Register").click().run()
    assert not app.exception and not app.error
    assert "bmn: activitynet, bsn: activitynet" in texts(app)
    data = open_dataset(home, "anet")
    assert data.entry.timing == "stretched" and data.tiou[0] == 0.5 and len(data.tiou) == 10
    assert "v4" not in data.index["video_id"].tolist()


@pytest.mark.parametrize(
    "name,annotations,features,complaint",
    [
        ("", "small.json", "small-features", "name is missing"),
        ("../up", "small.json", "small-features", "can't be the name"),
        ("small", "small.json", "small-features", "already"),
        ("mine", "absent.json", "small-features", "absent.json"),
        ("mine", "small.json", "absent", "absent"),
    ],
)
def test_wrong_registrations_get_a_box_and_leave_nothing(
    tmp_path, home, name, annotations, features, complaint
):
    before = [entry.name for entry in list_datasets(home)]
    app = open_page("explore", view="Add data", make="From features or another dataset")
    app.text_input(key="add_name").set_value(name)
    app.text_input(key="add_annotations").set_value(str(tmp_path / annotations))
    app.text_area(key="add_features").set_value(str(tmp_path / features))
    button(app, "Register").click().run()
    assert not app.exception
    assert complaint in app.error[0].value
    assert [entry.name for entry in list_datasets(home)] == before


def test_make_a_smaller_dataset(home):
    app = open_page("explore", view="Add data", make="From features or another dataset", dataset="small")
    app.text_input(key="small_name").set_value("tiny")
    app.number_input(key="small_videos").set_value(2)
    button(app, "Make the dataset").click().run()
    assert not app.exception and not app.error
    assert len(open_dataset(home, "tiny").videos()) == 2


def test_a_smaller_dataset_needs_to_be_smaller():
    app = open_page("explore", view="Add data", make="From features or another dataset", dataset="small")
    app.text_input(key="small_name").set_value("tiny")
    button(app, "Make the dataset").click().run()
    assert "same dataset" in app.error[0].value


def test_other_dataset_forgets_the_video(tmp_path, home):
    small_dataset(tmp_path / "two", home, name="other")
    app = open_page("explore", dataset="small", view="One video", video="v3")
    selectbox(app, "Dataset").set_value("other").run()
    assert not app.warning
    assert app.query_params["video"] == "v0"


def test_check_again_sees_a_file_broken_in_place(tmp_path):
    app = open_page("explore", dataset="small", view="Health")
    path = tmp_path / "small-features" / "v1.npy"
    before = path.parent.stat()
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(np.float32(np.nan).tobytes())
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    button(app, "Check again").click().run()
    assert not app.exception and not app.error
    assert "6 videos (4 usable, 0 without features, 2 broken)" in texts(app)
