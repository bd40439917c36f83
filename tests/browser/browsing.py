"""What the tests do in a browser: open a page, wait until it is quiet, click on figures, keep pictures."""

import os
import time
from pathlib import Path

PATIENCE = 180_000
"""Milliseconds; a busy machine is slow, not broken. Every action and every ``expect`` waits so long."""
SCREENSHOTS = os.environ.get("TAL_SCREENSHOTS")

_QUIET = """() => {
    const running = document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'notRunning';
    const places = [...document.querySelectorAll('[data-testid=stSkeleton]')];
    const waiting = places.some(place => place.offsetParent);
    if (running || waiting) { window.quietSince = null; return false; }
    window.quietSince ??= performance.now();
    return performance.now() - window.quietSince > 500;
}"""


def visit(page, address: str, path: str) -> None:
    """Open a page of the app and wait until Streamlit has drawn all of it."""
    page.goto(f"{address}/{path}")
    page.wait_for_selector("h1")
    settle(page)


def settle(page) -> None:
    """Wait until for half a second no script ran (a rerun begins late) and nothing in sight was missing."""
    page.evaluate("window.quietSince = null")
    page.wait_for_function(_QUIET)


def click_middle(page, mark) -> None:
    """Click on a bar or cell once it stands still; Plotly takes clicks on a layer above it."""
    mark.wait_for(state="attached")
    mark.scroll_into_view_if_needed()
    deadline, before, box = time.monotonic() + PATIENCE / 1000, None, mark.bounding_box()
    while box != before or not box:
        assert time.monotonic() < deadline, "the figure never stood still"
        page.wait_for_timeout(250)
        before, box = box, mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def shown_inputs(page, start: str) -> None:
    """Wait until some input shows a value that begins so."""
    page.wait_for_function(
        "start => [...document.querySelectorAll('input')].some(input => input.value.startsWith(start))",
        arg=start,
    )


def no_errors(page, where: str = "") -> None:
    """Neither an exception nor an error box is on the page."""
    found = page.locator("[data-testid=stException], [data-testid=stAlertContentError]")
    assert found.count() == 0, f"{where}: {found.first.inner_text()}"


def shoot(page, name: str, *, full_page: bool = False) -> None:
    """Keep a picture for a person to look at, if one asked for it."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=full_page)
