"""What well-behaved clients get."""

import io
import json
import struct
import threading
import time
from contextlib import ExitStack

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Service
from tests.streaming.server_tools import (
    CHANNELS,
    LABELS,
    Model,
    get,
    hello,
    metric,
    post,
    running,
    served,
    until_end,
    wait_until,
)

FEATURES = np.zeros((10, CHANNELS), np.float32)
FEATURES[2:5, 0] = (0.9, 0.8, 0.7)


@pytest.fixture(scope="module")
def port():
    with running() as port:
        yield port


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def jpeg(color, size=(32, 24)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "JPEG", quality=95)
    return file.getvalue()


def video(path, seconds=2.0, size=(64, 48), color=(255, 0, 0)) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        picture = np.full((size[1], size[0], 3), color, np.uint8)
        for _ in range(int(25 * seconds)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def stream(port, **options):
    return connect(f"ws://127.0.0.1:{port}/v1/stream", proxy=None, **options)


def test_what_is_served(port):
    assert get(port, "/healthz").text == "ok"
    (run,) = get(port, "/v1/runs").json()["runs"]
    assert run["run"] == "toy" and run["labels"] == LABELS and run["num_features"] == CHANNELS
    assert run["delay"] == 0 and run["no_stream"] is None


@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
@pytest.mark.parametrize("kind", ["npy", "npy of float16", "npz", "pt"])
def test_detections_of_a_feature_file(port, form, kind, tmp_path):
    content = npy(FEATURES.astype(np.float16) if "float16" in kind else FEATURES)
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, features=FEATURES)
        content = file.getvalue()
    if kind == "pt":
        import torch

        torch.save(torch.from_numpy(FEATURES), tmp_path / "f.pt")
        content = (tmp_path / "f.pt").read_bytes()
    name = f"clip.{kind.split()[0]}"
    if form:
        url = f"http://127.0.0.1:{port}/v1/detect?min_score=0.75"
        answer = httpx.post(url, files={"file": (name, content)}, trust_env=False)
    else:
        answer = post(port, content, f"/v1/detect?min_score=0.75&name={name}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["run"] == "toy" and found["snippets"] == 10
    assert [d["label"] for d in found["detections"]] == ["jump", "jump"]
    assert np.allclose([d["segment"] for d in found["detections"]], [(0.5, 0.7), (0.7, 0.9)])
    assert np.allclose([d["score"] for d in found["detections"]], [0.9, 0.8], atol=1e-3)


def test_detections_of_a_video(port, tmp_path):
    content = video(tmp_path / "v.mp4")
    for options in ({"content": content}, {"files": {"file": ("v.mp4", content, "video/mp4")}}):
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/detect", trust_env=False, **options)
        assert answer.status_code == 200, answer.text
        assert answer.json()["snippets"] == 10 and len(answer.json()["detections"]) == 10


def test_a_stream_of_features(port):
    with stream(port) as line:
        line.send(hello(run="toy"))
        ready = json.loads(line.recv())
        assert ready["type"] == "ready" and ready["labels"] == LABELS and ready["stride"] == 0.2
        line.send(json.dumps({"type": "features", "values": FEATURES[:3].tolist()}))
        line.send(struct.pack("<4sI", b"F32 ", CHANNELS) + FEATURES[3:6].tobytes())
        line.send(struct.pack("<4sI", b"F16 ", CHANNELS) + FEATURES[6:].astype(np.float16).tobytes())
        line.send(json.dumps({"type": "finish"}))
        messages = until_end(line)
    scores = np.concatenate([m["scores"] for m in messages if m["type"] == "scores"])
    seconds = np.concatenate([m["seconds"] for m in messages if m["type"] == "scores"])
    assert np.allclose(scores, FEATURES[:, :2], atol=1e-3)
    assert np.allclose(seconds, 0.1 + 0.2 * np.arange(10))
    start, end = (m for m in messages if m["type"] == "event")
    assert (start["kind"], start["start"], start["end"]) == ("start", pytest.approx(0.5), None)
    assert (end["kind"], end["segment"], end["end"]) == ("end", start["segment"], pytest.approx(1.1))
    assert messages[-1] == {"type": "end", "snippets": 10, "frames": 0, "dropped": 0, "faulty": 0}
    assert line.close_code == 1000


def test_a_gap_closes_what_is_open_and_moves_the_time(port):
    with stream(port) as line:
        line.send(hello())
        line.send(json.dumps({"type": "features", "values": [[1, 0, 0]]}))
        line.send(json.dumps({"type": "gap", "seconds": 7.5}))
        line.send(json.dumps({"type": "features", "values": [[0, 1, 0]]}))
        line.send(json.dumps({"type": "finish"}))
        messages = until_end(line)
    kinds = [m.get("kind", m["type"]) for m in messages]
    assert kinds == ["features", "scores", "start", "end", "scores", "end"]
    assert messages[4]["seconds"] == [7.5]


def push_pictures(port, times, colors, **fields):
    with stream(port) as line:
        line.send(hello("frames", when_slow="wait", **fields))
        for seconds, color in zip(times, colors, strict=True):
            head = b"" if seconds is None else struct.pack("<4sd", b"JPEG", seconds)
            line.send(head + jpeg(color))
        line.send(json.dumps({"type": "finish"}))
        return until_end(line)


def test_a_stream_of_pictures_whose_clock_starts_anywhere(port):
    times = 1e9 + 0.04 * np.arange(50)
    colors = ["red" if 10 <= i < 30 else "black" for i in range(50)]
    messages = push_pictures(port, times, colors)
    scores = np.concatenate([m["scores"] for m in messages if m["type"] == "scores"])
    assert len(scores) == 10
    assert np.allclose(scores[2:6, 0], 1, atol=0.02) and np.allclose(scores[6:, 0], 0, atol=0.02)
    events = [m for m in messages if m["type"] == "event"]
    assert [e["kind"] for e in events] == ["start", "end"] and events[0]["start"] == pytest.approx(0.5)
    assert messages[-1]["frames"] == 50 and messages[-1]["dropped"] == 0


def test_pictures_without_times_are_timed_by_their_coming(port):
    messages = push_pictures(port, [None] * 3, ["red"] * 3)
    assert messages[-1]["frames"] == 3 and messages[-1]["snippets"] >= 1


def test_a_jump_of_the_clock_is_a_gap_and_late_pictures_are_left_out(port):
    times = [0, 0.1, 0.2, 3600.0, 3600.1, 3600.05, 5.0, 5.1]
    messages = push_pictures(port, times, ["red"] * len(times))
    assert [m["type"] for m in messages].count("warning") == 1
    assert messages[-1]["faulty"] == 1
    ends = [m for m in messages if m["type"] == "event" and m["kind"] == "end"]
    assert len(ends) == 3  # each jump and the finish close what was open
    seconds = np.concatenate([m["seconds"] for m in messages if m["type"] == "scores"])
    assert np.all(np.diff(seconds) > 0) and len(seconds) == 4  # an hour of silence is no hour of snippets
    assert seconds[2] == pytest.approx(3600.1)


def test_pictures_that_come_too_fast_are_dropped_and_counted():
    class Slow(Model):
        def push_many(self, pushes):
            time.sleep(0.05)
            return super().push_many(pushes)

    with running(Service({"toy": served(model=Slow())})) as port, stream(port) as line:
        line.send(hello("frames"))
        for index in range(60):
            line.send(struct.pack("<4sd", b"JPEG", 0.2 * index) + jpeg("red"))
        line.send(json.dumps({"type": "finish"}))
        messages = until_end(line)
        assert messages[-1]["frames"] == 60
        assert 0 < messages[-1]["dropped"] < 60
        assert any("dropped so far" in m["error"]["what"] for m in messages if m["type"] == "warning")
        assert metric(port, 'tal_frames_dropped_total{run="toy"}') == messages[-1]["dropped"]


def test_several_streams_are_one_batch():
    model = Model()
    with running(Service({"toy": served(model=model)}, Limits(streams=8))) as port, ExitStack() as opened:
        lines = [opened.enter_context(stream(port)) for _ in range(8)]
        for line in lines:
            line.send(hello())
            line.recv()
        for _ in range(20):
            for number, line in enumerate(lines):
                line.send(json.dumps({"type": "features", "values": [[number / 10, 0, 0]]}))
        for number, line in enumerate(lines):
            line.send(json.dumps({"type": "finish"}))
            messages = until_end(line)
            scores = np.concatenate([m["scores"] for m in messages if m["type"] == "scores"])
            assert np.allclose(scores[:, 0], number / 10) and len(scores) == 20
    assert sum(model.batches) == 160
    assert max(model.batches) > 1


def test_metrics_count(port):
    before = metric(port, 'tal_detections_total{run="toy"}')
    assert post(port, npy(FEATURES)).status_code == 200
    assert metric(port, 'tal_detections_total{run="toy"}') == before + 3
    assert metric(port, 'tal_requests_total{path="/v1/detect",status="200"}') >= 1
    assert metric(port, 'tal_streams{run="toy"}') == 0


def test_the_page_of_the_interface_asks_nobody_else(port):
    page = get(port, "/docs").text
    assert "http://" not in page and "https://" not in page
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"docs-files/{file}" in page and get(port, f"/docs-files/{file}").status_code == 200
    assert "default-src 'none'" in get(port, "/docs").headers["content-security-policy"]
    interface = get(port, "/openapi.json").json()
    assert {"/v1/detect", "/v1/runs", "/healthz", "/metrics"} == set(interface["paths"])
    assert "F32" in interface["info"]["description"]


def test_a_stopping_server_says_so_and_leaves_nothing_behind():
    before = set(threading.enumerate())
    with ExitStack() as opened:
        with running() as port:
            line = opened.enter_context(stream(port))
            line.send(hello("frames"))
            line.recv()
            line.send(jpeg("red"))
            assert post(port, npy(FEATURES)).status_code == 200
            names = {t.name.split("_")[0] for t in set(threading.enumerate()) - before}
            assert names >= {"online-model", "files"}
        with pytest.raises(ConnectionClosed, match="1012"):
            line.recv(timeout=5)
    wait_until(lambda: not set(threading.enumerate()) - before)
    with pytest.raises(httpx.ConnectError):
        get(port, "/healthz")
