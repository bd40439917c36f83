"""Detecting in one file: what it is, which runs fit, the background work, what stays in the workspace."""

import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tal_core.background.job_folder import JobFolder
from tal_core.background.processes import this_process
from tal_core.inference import detection_input, detection_job
from tal_core.inference.detection_input import inspect, safe_name, take_in, why_not
from tal_core.runs.run import Run, open_run
from tal_core.types import InputError
from tal_core.workspace import DEMO, write_json

VIDEO = DEMO / "videos" / "demo_004.mp4"
FEATURES = next((DEMO / "features").glob("demo_004.npy"))


@pytest.fixture
def run(home) -> Run:
    return open_run(home, "demo-baseline")


@pytest.fixture
def at_once(monkeypatch):
    """Background work is done before ``launch`` returns."""

    def launch(job: JobFolder, home: Path, module: str) -> None:
        assert module == "tal_core.inference.detection_job"
        detection_job.main(str(job.folder))

    monkeypatch.setattr(JobFolder, "launch", launch)


def test_a_video_is_looked_at_and_detected_in(home, tmp_path, run, at_once):
    clip = tmp_path / "demo_004.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(VIDEO), "-t", "5", "-c", "copy", str(clip)]
    subprocess.run(command, check=True)
    found = inspect(clip)
    assert found.name == "demo_004" and found.video.width == 160 and not why_not(run, found)
    detection = detection_job.start(home, run, found)
    status = detection.status()
    assert status["state"] == "finished", status
    assert status["duration"] == pytest.approx(found.video.duration)
    table = detection.table()
    assert (
        len(table) and set(table["video_id"]) == {"demo_004"} and set(table["label"]) <= set(status["labels"])
    )
    scores, grid, labels = detection.scores()
    assert labels == status["labels"] and grid.stride == pytest.approx(0.2)
    assert scores.shape == (pytest.approx(found.video.duration / 0.2, abs=3), len(labels))
    assert clip.exists(), "a file of a folder stays where it is"

    shown = table.head(3)
    detection_job.burn(home, detection, shown, dict.fromkeys(labels, "#4C77CC"))
    assert detection.burn_in.status()["state"] == "finished"
    assert detection.burn_in.video_file.stat().st_size > 10_000
    detection_job.remove(detection)
    assert not detection.folder.exists()


def test_features_give_the_same_as_the_run_had(home, run, at_once):
    found = inspect(FEATURES)
    detection = detection_job.start(home, run, found)
    assert detection.status()["state"] == "finished"
    before = run.detections()
    before = before[before["video_id"] == "demo_004"]
    both = [table.sort_values("score", ascending=False).head(5) for table in (before, detection.table())]
    assert both[0]["label"].tolist() == both[1]["label"].tolist()
    np.testing.assert_allclose(both[0]["start"], both[1]["start"], atol=0.02)


def test_an_upload_moves_into_its_detection(home, run, at_once):
    path = take_in(home, "../../My film!.NPY", FEATURES.stat().st_size, io.BytesIO(FEATURES.read_bytes()))
    assert path.name == "My_film.npy" and home / "detect" / "incoming" in path.parents
    detection = detection_job.start(home, run, inspect(path))
    assert detection.status()["state"] == "finished"
    assert not path.exists() and not path.parent.exists()
    assert Path(detection.request()["source"]).parent == detection.folder
    assert detection_job.list_detections(home) == [detection]
    assert detection_job.open_detection(home, detection.name) == detection
    with pytest.raises(InputError, match="there is no detection"):
        detection_job.open_detection(home, "other")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a b.mp4", "a_b.mp4"),
        (".hidden.npy", "hidden.npy"),
        ("кухня 1.MP4", "кухня_1.mp4"),
        ("x" * 300 + ".npy", "x" * 80 + ".npy"),
        ("...", "file"),
        ("a\x00b;rm -rf.npy", "a_b_rm_-rf.npy"),
    ],
)
def test_names_of_uploads_stay_in_their_folder(name, safe):
    assert safe_name(name) == safe


def test_uploads_are_limited_and_old_ones_go(home, monkeypatch):
    with pytest.raises(InputError, match="501 MB, more than the 500 MB"):
        take_in(home, "x.mp4", 501 * 2**20, io.BytesIO(b""))
    with pytest.raises(InputError, match="empty"):
        take_in(home, "x.mp4", 0, io.BytesIO(b""))
    old = take_in(home, "x.npy", 3, io.BytesIO(b"abc"))
    os.utime(old.parent, (1, 1))
    new = take_in(home, "x.npy", 3, io.BytesIO(b"abc"))
    assert new.exists() and not old.parent.exists()

    class Full(io.BytesIO):
        def read(self, *_):
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        take_in(home, "y.npy", 3, Full())
    assert [path.name for path in (home / "detect" / "incoming").rglob("*.npy")] == ["x.npy"]
    assert detection_input.MOST_MB == 500


def odd_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    pickle = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4, 5), np.float32))
    return {
        "empty.mp4": (b"", "the file is empty"),
        "text.mp4": (b"not a video at all" * 50, "can't be read as a video"),
        "cut.mp4": (VIDEO.read_bytes()[:500], "can't be read as a video"),
        "text.npy": (b"1,2,3", r"no \.npy file"),
        "video.npy": (VIDEO.read_bytes(), r"no \.npy file"),
        "pickle.npy": (pickle, "never loaded"),
        "cube.npy": (buffer.getvalue(), "3-D array"),
        "what.exe": (b"MZ", "unknown ending"),
    }


@pytest.mark.parametrize("name", sorted(odd_files(Path())))
def test_files_that_cannot_be_used_are_refused_by_their_content(tmp_path, name):
    content, what = odd_files(tmp_path)[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=what):
        inspect(tmp_path / name)


def test_a_sound_file_has_no_picture(tmp_path):
    path = tmp_path / "sound.mp4"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(InputError, match="no video stream"):
        inspect(path)


def test_runs_that_do_not_fit_say_why(home, tmp_path, run):
    np.save(tmp_path / "other.npy", np.zeros((20, 7), np.float32))
    assert "306 channels, the file has shape (20, 7)" in why_not(run, inspect(tmp_path / "other.npy"))
    np.save(tmp_path / "turned.npy", np.zeros((306, 20), np.float32))
    assert not why_not(run, inspect(tmp_path / "turned.npy"))
    empty = tmp_path / "run"
    shutil.copytree(run.folder, empty)
    shutil.rmtree(empty / "checkpoints")
    assert "no weights" in why_not(Run(empty), inspect(FEATURES))


def test_a_failure_in_the_background_is_told(home, tmp_path, run, at_once):
    values = np.load(FEATURES)
    values[3] = np.nan
    np.save(tmp_path / "nan.npy", values)
    detection = detection_job.start(home, run, inspect(tmp_path / "nan.npy"))
    status = detection.status()
    assert status["state"] == "failed" and "NaN" in status["error"]


def test_a_stop_is_obeyed(home, run, monkeypatch):
    monkeypatch.setattr(JobFolder, "launch", lambda *_: None)
    detection = detection_job.start(home, run, inspect(VIDEO))
    detection.stop_file.touch()
    assert detection_job.main(str(detection.folder)) == 0
    assert detection.status()["state"] == "stopped"
    assert not (detection.folder / "detections.json").exists()


def test_only_the_newest_are_kept(home, run, monkeypatch):
    monkeypatch.setattr(JobFolder, "launch", lambda job, *_: job.write_status({"state": "finished"}))
    monkeypatch.setattr(detection_job, "KEPT", 3)
    found = inspect(FEATURES)
    made = [detection_job.start(home, run, found) for _ in range(3)]
    write_json(made[0].folder / "status.json", {"state": "running", **this_process()})
    detection_job.clean_up(home, keep=1)
    kept = [one.name for one in detection_job.list_detections(home)]
    assert made[0].name in kept and len(kept) == 2


def test_the_process_runs_by_itself(home, run):
    detection = detection_job.start(home, run, inspect(FEATURES))
    deadline = time.monotonic() + 120
    while detection.active:
        assert time.monotonic() < deadline, detection.log_tail()
        time.sleep(0.2)
    assert detection.status()["state"] == "finished", detection.log_tail()
    assert json.loads((detection.folder / "detections.json").read_text())["results"]
