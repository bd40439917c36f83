"""The timeline in a real browser: the player it steers, its keys, thousands of segments, and annotating."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.editing.changes import read_draft
from tal_core.models.settings import build_config
from tal_core.runs.run import create_run
from tal_core.workspace import write_json
from tests.browser.app_server import ROOT

PATIENCE = 120_000  # milliseconds; a busy machine is slow, not broken
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
        page.goto(f"{address}/timeline?" + "&".join(f"{k}={v}" for k, v in query.items()), timeout=PATIENCE)
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
    canvas.press("m")  # the first found segment is right; a detection of background comes next
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


def make_dataset(home: Path, folder: Path, name: str, segments: dict[str, list], seconds: float) -> None:
    """A dataset without videos: ``segments`` of each, one snippet a second, half of them for training."""
    features = folder / f"{name}-features"
    features.mkdir()
    random, database = np.random.default_rng(0), {}
    for number, (video, annotated) in enumerate(segments.items()):
        np.save(features / f"{video}.npy", random.normal(size=(int(seconds), 4)).astype(np.float32))
        entries = [{"segment": [start, end], "label": label} for start, end, label in annotated]
        subset = "training" if number < len(segments) / 2 else "testing"
        database[video] = {"subset": subset, "duration": seconds, "annotations": entries}
    path = folder / f"{name}.json"
    write_json(path, {"database": database})
    add_dataset(home, name, annotations=path, features=features, snippet_seconds=1.0)


def test_a_label_is_mended_saved_seen_again_and_trained(app, new_page, tmp_path):
    address, home = app
    videos = {f"v{n}": [(2.0, 6.0, "jump"), (10.0 + n, 14.0 + n, "run")] for n in range(4)}
    make_dataset(home, tmp_path, "mine", videos, 40.0)
    page = new_page()
    timeline = OnPage(page, address, 40.0, dataset="mine", video="v0", at="2.000-6.000")
    page.get_by_text("Edit annotations", exact=True).click()
    field = page.get_by_role("combobox", name="Class of the selected segment, and of new ones")
    expect(field).to_have_value("jump", timeout=PATIENCE)  # the segment that the link asked for
    note = page.locator(".editor .note")

    field.fill("hop")
    field.press("Enter")
    expect(note).to_have_text("1 unsaved change", timeout=PATIENCE)
    timeline.canvas.press("0")
    timeline.drag(24.0, 28.0, y=TRUTH_ROW)
    expect(note).to_have_text("2 unsaved changes", timeout=PATIENCE)
    timeline.canvas.press("Control+z")
    expect(note).to_have_text("1 unsaved change", timeout=PATIENCE)
    timeline.canvas.press("Control+Shift+Z")
    expect(note).to_have_text("2 unsaved changes", timeout=PATIENCE)
    timeline.drag(14.0, 16.0, y=TRUTH_ROW)  # the end of the second segment
    expect(note).to_have_text("3 unsaved changes", timeout=PATIENCE)
    settle(page)
    shoot(page, "timeline-edit-light")
    draft = [(change.kind, change.after) for change in read_draft(home, "mine").done]
    assert [kind for kind, _ in draft] == ["relabelled", "added", "moved"]
    assert draft[0][1] == (2.0, 6.0, "hop") and draft[1][1].label == "hop"
    assert draft[1][1][:2] == pytest.approx((24.0, 28.0), abs=0.1)
    assert draft[2][1][:2] == pytest.approx((10.0, 16.0), abs=0.1)

    page.on("dialog", lambda dialog: dialog.accept())  # leaving with unsaved changes asks
    page.reload(timeout=PATIENCE)
    expect(note).to_have_text("3 unsaved changes", timeout=PATIENCE)
    page.get_by_role("button", name="Save as new annotation file").click()
    expect(page.get_by_text("3 changes", exact=True)).to_be_visible(timeout=PATIENCE)
    page.reload(timeout=PATIENCE)
    expect(note).to_contain_text("Drag on the ground truth", timeout=PATIENCE)
    timeline.canvas.press("Home")
    timeline.canvas.press("n")
    expect(page.locator(".spoken")).to_contain_text("Ground truth: hop", timeout=PATIENCE)
    shoot(page, "timeline-saved")

    saved = open_dataset(home, "mine").ground_truth(videos=["v0"])
    assert saved["label"].tolist() == ["hop", "run", "hop"]
    command = [sys.executable, "-m", "tal_core", "train", "--dataset", "mine", "--model", "baseline"]
    done = subprocess.run(
        [*command, "--set", "epochs=1", "--run-id", "mended"],
        cwd=ROOT,
        env={**os.environ, "TAL_HOME": str(home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "runs" / "mended" / "evaluation.json").exists()
    trained = json.loads((home / "runs" / "mended" / "environment.json").read_text())
    assert trained["dataset"]["labels"] == ["hop", "jump", "run"]


def test_keys_annotate_without_a_video(app, new_page, tmp_path):
    address, home = app
    make_dataset(home, tmp_path, "still", {"a": [(2.0, 6.0, "jump")], "b": [(3.0, 5.0, "run")]}, 40.0)
    page = new_page(color_scheme="dark")
    timeline = OnPage(page, address, 40.0, dataset="still", video="b", edit="1")
    note = page.locator(".editor .note")
    expect(note).to_contain_text("Drag on the ground truth", timeout=PATIENCE)
    canvas = timeline.canvas
    canvas.press("Home")
    canvas.press(" ")
    expect(page.locator(".clock")).not_to_have_text(re.compile(r"^0\.[0-4]"), timeout=PATIENCE)  # it runs
    canvas.press(" ")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    timeline.click(20.0)
    canvas.press("i")
    expect(note).to_contain_text("Start marked at 20.")
    for _ in range(3):
        canvas.press("ArrowRight")
    canvas.press("o")
    expect(note).to_have_text("1 unsaved change", timeout=PATIENCE)
    canvas.press("ArrowLeft")
    canvas.press("]")
    expect(note).to_have_text("2 unsaved changes", timeout=PATIENCE)
    settle(page)
    shoot(page, "timeline-edit-dark")
    last = read_draft(home, "still").done[-1].after
    assert last.label == "jump" and last.end - last.start == pytest.approx(2.0)
    canvas.press("Delete")
    expect(note).to_have_text("3 unsaved changes", timeout=PATIENCE)
    for left in ("2 unsaved changes", "1 unsaved change"):
        page.get_by_role("button", name="Undo").click()
        expect(note).to_have_text(left, timeout=PATIENCE)
    page.get_by_role("button", name="Undo").click()
    expect(note).to_contain_text("Drag on the ground truth", timeout=PATIENCE)
    assert not read_draft(home, "still").done


def test_five_thousand_segments_stay_light(app, new_page, tmp_path):
    address, home = app
    random, count, length = np.random.default_rng(0), 5000, 7200.0
    start = np.sort(random.uniform(0, length - 60, count))
    end = start + random.exponential(4, count) + 0.5
    segments = [
        (s, e, f"class {k % 20}") for k, (s, e) in enumerate(zip(start.tolist(), end.tolist(), strict=True))
    ]
    make_dataset(home, tmp_path, "many", {"other": [(1.0, 2.0, "class 0")], "long": segments}, length)
    run = create_run(home, "many", "baseline", build_config("baseline"), "found")
    found = [
        {"segment": [s + shift, e + shift], "label": label, "score": float(score)}
        for (s, e, label), shift, score in zip(
            segments, random.normal(0, 1, count), random.random(count), strict=True
        )
    ]
    write_json(run.folder / "detections.json", {"version": "1", "results": {"long": found}})
    page = new_page()
    timeline = OnPage(page, address, length, dataset="many", run="found", video="long", score="0")
    expect(page.get_by_role("button", name="background")).to_be_visible(timeout=PATIENCE)
    paints = []
    for keys in (["+"] * 6, ["ArrowRight"] * 4, ["m"] * 4, ["-"] * 6, ["0"]):
        for key in keys:
            timeline.canvas.press(key)
            page.wait_for_timeout(30)
            paints.append(float(page.locator(".timeline").get_attribute("data-paint")))
    print(f"\n10 000 segments: {np.median(paints):.1f} ms a frame (median), {max(paints):.1f} ms at most")
    timeline.canvas.hover(position={"x": timeline.x(start[2500] + 0.1), "y": TRUTH_ROW})
    shoot(page, "timeline-5000")
    assert np.median(paints) < 100
