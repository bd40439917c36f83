"""What a newcomer does, in a real browser: look around, train, come back later, read the result."""

import json
import re
import shutil
import time
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.workspace import DEMO
from tests.browser.app_server import free_port, running_app
from tests.browser.browsing import PATIENCE, no_errors, settle, shoot, shown_inputs, visit

PAGES = ["", "explore", "train", "timeline", "evaluate"]
RUN = "from-the-browser"


def status_of(home: Path) -> dict:
    return json.loads((home / "runs" / RUN / "status.json").read_text())


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE / 1000:g} s"
        time.sleep(0.1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_on_a_fresh_workspace(app, new_page, scheme):
    address, _ = app
    page = new_page(color_scheme=scheme)
    for path in PAGES:
        visit(page, address, path)
        assert page.locator("h1").inner_text().lower() == (path or "overview")
        no_errors(page, path)
        background = page.evaluate(
            "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        brightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
        assert (brightness > 128) == (scheme == "light"), background
        shoot(page, f"{path or 'overview'}-{scheme}")


@pytest.fixture
def restartable(tmp_path):
    """A workspace and a port for an app that is stopped and started again; ends a training left behind."""
    home = tmp_path / "workspace"
    yield home, free_port()
    status = status_of(home) if (home / "runs" / RUN).exists() else {}
    if status.get("state") in ("running", "stopping") and psutil.pid_exists(status["pid"]):
        psutil.Process(status["pid"]).kill()


def start_training(page, address: str, epochs: int) -> None:
    """Fill in the form and press the button."""
    visit(page, address, "train?dataset=demo")
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill(str(epochs))
    page.get_by_role("textbox", name="Name of the run (optional)").fill(RUN)
    page.get_by_role("button", name="Start training").click()


def epoch_of(home: Path) -> int:
    return status_of(home)["epoch"]


def test_a_training_outlives_browser_and_app(restartable, new_page):
    home, port = restartable
    with running_app(home, port) as address:
        page = new_page()
        start_training(page, address, epochs=1000)
        chart = page.get_by_test_id("stVegaLiteChart").first
        expect(chart).to_be_visible()
        early = chart.screenshot()
        wait_for(lambda: chart.screenshot() != early, "a move of the loss plot")
        shoot(page, "train-live")
        process = status_of(home)["pid"]
        page.context.close()
        seen = status_of(home)["step"]
        wait_for(lambda: status_of(home)["step"] > seen, "training without a browser")

    assert psutil.pid_exists(process)
    seen = status_of(home)["step"]
    wait_for(lambda: status_of(home)["step"] > seen, "training without the app")

    with running_app(home, port) as address:
        page = new_page()
        page.goto(f"{address}/train?run={RUN}")  # it is redrawn again and again, so it never settles
        wait_for(lambda: epoch_of(home) > 0, "the end of the first epoch")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        stopped = status_of(home)
        assert stopped["state"] == "stopped"
        wait_for(lambda: not psutil.pid_exists(process), "the end of the stopped process")
        shoot(page, "train-stopped")

        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        wait_for(lambda: epoch_of(home) > stopped["epoch"], "an epoch after the resumption")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()

    lines = [json.loads(line) for line in (home / "runs" / RUN / "metrics.jsonl").read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if line["kind"] == "epoch"]
    assert len(epochs) >= stopped["epoch"]
    assert epochs == list(range(1, len(epochs) + 1))


def test_from_the_start_button_to_the_map(restartable, new_page):
    home, port = restartable
    with running_app(home, port) as address:
        page = new_page()
        start_training(page, address, epochs=2)
        page.get_by_role("link", name="Evaluate").last.wait_for()
        expect(page.get_by_role("link", name="See its mistakes on the timeline")).to_be_visible()
        settle(page)
        shoot(page, "train-finished")
        page.get_by_role("link", name="Evaluate").last.click()
        page.wait_for_selector("h1:has-text('Evaluate')")
        settle(page)
        expect(page).to_have_url(re.compile(f"run={RUN}"))
        shoot(page, "evaluate-new-run")

        numbers = json.loads((home / "runs" / RUN / "evaluation.json").read_text())
        page.get_by_role("tab", name="Counts and downloads").click()
        settle(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download all as JSON").click()
        assert json.loads(Path(download.value.path()).read_text())[RUN] == numbers


def test_a_shared_link_shows_its_view_and_a_click_seeks(app, new_page):
    address, _ = app
    video_id = next(path.stem for path in sorted((DEMO / "videos").glob("*.mp4")))
    page = new_page()
    visit(page, address, f"timeline?dataset=demo&run=demo-baseline&video={video_id}&tiou=0.7")
    shown_inputs(page, video_id)
    video = page.locator("video").first
    video.wait_for()
    timeline = page.locator("canvas[role=application]")
    box = timeline.bounding_box()
    timeline.click(position={"x": box["width"] / 2, "y": 8})
    page.wait_for_function("document.querySelector('video').currentTime > 5")
    sought = video.evaluate("element => element.currentTime")
    assert sought == pytest.approx(video.evaluate("element => element.duration") / 2, rel=0.1)
    timeline.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('video').currentTime > {sought} + 0.5")
    settle(page)
    shoot(page, "timeline-link")
    assert f"video={video_id}" in page.url
    assert "tiou=0.7" in page.url


def test_a_run_deleted_under_a_live_page_is_named(app, new_page):
    address, home = app
    run = create_run(home, "demo", "baseline", build_config("baseline"), "short-lived")
    page = new_page()
    visit(page, address, f"train?run={run.run_id}")
    expect(page.get_by_text("Not started yet.")).to_be_visible()
    shutil.rmtree(run.folder)
    expect(page.get_by_test_id("stAlert").first).to_contain_text("short-lived")
    assert page.get_by_test_id("stException").count() == 0
