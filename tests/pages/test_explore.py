import os

import numpy as np
import pytest
from page_tools import button, open_page, selectbox, small_dataset, table, texts

from tal_core.data.dataset import open_dataset
from tal_core.data.health import health_report
from tal_core.data.registry import list_datasets


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
    app.selectbox(key="explore_usable").set_value("not usable").run()
    assert table(app, "video_id")["video_id"].tolist() == ["v5"]
    app.text_input(key="explore_search").set_value("(").run()
    assert not app.exception and table(app, "video_id").empty


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
    app = open_page("explore", view="Add data")
    app.text_input(key="add_name").set_value("mine")
    app.text_input(key="add_annotations").set_value(str(tmp_path / "small.json"))
    app.text_area(key="add_features").set_value(str(tmp_path / "small-features"))
    # Six videos of 20 x 4 could be either way round.
    app.selectbox(key="add_layout").set_value("TD: (time, channels)")
    button(app, "Register").click().run()
    assert not app.exception and not app.error
    assert "mine" in [entry.name for entry in list_datasets(home)]
    assert "**mine** is ready" in texts(app)


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
    app = open_page("explore", view="Add data")
    app.text_input(key="add_name").set_value(name)
    app.text_input(key="add_annotations").set_value(str(tmp_path / annotations))
    app.text_area(key="add_features").set_value(str(tmp_path / features))
    button(app, "Register").click().run()
    assert not app.exception
    assert complaint in app.error[0].value
    assert [entry.name for entry in list_datasets(home)] == before


def test_make_a_smaller_dataset(home):
    app = open_page("explore", view="Add data", dataset="small")
    app.text_input(key="small_name").set_value("tiny")
    app.number_input(key="small_videos").set_value(2)
    button(app, "Make it").click().run()
    assert not app.exception and not app.error
    assert len(open_dataset(home, "tiny").videos()) == 2


def test_a_smaller_dataset_needs_to_be_smaller():
    app = open_page("explore", view="Add data", dataset="small")
    app.text_input(key="small_name").set_value("tiny")
    button(app, "Make it").click().run()
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
