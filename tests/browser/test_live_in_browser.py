"""A stream in a real browser: scores move, segments close, it outlives the page, Stop ends all of it."""

import json
import re
from pathlib import Path

import av
import psutil
import pytest
from playwright.sync_api import expect

from tal_core.streaming.live.folder import list_streams
from tal_core.workspace import DEMO
from tests.browser.browsing import settle, shoot, visit
from tests.browser.test_studio import wait_for

LOOPS = 12


def long_video(path) -> None:
    """A demo video over and over, nine minutes, so that a slow machine doesn't see its end."""
    with av.open(str(DEMO / "videos" / "demo_001.mp4")) as source, av.open(str(path), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        packets = [packet for packet in source.demux(video) if packet.dts is not None]
        length = max(packet.pts + packet.duration for packet in packets)
        times = [(packet.pts, packet.dts) for packet in packets]
        for loop in range(LOOPS):
            for packet, (pts, dts) in zip(packets, times, strict=True):
                packet.pts, packet.dts, packet.stream = pts + loop * length, dts + loop * length, copy
                target.mux(packet)


@pytest.fixture
def ends_streams(app):
    """Whatever a failed test leaves running is ended."""
    yield
    for stream in list_streams(app[1]):
        status = stream.status()
        if stream.active and psutil.pid_exists(status["pid"]):
            psutil.Process(status["pid"]).kill()


def test_a_stream_from_start_to_stop(app, new_page, ends_streams):
    address, home = app
    home.mkdir(parents=True, exist_ok=True)
    long_video(home / "long.mp4")

    page = new_page()
    visit(page, address, "live")
    shoot(page, "live-new")
    page.get_by_role("radio", name="Address").click()
    field = page.get_by_role("textbox", name="Address", exact=True)
    field.fill(str(home / "long.mp4"))
    field.press("Enter")
    page.get_by_role("button", name="Start", exact=True).click()

    expect(page.get_by_text("running").first).to_be_visible()
    chart = page.get_by_test_id("stVegaLiteChart").first
    expect(chart).to_be_visible()
    early = chart.screenshot()
    wait_for(lambda: chart.screenshot() != early, "a move of the scores")
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    (stream,) = list_streams(home)
    assert any(record["kind"] == "end" for record in stream.records())
    picture = page.get_by_test_id("stImage").locator("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    shoot(page, "live")
    assert f"stream={stream.name}" in page.url

    process = psutil.Process(stream.status()["pid"])
    link = page.url
    page.context.close()
    seen = stream.status()["stats"]["seconds"]
    wait_for(lambda: stream.status()["stats"]["seconds"] > seen + 1, "streaming without a browser")

    first, second = new_page(color_scheme="dark"), new_page()
    for window in (first, second):
        window.goto(link)
        expect(window.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    shoot(first, "live-dark")
    first.get_by_role("button", name="Stop", exact=True).click()
    for window in (first, second):  # who only watches sees it, too
        expect(window.get_by_text("Stopped by hand")).to_be_visible()
    wait_for(lambda: not process.is_running(), "the end of the stopped process")
    assert stream.status()["state"] == "stopped"

    settle(first)  # a file asked for while the page is drawn anew never comes
    first.get_by_role("button", name="Events").click()
    with first.expect_download() as download:
        first.get_by_role("button", name="JSONL").click()
    lines = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert lines[0]["kind"] == "stream" and lines[-1]["kind"] == "over"
    first.keyboard.press("Escape")
    first.get_by_role("radio", name="All streams").click()
    expect(first.get_by_text(re.compile("Newest first"))).to_be_visible()
    settle(first)
    shoot(first, "live-all-dark")
