import os
import signal
import time

import psutil
import pytest

from tal_core.runs.run import ACTIVE, Run
from tal_core.training import launch
from tal_core.types import InputError
from tests.training.synthetic import make_dataset, make_run


def wait_for(run: Run, condition, seconds=60) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = run.status()
        if condition(status):
            return status
        time.sleep(0.05)
    raise AssertionError(f"{run.status()}\n{run.log_tail()}")


def test_background_run_outlives_stops_resumes_and_survives_a_kill(home, monkeypatch, tmp_path):
    make_dataset(home)
    run = make_run(home, epochs=4000)
    monkeypatch.chdir(tmp_path)  # nothing depends on where the app was started
    pid = launch.start(home, run)
    status = run.status()
    assert status["state"] == "running" and status["pid"] == pid and status["message"] == "Starting"
    with pytest.raises(InputError, match=rf"already running \(pid {pid}\)"):
        launch.start(home, run)
    assert os.getsid(pid) == pid != os.getsid(0), "a session of its own"

    first = wait_for(run, lambda status: status.get("epoch", 0) >= 3)
    assert first["eta_seconds"] > 0 and first["steps"] == 4000 * 8
    heartbeat = first["heartbeat"]
    wait_for(run, lambda status: status["heartbeat"] > heartbeat)

    run.request_stop()
    assert run.status()["state"] in ("stopping", "stopped")
    stopped = wait_for(run, lambda status: status["state"] not in ACTIVE)
    assert stopped["state"] == "stopped"
    with pytest.raises(InputError, match="isn't running"):
        run.request_stop()

    pid = launch.start(home, run)
    wait_for(run, lambda status: status.get("phase") == "training" and status["epoch"] > stopped["epoch"])
    os.kill(pid, signal.SIGKILL)
    killed = wait_for(run, lambda status: status["state"] not in ACTIVE)
    assert killed["state"] == "killed"

    path = run.folder / "config.json"
    path.write_text(path.read_text().replace('"epochs": 4000', f'"epochs": {killed["epoch"] + 2}'))
    pid = launch.start(home, run)
    assert wait_for(run, lambda status: status["state"] not in ACTIVE)["state"] == "finished"
    epochs = run.metrics().query("kind == 'epoch'")["epoch"]
    assert epochs.is_unique and epochs.max() == killed["epoch"] + 2
    with pytest.raises(InputError, match="finished already"):
        launch.start(home, run)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid), "no dead process is left behind"


def test_a_failure_in_the_background_is_told(home):
    make_dataset(home)
    run = make_run(home, learning_rate=10, optimizer="adam", epochs=200)
    (run.checkpoints / "last.pt").write_bytes(b"nonsense")
    launch.start(home, run)
    status = wait_for(run, lambda status: status["state"] not in ACTIVE)
    assert status["state"] == "failed" and "training state" in status["error"]
    assert "training state" in run.log_tail()
