"""Two runs compared in a real browser: the verdict, and from a row to the Timeline with both runs shown."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tal_core.data.dataset import open_dataset
from tal_core.training.importing_detections import keep_detections
from tal_core.training.run import open_run

PATIENCE = 60_000  # milliseconds; a busy machine is slow, not broken
SCREENSHOTS = os.environ.get("TAL_SCREENSHOTS")
PAIR = "dataset=demo&run=demo-baseline&run=cautious"


def visit(page, address: str, path: str) -> None:
    """Open a page of the app and wait until Streamlit has drawn all of it."""
    page.goto(f"{address}/{path}")
    page.wait_for_selector("h1", timeout=PATIENCE)
    settle(page)


def settle(page) -> None:
    """Wait for the end of the script's run and the last late drawing."""
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=PATIENCE,
    )
    page.wait_for_timeout(500)


def shoot(page, name: str) -> None:
    """Keep a picture for a person to look at, if one asked for it."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def pair(app):
    """The demo's run, and one that says less: its detections of three classes never came."""
    address, home = app
    data = open_dataset(home, "demo")
    detections = open_run(home, "demo-baseline").detections()
    detections = detections[~detections["label"].isin(data.labels[:3])]
    keep_detections(home, data, detections, "cautious.json", run_id="cautious")
    return address


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_runs_against_each_other(pair, new_page, scheme):
    page = new_page(color_scheme=scheme)
    visit(page, pair, f"compare?{PAIR}&comparison=Classes")
    expect(page.get_by_text("95 % interval of the difference")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("demo-baseline is better (3)")).to_be_visible(timeout=PATIENCE)
    for section in ("Videos", "Segments", "Training", "Settings and cost", "mAP"):
        page.get_by_role("radio", name=section, exact=True).click()
        settle(page)
        assert page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
        assert f"comparison={section.replace(' ', '+')}" in page.url
        shoot(page, f"compare-{section.split()[0].lower()}-{scheme}")


def test_a_row_opens_the_timeline_with_both_runs(pair, new_page):
    page = new_page()
    visit(page, pair, f"compare?{PAIR}&comparison=Segments")
    page.get_by_role("radio", name="only demo-baseline").click()
    settle(page)
    page.get_by_role("link", name="Open in Timeline").click()
    page.wait_for_selector("h1:has-text('Timeline')", timeout=PATIENCE)
    settle(page)
    query = parse_qs(urlsplit(page.url).query)
    assert query["run"] == ["demo-baseline", "cautious"] and query["dataset"] == ["demo"]
    start = float(query["at"][0].split("-")[0])
    clock = page.locator(".timeline .clock")
    expect(clock).to_contain_text(re.compile(rf"^0?0:{int(start):02d}\.|^{int(start)}\."), timeout=PATIENCE)
    for run in query["run"]:
        expect(page.get_by_text(re.compile(f"Shown:.*{run}.*score ≥"))).to_be_visible(timeout=PATIENCE)
    shoot(page, "timeline-from-compare")
