"""A job's folder: how it is made, what its status may say, how its process is watched and stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tal_core.background import job_folder
from tal_core.background.job_folder import JobFolder
from tal_core.background.processes import StopRequested, stop_signals, this_process
from tal_core.background.status_writer import StatusWriter, run_job
from tal_core.types import InputError


@pytest.fixture
def job(tmp_path) -> JobFolder:
    return JobFolder.create(
        tmp_path / "jobs", {"what": "dig"}, {"state": "created", "created": 1.0}, first="one"
    )


def test_a_new_job_is_complete(job):
    assert job.name == "one" and job.request() == {"what": "dig"}
    assert job.status() == {"state": "created", "message": "", "created": 1.0}
    assert not job.active and job.log_tail() == "" and oct(job.folder.stat().st_mode)[-3:] == "755"


def test_many_made_at_once_get_names_of_their_own(tmp_path):
    def make(number):
        return JobFolder.create(tmp_path, {"number": number}, {"state": "created"}, first="same")

    with ThreadPoolExecutor(16) as pool:
        jobs = list(pool.map(make, range(48)))
    assert {job.name for job in jobs} == {"same", *(f"same-{number}" for number in range(2, 49))}
    assert {job.request()["number"] for job in jobs} == set(range(48))
    assert not list(tmp_path.glob(".new-*"))


def test_a_name_is_checked_and_taken_once(tmp_path, job):
    with pytest.raises(InputError, match="already a job 'one'"):
        JobFolder.create(job.folder.parent, {}, {"state": "created"}, name="one")
    with pytest.raises(InputError, match="can't be the name"):
        JobFolder.create(job.folder.parent, {}, {"state": "created"}, name="../one")
    with pytest.raises(InputError, match=r"no job 'two'. Known jobs: one"):
        JobFolder.open_in(job.folder.parent, "two")
    assert JobFolder.open_in(job.folder.parent, "one") == job
    assert not list(job.folder.parent.glob(".new-*"))


def test_what_fails_while_it_is_filled_never_appears(tmp_path):
    with pytest.raises(ZeroDivisionError):
        JobFolder.create(tmp_path, {}, {"state": "created"}, first="one", fill=lambda folder: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_is_listed_first(tmp_path):
    for created in (3.0, 1.0, 2.0):
        JobFolder.create(tmp_path, {}, {"state": "created", "created": created}, name=f"at-{created:.0f}")
    (tmp_path / "no-job").mkdir()
    (tmp_path / "at-2" / "status.json").write_text("{")
    assert [job.name for job in JobFolder.list_in(tmp_path)] == ["at-3", "at-1", "at-2"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"state": 3}',
        '{"state": "running", "pid": "me"}',
        '{"state": "x", "done": ""}',
    ],
)
def test_a_broken_status_says_so(job, content):
    job.status_file.write_text(content)
    for read in (job.status, job.request_stop, job.remove, lambda: job.active):
        with pytest.raises(InputError, match=r"status\.json"):
            read()
    assert not job.running


def test_a_deleted_folder_says_so(job):
    shutil.rmtree(job.folder)
    for read in (job.status, job.request, job.log_tail):
        with pytest.raises(InputError, match="folder is gone"):
            read()
    with pytest.raises(InputError, match="was deleted"):
        job.write_status({"state": "running"})
    assert not job.folder.exists()


def test_a_process_that_is_gone_is_killed(job):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    job.write_status({"state": "running", **this_process(process.pid)})
    assert job.status()["state"] == "running" and job.active
    with pytest.raises(InputError, match="Stop it first"):
        job.remove()
    job.request_stop()
    assert job.status()["state"] == "stopping"
    process.kill()
    time.sleep(0.05)
    zombie = job.status()
    assert zombie["state"] == "killed" and f"process {process.pid} is gone" in zombie["error"]
    process.wait()
    assert job.status()["state"] == "killed"
    with pytest.raises(InputError, match="isn't running"):
        job.request_stop()
    job.remove()
    assert not job.folder.exists()


def test_another_process_of_the_same_number_is_not_the_jobs(job):
    job.write_status({"state": "running", **this_process(), "process_started": 12.0})
    assert job.status()["state"] == "killed"


def test_on_another_machine_the_heartbeat_tells(job):
    other = {"state": "running", "pid": 1, "process_started": 1.0, "host": f"not-{socket.gethostname()}"}
    job.write_status({**other, "heartbeat": time.time() - 5})
    assert job.status()["state"] == "running"
    job.write_status({**other, "heartbeat": time.time() - 500})
    assert job.status()["state"] == "killed"


def test_on_a_full_disk_the_status_takes_the_place_of_the_old_one(job, monkeypatch):
    def full(path, content):
        raise InputError("can't be written (No space left on device)", where=path)

    monkeypatch.setattr(job_folder, "write_bytes", full)
    job.write_status({"state": "failed"})
    assert json.loads(job.status_file.read_text()) == {"state": "failed"}
    job.status_file.unlink()
    with pytest.raises(InputError, match="No space left"):
        job.write_status({"state": "failed"})


def test_a_writer_keeps_the_status_alive(job, monkeypatch):
    monkeypatch.setattr(StatusWriter, "seconds_between", 0.01)
    with StatusWriter(job, colour="red") as writer:
        first = job.status()
        assert first["state"] == "running" and first["pid"] == os.getpid() and first["created"] == 1.0
        writer.progress(3, 10, "digging")
        deadline = time.monotonic() + 10
        while (status := job.status())["heartbeat"] == first["heartbeat"] or "done" not in status:
            assert time.monotonic() < deadline
        assert (status["done"], status["total"], status["message"]) == (3, 10, "digging")
        job.request_stop()
        with pytest.raises(StopRequested):
            writer.progress(4, 10, "digging")
        writer.finish("stopped", message="Stopped.")
    assert job.status()["state"] == "stopped" and job.status()["colour"] == "red"


def test_a_writer_says_that_its_folder_was_deleted(job, monkeypatch):
    monkeypatch.setattr(StatusWriter, "seconds_between", 0.01)
    with StatusWriter(job) as writer:
        job.folder.rename(job.folder.with_name(".deleted"))
        deadline = time.monotonic() + 10
        while writer.failure is None:
            assert time.monotonic() < deadline
        with pytest.raises(InputError, match="was deleted"):
            writer.check()
    assert not job.folder.exists()


def test_the_end_of_the_work_is_written(job, capsys):
    def fail(error):
        raise error

    assert run_job(StatusWriter(job), lambda: {"message": "Dug."}) == 0
    assert job.status()["state"] == "finished" and job.status()["message"] == "Dug."
    assert run_job(StatusWriter(job), lambda: fail(StopRequested())) == 0
    assert job.status()["state"] == "stopped"
    assert run_job(StatusWriter(job), lambda: fail(InputError("no spade"))) == 2
    assert job.status()["error"] == "no spade" and "no spade" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run_job(StatusWriter(job), lambda: 1 / 0)
    assert job.status()["error"] == "ZeroDivisionError: division by zero"


def test_the_first_signal_asks_and_the_second_ends(monkeypatch):
    usual = signal.getsignal(signal.SIGTERM)
    stopping = threading.Event()
    with stop_signals(stopping.set):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.wait(5) and signal.getsignal(signal.SIGTERM) == usual
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
