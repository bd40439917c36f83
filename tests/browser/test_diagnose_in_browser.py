"""From a bar of a figure to its segments on the Timeline, in a real browser."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.browsing import click_middle, no_errors, settle, shoot, shown_inputs, visit


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
    wrong.first.wait_for(state="attached")
    click_middle(page, wrong.nth(tallest(wrong)))
    link = page.get_by_role("link", name="Open in Timeline")
    expect(link).to_be_visible()
    settle(page)
    shoot(page, f"diagnose-clicked-{scheme}")

    target = re.search(r"video=([^&]+).*at=([\d.]+)-([\d.]+)", link.get_attribute("href"))
    video, start = target[1], float(target[2])
    link.click()
    page.wait_for_selector("h1:has-text('Timeline')")
    settle(page)
    expect(page).to_have_url(re.compile("run=demo-baseline"))
    expect(page).to_have_url(re.compile(f"video={video}"))
    shown_inputs(page, video)
    clock = page.locator(".timeline .clock")
    expect(clock).to_contain_text(re.compile(rf"^0?0:{int(start):02d}\.|^{int(start)}\."))
    shoot(page, f"timeline-from-diagnose-{scheme}")


def test_a_cell_of_a_heat_map_lists_its_segments(app, new_page):
    address, _ = app
    page = new_page(viewport={"width": 1440, "height": 1600})
    visit(page, address, "diagnose?dataset=demo&run=demo-baseline&section=Classes")
    cells = page.locator(".scatterlayer .point")
    click_middle(page, cells.first)
    # The chart's tooltip says the same words.
    chosen = page.locator("strong").filter(has_text=re.compile("annotated .*, detected "))
    expect(chosen).to_be_visible()


def test_every_section_opens(app, new_page):
    address, _ = app
    page = new_page(viewport={"width": 1440, "height": 1400})
    visit(page, address, "diagnose?dataset=demo&run=demo-baseline")
    for section in ("Sensitivity", "Missed", "Boundaries", "Scores", "Classes", "Videos", "What to fix"):
        page.get_by_role("radio", name=section).or_(page.get_by_role("button", name=section)).first.click()
        expect(page).to_have_url(
            re.compile("section=" + re.escape(section.replace("fix", "mend").replace(" ", "+")))
        )
        settle(page)
        no_errors(page, section)
        shoot(page, f"diagnose-{section.replace(' ', '-').lower()}")
