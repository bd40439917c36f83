import pytest
from streamlit.testing.v1 import AppTest

from pages.common import readable
from tests.pages.page_tools import open_page, small_dataset, small_run, texts

PAGES = ["overview", "explore", "train", "timeline", "evaluate"]


@pytest.mark.parametrize("page", [*PAGES, "live"])
def test_every_page_opens_on_a_fresh_workspace(page):
    app = open_page(page)
    assert not app.exception
    assert not app.error
    assert app.title[0].value


@pytest.mark.parametrize("page", PAGES[1:])
def test_an_unwritable_workspace_gets_a_box(page, tmp_path, monkeypatch):
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("TAL_HOME", str(blocked))
    app = open_page(page)
    assert not app.exception
    assert "TAL_HOME" in app.error[0].value


def test_a_link_to_what_is_gone_warns_and_shows_something_else(tmp_path, home):
    small_dataset(tmp_path, home)
    app = open_page("explore", dataset="gone")
    assert not app.exception
    assert "`gone`" in app.warning[0].value
    assert app.query_params["dataset"] != "gone"


def test_a_link_that_names_only_a_run_opens_its_dataset(tmp_path, home):
    small_dataset(tmp_path, home)
    small_run(home, "stopped")
    app = open_page("explore", run="first")
    assert app.query_params["dataset"] == "small"


def test_the_choice_of_dataset_goes_along_to_the_next_page(tmp_path, home):
    small_dataset(tmp_path, home)
    app = open_page("explore", dataset="small")
    app.query_params.clear()
    app.switch_page("pages/train/page.py").run()
    assert app.query_params["dataset"] == "small"


def test_error_box_says_what_where_and_how_to_mend():
    def page():
        from pages.common.notices import guard  # the page runs as a script of its own
        from tal_core.types import InputError

        with guard():
            raise InputError("is empty", where="a.json", hint="Write something.")

    box = AppTest.from_function(page).run().error[0].value
    assert "is empty" in box and "`a.json`" in box and "Write something." in box


@pytest.mark.parametrize(
    "tiou,text",
    [
        ([0.5], "tIoU 0.5"),
        ([0.3, 0.4, 0.5, 0.6, 0.7], "tIoU 0.3:0.1:0.7"),
        ([0.5, 0.75, 0.95], "tIoU 0.5, 0.75, 0.95"),
    ],
)
def test_tiou_in_words(tiou, text):
    assert readable.tiou_text(tiou) == text


def test_numbers_in_words():
    assert readable.percent(0.5531) == "55.3 %" and readable.percent(None) == "–"
    assert readable.seconds_text(4.21) == "4.2 s" and readable.seconds_text(192) == "3 min 12 s"
    assert readable.seconds_text(7500) == "2 h 5 min" and readable.seconds_text(None) == "–"
    assert readable.number(19228) == "19\u202f228"


def test_texts_name_the_subset(tmp_path, home):
    small_dataset(tmp_path, home)
    assert "“testing”" in texts(open_page("train", dataset="small"))
