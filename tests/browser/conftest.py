"""A running app and a real headless Chromium to look at it with."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    """Mark what is here, and keep it on one worker: two browsers at once only slow each other down."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


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
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(home: Path, port: int):
    """The app as a person starts it, on a workspace of its own; yields its address."""
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    command += ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none"]
    log = (home.parent / f"streamlit-{port}.log").open("a")
    environment = {**os.environ, "TAL_HOME": str(home)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as process:
        address = f"http://localhost:{port}"
        try:
            wait_until_healthy(address, process, Path(log.name))
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)
            log.close()


def wait_until_healthy(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the app ended at once:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the app did not answer within 60 s:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """One app for a module's tests, on a fresh workspace."""
    home = tmp_path_factory.mktemp("browser") / "workspace"
    with running_app(home, free_port()) as address:
        yield address, home


@pytest.fixture
def page(browser):
    """A fresh browser window; whatever Python or JavaScript raised on the page fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    window = context.new_page()
    errors = []
    window.on("pageerror", lambda error: errors.append(str(error)))
    yield window
    exceptions = window.locator("[data-testid='stException']").all_inner_texts()
    context.close()
    assert not errors, errors
    assert not exceptions, exceptions
