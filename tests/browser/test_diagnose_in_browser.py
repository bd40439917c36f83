"""From a bar of a figure to its segments on the Timeline, in a real browser."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

PATIENCE = 60_000  # milliseconds; a busy machine is slow, not broken
SCREENSHOTS = os.environ.get("TAL_SCREENSHOTS")


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
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def click_middle(page, mark) -> None:
    """Click on a bar or cell; Plotly takes clicks on a layer above it."""
    mark.wait_for(state="attached", timeout=PATIENCE)
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def tallest(marks) -> int:
    """Which of some bars is easiest to hit."""
    areas = marks.evaluate_all(
        "marks => marks.map(m => { const b = m.getBoundingClientRect(); return b.width * b.height; })"
    )
    return areas.index(max(areas))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_bar_of_the_profile_opens_the_timeline_on_its_segments(app, new_page, scheme):
    address, _ = app
    page = new_page(color_scheme=scheme)
    visit(page, address, "diagnose?dataset=demo&run=demo-baseline&section=False+positives")
    wrong = page.locator(".trace.bars:not(:first-child) .point path")  # the first are true positives
    wrong.first.wait_for(state="attached", timeout=PATIENCE)
    click_middle(page, wrong.nth(tallest(wrong)))
    link = page.get_by_role("link", name="Open in Timeline")
    expect(link).to_be_visible(timeout=PATIENCE)
    settle(page)
    shoot(page, f"diagnose-clicked-{scheme}")

    target = re.search(r"video=([^&]+).*at=([\d.]+)-([\d.]+)", link.get_attribute("href"))
    video, start = target[1], float(target[2])
    link.click()
    page.wait_for_selector("h1:has-text('Timeline')", timeout=PATIENCE)
    settle(page)
    assert "run=demo-baseline" in page.url and f"video={video}" in page.url
    shown = page.locator("input").evaluate_all("inputs => inputs.map(input => input.value)")
    assert any(value.startswith(video) for value in shown), shown
    clock = page.locator(".timeline .clock")
    expect(clock).to_contain_text(re.compile(rf"^0?0:{int(start):02d}\.|^{int(start)}\."), timeout=PATIENCE)
    shoot(page, f"timeline-from-diagnose-{scheme}")


def test_a_cell_of_a_heat_map_lists_its_segments(app, new_page):
    address, _ = app
    page = new_page(viewport={"width": 1440, "height": 1600})
    visit(page, address, "diagnose?dataset=demo&run=demo-baseline&section=Classes")
    cells = page.locator(".scatterlayer .point")
    click_middle(page, cells.first)
    # The chart's tooltip says the same words.
    chosen = page.locator("strong").filter(has_text=re.compile("annotated .*, detected "))
    expect(chosen).to_be_visible(timeout=PATIENCE)


def test_every_section_opens(app, new_page):
    address, _ = app
    page = new_page(viewport={"width": 1440, "height": 1400})
    visit(page, address, "diagnose?dataset=demo&run=demo-baseline")
    for section in ("Sensitivity", "Missed", "Boundaries", "Scores", "Classes", "Videos", "What to mend"):
        page.get_by_role("radio", name=section).or_(page.get_by_role("button", name=section)).first.click()
        expect(page).to_have_url(
            re.compile("section=" + re.escape(section.replace(" ", "+"))), timeout=PATIENCE
        )
        settle(page)
        assert page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0, (
            section
        )
        shoot(page, f"diagnose-{section.replace(' ', '-').lower()}")
