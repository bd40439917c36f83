"""A running app and a real headless Chromium to look at it with."""

import os
import shutil

import pytest

from tests.browser.app_server import free_port, running_app
from tests.browser.browsing import PATIENCE

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser():
    path = chromium_path()
    if path is None:
        reason = "no Chromium on this machine (Debian: apt-get install chromium)"
        if os.environ.get("TAL_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """One app for a module's tests, on a fresh workspace."""
    home = tmp_path_factory.mktemp("browser") / "workspace"
    with running_app(home, free_port()) as address:
        yield address, home


@pytest.fixture
def new_page(browser):
    """Opens fresh browser windows; whatever their JavaScript raised fails the test."""
    errors = []

    def open_window(**options):
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
        context.set_default_timeout(PATIENCE)
        window = context.new_page()
        window.on("pageerror", lambda error: errors.append(str(error)))
        return window

    yield open_window
    for context in browser.contexts:
        context.close()
    assert not errors
