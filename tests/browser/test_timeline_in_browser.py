"""The timeline in a real browser: the player it steers, its keys, thousands of segments, and annotating."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tal_core.data.dataset import open_dataset

PATIENCE = 60_000  # milliseconds; a busy machine is slow, not broken
SCREENSHOTS = os.environ.get("TAL_SCREENSHOTS")
VIDEO = "demo_047"
PAD, RULER, TRUTH_ROW = (
    10,
    8,
    57,
)  # px: left of the axis; heights of a click on the ruler and on the first row


def shoot(page, name: str) -> None:
    """Keep a picture for a person to look at, if one asked for it."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def settle(page) -> None:
    """Wait for the end of the script's run."""
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=PATIENCE,
    )


class OnPage:
    """The timeline of an open page, addressed in seconds of its video, as long as all of it is in view."""

    def __init__(self, page, address: str, duration: float, **query: str):
        self.page, self.duration = page, duration
        page.goto(f"{address}/timeline?" + "&".join(f"{key}={value}" for key, value in query.items()))
        self.canvas = page.locator("canvas[role=application]")
        self.canvas.wait_for(timeout=PATIENCE)
        settle(page)

    def x(self, seconds: float) -> float:
        return PAD + seconds / self.duration * (self.canvas.bounding_box()["width"] - 2 * PAD)

    def click(self, seconds: float, y: float = RULER) -> None:
        self.canvas.click(position={"x": self.x(seconds), "y": y})

    def drag(self, start: float, end: float, y: float = RULER, until=None) -> None:
        """Press at one time, move in steps to another, release; ``until`` is checked while it is pressed."""
        self.canvas.scroll_into_view_if_needed()
        box, mouse = self.canvas.bounding_box(), self.page.mouse
        mouse.move(box["x"] + self.x(start), box["y"] + y)
        mouse.down()
        for share in (0.3, 0.6, 1.0):
            mouse.move(box["x"] + self.x(start + share * (end - start)), box["y"] + y)
        if until:
            until()
        mouse.up()

    @property
    def time(self) -> float:
        """Seconds of the clock above the rows."""
        text = self.page.locator(".clock").inner_text().split(" / ")[0].removesuffix(" s")
        minutes, _, seconds = text.rpartition(":")
        return (60 * int(minutes) if minutes else 0) + float(seconds)

    def wait_for_time(self, seconds: float, within: float = 0.15) -> None:
        """Until clock and playhead are at a time; with a player until that is there, too."""
        self.page.wait_for_function(
            """([wanted, within]) => {
                for (const host of document.querySelectorAll('*')) {
                    const clock = host.shadowRoot?.querySelector('.clock');
                    if (!clock) continue;
                    const text = clock.textContent.split(' /')[0].replace(' s', '');
                    const [seconds, minutes = 0] = text.split(':').reverse();
                    const video = document.querySelector('video');
                    const there = (time) => Math.abs(time - wanted) <= within;
                    return there(60 * minutes + +seconds) && (!video || there(video.currentTime));
                }
            }""",
            arg=[seconds, within],
            timeout=PATIENCE,
        )


@pytest.fixture
def demo(app, new_page):
    """A demo video with its player ready, all of it in view."""
    page = new_page()
    timeline = OnPage(page, app[0], 42.8, dataset="demo", run="demo-baseline", video=VIDEO)
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 1", timeout=PATIENCE)
    page.wait_for_timeout(300)  # st.video may rewind once more
    return timeline


def test_click_and_drag_seek_and_the_playhead_follows(demo):
    demo.click(20.0)
    demo.wait_for_time(20.0)
    demo.drag(20.0, 8.0, until=lambda: demo.wait_for_time(8.0))
    demo.drag(8.0, 30.0, y=150, until=lambda: demo.wait_for_time(30.0))  # on the score curves
    playhead = demo.page.locator(".playhead")
    before = playhead.bounding_box()["x"]
    demo.canvas.press(" ")
    demo.page.wait_for_function("() => document.querySelector('video').currentTime > 30.8", timeout=PATIENCE)
    demo.page.get_by_role("button", name="Pause").click()
    expect(demo.page.get_by_role("button", name="Play", exact=True)).to_be_visible(timeout=PATIENCE)
    time = demo.page.evaluate("document.querySelector('video').currentTime")
    demo.wait_for_time(time)
    moved = playhead.bounding_box()["x"] - before
    assert moved == pytest.approx(demo.x(time) - demo.x(30.0), abs=4)


def test_keys_step_through_time_segments_and_mistakes(demo):
    page, canvas = demo.page, demo.canvas
    canvas.press("Home")
    demo.wait_for_time(0.0)
    canvas.press("ArrowRight")
    demo.wait_for_time(1.0, 0.02)
    canvas.press("Shift+ArrowRight")
    demo.wait_for_time(1.08, 0.02)  # the demo has 12.5 frames a second
    truth = (
        open_dataset(Path(os.environ["TAL_HOME"]), "demo").ground_truth(videos=[VIDEO]).sort_values("start")
    )
    for start in truth["start"].iloc[:2]:
        canvas.press("n")
        demo.wait_for_time(start, 0.02)
    canvas.press("p")
    demo.wait_for_time(truth["start"].iloc[0], 0.02)
    expect(page.locator(".spoken")).to_contain_text(f"Ground truth: {truth['label'].iloc[0]} (true positive")
    canvas.press("Escape")
    canvas.press("m")
    page.wait_for_function("() => document.querySelector('video').currentTime > 6", timeout=PATIENCE)
    expect(page.locator(".spoken")).to_contain_text("(background)")
    first = demo.time
    canvas.press("m")
    page.wait_for_function(
        f"() => document.querySelector('video').currentTime > {first} + 1", timeout=PATIENCE
    )
    canvas.press("Shift+M")
    demo.wait_for_time(first)
    canvas.press("End")
    demo.wait_for_time(demo.duration, 0.3)
    canvas.press("+")
    expect(page.locator(".scroll")).to_have_class("scroll")
    canvas.press("0")
    expect(page.locator(".scroll")).to_have_class("scroll idle")
    canvas.press("?")
    expect(page.locator(".help")).to_be_visible()
    canvas.hover(position={"x": demo.x(truth["start"].iloc[0] + 0.3), "y": TRUTH_ROW})
    expect(page.locator(".tooltip")).to_contain_text("found, score")
    shoot(page, "timeline-keys")
