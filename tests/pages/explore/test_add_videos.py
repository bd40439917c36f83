"""Add data, from videos: the form, its preview, and the extraction that it starts."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tal_core.background import job_folder
from tal_core.data.dataset.entry import list_datasets
from tal_core.video.extraction import jobs
from tal_core.workspace import DEMO
from tests.pages.page_tools import button, open_page, selectbox, table, texts

ALL = "Folder of videos", "Label file", "Name of the dataset"


@pytest.fixture
def videos(tmp_path) -> Path:
    """Two short clips: links, so that nothing is copied."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("demo_004", "demo_011"):
        (folder / f"{name}.mp4").symlink_to(DEMO / "videos" / f"{name}.mp4")
    return folder


@pytest.fixture
def labels(tmp_path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("video,start,end,label\ndemo_004,1,3,bow\ndemo_011,2,4,jump\nghost,1,2,bow\n")
    return path


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Jobs are started in name only."""
    monkeypatch.setattr(job_folder, "spawn", lambda *_: SimpleNamespace(pid=os.getpid()))


def fill(app, videos, labels, name="own"):
    for label, value in zip(ALL, (videos, labels, name), strict=True):
        next(field for field in app.text_input if field.label == label).set_value(str(value))
    return app.run()


def test_preview_then_start(home, videos, labels):
    app = fill(open_page("explore", view="Add data"), videos, labels)
    assert not app.exception and not app.error
    numbers = {metric.label: metric.value for metric in app.metric}
    assert (
        numbers["Videos in the folder"] == "2"
        and numbers["With labels"] == "2"
        and numbers["Segments"] == "2"
    )
    assert "unknown videos" in table(app, "kind")["kind"].tolist()
    assert {"Stride seconds", "Snippet seconds"} <= {field.label for field in app.text_input}
    button(app, "Start extraction").click().run()
    assert not app.exception and not app.error
    job = jobs.list_jobs(home)[0]
    request = job.request()
    assert request["dataset"]["name"] == "own" and request["dataset"]["split"]["fraction"] == 0.2
    assert request["spec"]["name"] == "motion"
    assert job.name in app.query_params["job"] and button(app, "Stop")
    button(app, "Stop").click().run()
    assert job.status()["state"] == "stopping"


def test_the_extractors_own_settings_are_asked_for(home, videos, labels):
    app = fill(open_page("explore", view="Add data"), videos, labels)
    selectbox(app, "Extractor").set_value("r2plus1d_18").run()
    assert not app.exception
    names = {field.label for field in (*app.number_input, *app.selectbox, *app.text_input)}
    assert {"Frames", "Frame size", "Modality", "Flow", "Model"} <= names
    next(field for field in app.text_input if field.label == "Stride seconds").set_value("0.5")
    button(app, "Start extraction").click().run()
    assert not app.exception


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("videos", "absent", "no such folder"),
        ("labels", "absent.csv", "no such file"),
        ("name", "", "name is missing"),
        ("name", "../up", "can't be the name"),
        ("name", "demo", "already"),
    ],
)
def test_wrong_input_gets_a_box_and_starts_nothing(tmp_path, home, videos, labels, field, value, what):
    given = {"videos": videos, "labels": labels, "name": "own"}
    given[field] = value if field == "name" else tmp_path / value
    app = fill(open_page("explore", view="Add data"), **given)
    if field == "name":
        button(app, "Start extraction").click().run()
    assert not app.exception and what in app.error[0].value
    assert not jobs.list_jobs(home) and [one.name for one in list_datasets(home)] == ["demo"]


EAF = (
    '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="0"/>'
    '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="900"/></TIME_ORDER>{}</ANNOTATION_DOCUMENT>'
)
TIER = (
    '<TIER TIER_ID="{}"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">'
    "<ANNOTATION_VALUE>{}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>"
)


def test_tiers_are_chosen(home, videos, tmp_path):
    folder = tmp_path / "eaf"
    folder.mkdir()
    for name in ("demo_004", "demo_011"):
        tiers = TIER.format("act", "bow") + TIER.format("note", "dim")
        (folder / f"{name}.eaf").write_text(EAF.format(tiers))
    app = fill(open_page("explore", view="Add data"), videos, folder)
    assert not app.exception and "Classes (2): bow, dim" in texts(app)
    app.multiselect(key="new_tiers").set_value(["act"]).run()
    assert not app.exception and "Classes (1): bow" in texts(app)
