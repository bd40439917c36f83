"""Two runs compared in a real browser: the verdict, and from a row to the Timeline with both runs shown."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tal_core.data.dataset.dataset import open_dataset
from tal_core.importing.run_of_detections import keep_detections
from tal_core.runs.run import open_run
from tests.browser.browsing import no_errors, settle, shoot, visit

PAIR = "dataset=demo&run=demo-baseline&run=cautious"


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
    expect(page.get_by_text("95 % interval of the difference")).to_be_visible()
    expect(page.get_by_text("demo-baseline is better (3)")).to_be_visible()
    for section in ("Videos", "Segments", "Training", "Settings and cost", "mAP"):
        page.get_by_role("radio", name=section, exact=True).click()
        expect(page).to_have_url(re.compile(f"comparison={re.escape(section.replace(' ', '+'))}"))
        settle(page)
        no_errors(page, section)
        shoot(page, f"compare-{section.split()[0].lower()}-{scheme}", full_page=True)


def test_a_row_opens_the_timeline_with_both_runs(pair, new_page):
    page = new_page()
    visit(page, pair, f"compare?{PAIR}&comparison=Segments")
    page.get_by_role("radio", name="only demo-baseline").click()
    settle(page)
    page.get_by_role("link", name="Open in Timeline").click()
    page.wait_for_selector("h1:has-text('Timeline')")
    settle(page)
    query = parse_qs(urlsplit(page.url).query)
    assert query["run"] == ["demo-baseline", "cautious"] and query["dataset"] == ["demo"]
    start = float(query["at"][0].split("-")[0])
    clock = page.locator(".timeline .clock")
    expect(clock).to_contain_text(re.compile(rf"^0?0:{int(start):02d}\.|^{int(start)}\."))
    for run in query["run"]:
        expect(page.get_by_text(re.compile(f"Shown:.*{run}.*score ≥"))).to_be_visible()
    shoot(page, "timeline-from-compare", full_page=True)
