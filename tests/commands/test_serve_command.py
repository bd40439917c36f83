"""``serve`` as a person types it: a process of its own, with a run that came with the program."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager

import httpx
import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from tal_core.cli import main
from tal_core.inference.predict import predict_features
from tal_core.runs.run import open_run
from tal_core.video.extractors.extractor import extract
from tal_core.workspace import DEMO
from tests.streaming.server.test_server import video
from tests.streaming.server_tools import until_end

RUN = "demo-baseline"
VIDEO = "demo_001"


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--run", "nothing"], "no run 'nothing'"),
        (["--run", "../../etc"], "can't be the name"),
        (["--run", RUN, "--host", "0.0.0.0"], "TAL_TOKEN"),
        (["--run", RUN, "--token", "short"], "shorter than 16"),
        (["--run", RUN, "--port", "99999999"], "1 to 65535"),
        (["--run", RUN, "--host", "256.0.0.1", "--token", "x" * 20], "can't be listened on"),
        (["--run", RUN, "--max-streams", "0"], "--max-streams"),
        (["--run", RUN, "--max-body", "-1"], "--max-body: it can't be '-1'. Allowed: a number above 0"),
        ([], "--run"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, words):
    try:
        code = main(["serve", *arguments])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and words in error, error


def test_a_taken_port_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--run", RUN, "--port", str(taken.getsockname()[1])]) == 2
    assert "--port" in capsys.readouterr().err


@contextmanager
def serving(home, *arguments, **environment):
    """The command in a process of its own; yields the process and its address. Ends it as Ctrl-C does."""
    command = [sys.executable, "-m", "tal_core", "serve", "--run", RUN, "--port", "0", *arguments]
    environment = {**os.environ, "TAL_HOME": str(home), **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            address = re.search(r"http://\S+:\d+", process.stdout.readline())
            assert address, process.poll()
            yield process, address.group()
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve") / "workspace") as (process, address):
        yield process, address


def test_the_same_detections_as_predict(server):
    features = DEMO / "features" / f"{VIDEO}.npy"
    with features.open("rb") as file:
        url = f"{server[1]}/v1/detect?run={RUN}&min_score=0.2"
        answer = httpx.post(url, files={"file": (features.name, file)}, timeout=60, trust_env=False)
    found = answer.json()["detections"]
    table, _ = predict_features(open_run(DEMO, RUN), np.load(features))
    table = table[table["score"] >= 0.2].sort_values("score", ascending=False, kind="stable")
    assert len(found) == len(table) > 3
    # The server is another process, with other threads: sums of the network are taken in another order.
    assert np.allclose([d["segment"] for d in found], table[["start", "end"]], atol=1e-3)
    assert [d["label"] for d in found] == table["label"].tolist()


def test_detections_of_a_video_file(server, tmp_path):
    content = video(tmp_path / "v.mp4", seconds=3)
    answer = httpx.post(f"{server[1]}/v1/detect", content=content, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    table, _ = predict_features(open_run(DEMO, RUN), *extract(tmp_path / "v.mp4"))
    assert answer.json()["snippets"] == 15
    scores = sorted(detection["score"] for detection in answer.json()["detections"])
    assert scores == pytest.approx(sorted(table["score"]), rel=1e-3, abs=1e-6)


def test_a_stream_of_the_demo(server):
    features = np.load(DEMO / "features" / f"{VIDEO}.npy")[:120]
    address = server[1].replace("http", "ws")
    with connect(f"{address}/v1/stream", proxy=None) as line:
        line.send(json.dumps({"type": "hello", "kind": "features", "run": RUN}))
        ready = json.loads(line.recv(timeout=60))
        assert ready["num_features"] == features.shape[1]
        for at in range(0, len(features), 10):
            part = features[at : at + 10]
            line.send(struct.pack("<4sI", b"F16 ", part.shape[1]) + part.astype("<f2").tobytes())
        line.send(json.dumps({"type": "finish"}))
        messages = until_end(line)
    assert messages[-1]["type"] == "end" and messages[-1]["snippets"] == 120
    ends = [m for m in messages if m["type"] == "event" and m["kind"] == "end"]
    assert ends and all(m["label"] in ready["labels"] and m["start"] < m["end"] for m in ends)


def test_a_stopped_server_is_gone(tmp_path):
    with serving(tmp_path / "workspace", "--token", "x" * 20) as (process, address):
        assert httpx.get(f"{address}/v1/runs", trust_env=False).status_code == 401
        pid = process.pid
    assert process.returncode in (0, -signal.SIGINT, 130)
    assert not psutil.pid_exists(pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/healthz", trust_env=False)
