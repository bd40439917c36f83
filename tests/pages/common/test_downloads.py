"""Whatever a page shows can be saved."""

import pytest

from tests.pages.page_tools import finish, open_page, small_dataset, small_run

TABLE, FIGURE = ("csv", "tex"), ("html",)
BOTH = TABLE + FIGURE


@pytest.fixture(autouse=True)
def runs(tmp_path, home):
    small_dataset(tmp_path, home)
    for name in ("first", "second"):
        finish(small_run(home, "finished", name))


def files(app) -> set[str]:
    """What the download buttons of the page save."""
    assert not app.exception and not app.error
    return {button.proto.id.split("file:")[-1] for button in app.get("download_button")}


PAGES = {
    "evaluate": (
        {"run": "first"},
        {
            "small-mAP": BOTH,
            "small-AP": BOTH,
            "small-precision-recall": FIGURE,
            "small-AR-AN": BOTH,
            "small-frames": TABLE,
            "small-counts": TABLE,
            "small-first-detections": ("json", "csv"),
            "first-report": FIGURE,
        },
    ),
    "diagnose": (
        {"run": "first", "section": "False positives"},
        {"diagnosis-Outcomes-of-detections-by-rank": FIGURE},
    ),
    "compare": (
        {"run": ["first", "second"]},
        {"small-runs": TABLE, "first-second-mAP": BOTH, "first-second-report": FIGURE},
    ),
    "explore": ({"view": "Dataset"}, {"Coverage": FIGURE, "small-classes": TABLE}),
    "timeline": (
        {"run": "first", "video": "v4"},
        {"v4-timeline": TABLE, "v4-first": ("vtt", "srt", "json", "csv")},
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_every_table_and_figure_has_its_files(page):
    query, expected = PAGES[page]
    found = files(open_page(page, dataset="small", **query))
    wanted = {f"{name}.{ending}" for name, endings in expected.items() for ending in endings}
    assert wanted <= found, (wanted - found, found)


def test_a_report_is_of_one_run_or_two(home):
    finish(small_run(home, "finished", "third"))
    app = open_page("evaluate", dataset="small", run=["first", "second", "third"])
    assert not [file for file in files(app) if "report" in file]
    assert any("choose fewer" in caption.value for caption in app.caption)


def test_the_camera_saves_what_was_chosen_for_all_figures():
    app = open_page("evaluate", dataset="small", run="first")
    assert all('"format": "svg"' in chart.proto.config for chart in app.get("plotly_chart"))
    app.segmented_control(key="figure_image:small-mAP").set_value("png").run()
    assert not app.exception
    charts = app.get("plotly_chart")
    assert charts and all('"format": "png"' in chart.proto.config for chart in charts)
    assert app.segmented_control(key="figure_image:small-AP").value == "png"
