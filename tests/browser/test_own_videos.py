"""With nothing but the browser: videos and labels become a dataset, a trained detector, and detections."""

import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import expect

from tal_core.workspace import DEMO
from tests.browser.browsing import PATIENCE, no_errors, settle, shoot, visit

CLIPS = ("demo_001", "demo_004", "demo_007", "demo_011")


def prepare(folder: Path) -> tuple[Path, Path]:
    """Four clips of 6 s and a CSV with two classes."""
    videos, labels = folder / "videos", folder / "labels.csv"
    videos.mkdir()
    rows = ["video,start,end,label"]
    for name in CLIPS:
        source = DEMO / "videos" / f"{name}.mp4"
        if shutil.which("ffmpeg"):
            command = ["ffmpeg", "-v", "error", "-i", str(source), "-t", "6", str(videos / source.name)]
            subprocess.run(command, check=True)
        else:
            shutil.copy(source, videos)
        rows += [f"{name}.mp4,0.5,2.5,first", f"{name}.mp4,3,5,second"]
    labels.write_text("\n".join(rows) + "\n")
    return videos, labels


def fill(page, label: str, value: object) -> None:
    field = page.get_by_role("textbox", name=label, exact=True)
    field.fill(str(value))
    field.press("Enter")
    settle(page)


def test_from_a_folder_of_videos_to_detections(app, new_page, tmp_path):
    address, home = app
    videos, labels = prepare(tmp_path)
    page = new_page(viewport={"width": 1440, "height": 1300})
    visit(page, address, "explore?view=Add+data")
    fill(page, "Folder of videos", videos)
    fill(page, "Label file", labels)
    fill(page, "Name of the dataset", "own")
    shoot(page, "own-videos-preview")
    page.get_by_role("button", name="Start extraction").click()
    train = page.get_by_role("link", name="Train on it")
    expect(train).to_be_visible()
    shoot(page, "own-videos-extracted")
    no_errors(page)

    train.click()
    page.wait_for_selector("h1:has-text('Train')")
    settle(page)
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("1")
    page.get_by_role("textbox", name="Name of the run (optional)").fill("own-run")
    page.get_by_role("button", name="Start training").click()
    done = page.get_by_role("link", name="See its mistakes on the timeline")
    expect(done).to_be_visible(timeout=2 * PATIENCE)
    assert (home / "runs" / "own-run" / "detections.json").exists()

    visit(page, address, "detect?run=own-run")
    page.locator("input[type=file]").set_input_files(videos / "demo_004.mp4")
    detect = page.get_by_role("button", name="Detect", exact=True)
    expect(detect).to_be_visible()
    settle(page)
    detect.click()
    expect(page.get_by_text("detections are shown")).to_be_visible()
    settle(page)
    no_errors(page)
    timeline = page.locator("canvas[role=application]")
    expect(timeline).to_be_visible()
    page.wait_for_function("document.querySelector('video')?.readyState > 0")
    box = timeline.bounding_box()
    timeline.click(position={"x": box["width"] / 2, "y": 8})
    page.wait_for_function("document.querySelector('video').currentTime > 2")
    shoot(page, "detect", full_page=True)

    page.get_by_role("button", name="Burn in").click()
    expect(page.get_by_role("button", name="Download the video")).to_be_visible()
    settle(page)  # a file asked for while the page is drawn anew never comes
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the video").click()
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    assert download.value.suggested_filename == "demo_004-detections.mp4"
    shoot(page, "detect-burnt-in", full_page=True)
