import json
import os
import subprocess
import time

import pytest

from tal_core.background import job_folder
from tal_core.background.processes import this_process
from tal_core.types import InputError
from tal_core.video.extraction import process
from tal_core.video.extraction.folder import read_manifest, sole_writer
from tal_core.video.extraction.jobs import ExtractionJob, list_jobs, open_job, resume, start
from tal_core.video.extractors.spec import ExtractorSpec
from tests.video.films import moving_patch, write_film

PATIENCE = 90


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    frames = [moving_patch(k / 12.5, (0.4, 0)) for k in range(15)]
    first = write_film(folder / "a.mp4", frames, fps=12.5)
    (folder / "b.mp4").write_bytes(first.read_bytes())
    return folder


def wait_for(job, *states):
    deadline = time.monotonic() + PATIENCE
    while (status := job.status())["state"] not in states:
        assert time.monotonic() < deadline, (status, job.log_tail())
        time.sleep(0.05)
    return status


@pytest.fixture
def idle(monkeypatch):
    """Jobs whose process does nothing but live."""
    processes = []

    def spawn(*_):
        process = subprocess.Popen(["sleep", "60"])
        processes.append(process)
        return process

    monkeypatch.setattr(job_folder, "spawn", spawn)
    yield processes
    for started in processes:
        started.kill()
        started.wait()


def test_a_job_runs_in_the_background_and_goes_on_with_new_videos(videos, tmp_path):
    home, out = tmp_path / "home", tmp_path / "out"
    (videos / "broken.mp4").write_bytes(b"no film")
    job = start(home, videos, out, ExtractorSpec(stride_seconds=0.4), processes=1)
    assert job.status()["state"] == "running" and job.status()["total"] == 3
    status = wait_for(job, "finished", "failed", "killed")
    assert (status["state"], status["done"], status["total"], status["failed"]) == ("finished", 3, 3, 1)
    assert status["message"] == "2 videos extracted, 1 can't be used" and list(status["problems"]) == [
        "broken.mp4"
    ]
    assert status["seconds_done"] == status["seconds_total"] > 2
    assert read_manifest(out).spec == job.spec == ExtractorSpec(stride_seconds=0.4)
    assert [other.name for other in list_jobs(home)] == [job.name] and open_job(home, job.name) == job
    with pytest.raises(InputError, match="isn't running"):
        job.request_stop()


def test_two_jobs_on_one_folder_are_refused(videos, tmp_path, idle):
    home, out = tmp_path / "home", tmp_path / "out"
    job = start(home, videos, out, ExtractorSpec())
    with pytest.raises(InputError, match=f"the job {job.name} is writing to it"):
        start(home, videos, out, ExtractorSpec())
    with pytest.raises(InputError, match="is already running"):
        resume(home, job)
    assert len(list_jobs(home)) == 1
    other = start(home, videos, tmp_path / "other", ExtractorSpec())
    assert other.name != job.name
    (tmp_path / "third").mkdir()
    with sole_writer(tmp_path / "third"), pytest.raises(InputError, match="another extraction"):
        start(home, videos, tmp_path / "third", ExtractorSpec())


def test_a_stop_request_shows_and_a_killed_job_resumes(videos, tmp_path, idle):
    home = tmp_path / "home"
    job = start(home, videos, tmp_path / "out", ExtractorSpec())
    job.request_stop()
    assert job.status()["state"] == "stopping"
    idle[0].kill()
    idle[0].wait()
    status = job.status()
    assert status["state"] == "killed" and "Resume" in status["error"]
    resume(home, job)
    assert job.status()["state"] == "running" and not (job.folder / "stop").exists()


def put_job(tmp_path, videos, **request):
    folder = tmp_path / "home" / "jobs" / "extract-1"
    folder.mkdir(parents=True)
    usual = {"videos": str(videos), "out": str(tmp_path / "out"), "spec": {"name": "motion"}}
    (folder / "job.json").write_text(json.dumps({**usual, "device": "cpu", "processes": 1, **request}))
    (folder / "status.json").write_text(json.dumps({"state": "running", **this_process()}))
    return ExtractionJob(folder)


def test_the_process_stops_when_asked_and_says_so(videos, tmp_path):
    job = put_job(tmp_path, videos)
    (job.folder / "stop").touch()
    assert process.main(str(job.folder)) == 0
    status = job.status()
    assert status["state"] == "stopped" and status["message"].endswith("stopped")
    assert status["pid"] == os.getpid() and status["eta_seconds"] is None


def test_a_failure_is_told_in_one_line(videos, tmp_path, capsys):
    job = put_job(tmp_path, videos, spec={"name": "onnx", "model": str(tmp_path / "gone.onnx")})
    assert process.main(str(job.folder)) == 2
    status = job.status()
    assert status["state"] == "failed" and "no such encoder file" in status["error"]
    assert "\n" not in status["error"] and status["error"] in capsys.readouterr().err


def test_a_job_without_videos_never_appears(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no videos"):
        start(tmp_path / "home", tmp_path / "empty", tmp_path / "out", ExtractorSpec())
    assert list_jobs(tmp_path / "home") == []
    with pytest.raises(InputError, match="no job 'gone'"):
        open_job(tmp_path / "home", "gone")
