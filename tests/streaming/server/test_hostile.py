"""What clients that mean harm, or are broken, get; and that nobody else is disturbed."""

import asyncio
import io
import json
import socket
import struct
import threading
import time

import numpy as np
import psutil
import pytest
import torch
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tal_core.streaming.online.events import Output
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Service
from tal_core.streaming.server.uvicorn_server import make_server
from tal_core.types import InputError
from tests.streaming.server.test_server import FEATURES, jpeg, npy, stream, video
from tests.streaming.server_tools import (
    CHANNELS,
    Model,
    Stream,
    get,
    hello,
    metric,
    post,
    raw,
    run_apart,
    running,
    served,
    until_end,
    wait_until,
)

TOKEN = "a-token-of-twenty-four-c"
LIMITS = Limits(body_bytes=2**20, message_bytes=2**16, streams=4, idle_seconds=1.5, request_seconds=3)


@pytest.fixture(scope="module")
def port():
    with running(Service({"toy": served()}, LIMITS)) as port:
        yield port


@pytest.fixture(scope="module")
def guarded():
    """A server with a token, as it listens beyond this machine."""
    with running(Service({"toy": served()}, LIMITS, TOKEN)) as port:
        yield port


def told(answer, status, words):
    """The one form of errors, with this status and these words."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"what", "where", "mend"}
    assert words in answer.text, answer.text


def fine(port):
    """Someone else is served as if nothing were."""
    assert len(post(port, npy(FEATURES)).json()["detections"]) == 3


# ---------------------------------------------------------------- files


def with_values(value):
    features = FEATURES.copy()
    features[3, 1] = value
    return features


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def pickled_npy(path):
    file = io.BytesIO()
    np.save(file, np.array([Evil(path)], dtype=object), allow_pickle=True)
    return file.getvalue()


def pickled_pt(path):
    file = io.BytesIO()
    torch.save({"features": Evil(path)}, file)
    return file.getvalue()


@pytest.mark.parametrize("make", [pickled_npy, pickled_pt])
def test_pickles_are_never_opened(port, tmp_path, make):
    trap = tmp_path / "trap"
    name = "f.npy" if make is pickled_npy else "f.pt"
    told(post(port, make(trap), f"/v1/detect?name={name}"), 422, "pickle")
    assert not trap.exists()
    fine(port)


def huge_header():
    """An .npy that says it holds 4 TB."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1)})
    return file.getvalue()


def bomb_npz():
    """Some KB that grow to 400 MB."""
    file = io.BytesIO()
    np.savez_compressed(file, features=np.zeros((100_000, 1_000), np.float32))
    return file.getvalue()


@pytest.mark.parametrize(
    "content,words",
    [
        (npy(FEATURES[:, :2]), "channels"),
        (npy(with_values(np.nan)), "NaN"),
        (npy(with_values(np.inf)), "infinite"),
        (npy(FEATURES)[:-20], "missing"),
        (npy(FEATURES[:0]), "empty"),
        (npy(np.zeros((2, 3, CHANNELS), np.float32)), "3-D"),
        (npy(np.array([["a", "b", "c"]])), "real number"),
        (huge_header(), "missing"),
        (b"", "empty"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "as a video"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "as a video"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n", "as a video"),
        (b"\0" * 5000, "as a video"),
    ],
    ids=range(13),
)
def test_faulty_files_are_refused(port, content, words):
    answer = post(port, content)
    told(answer, 422, words)
    assert "/tmp" not in answer.text
    fine(port)


def test_an_archive_that_grows_is_not_unpacked(port):
    process = psutil.Process()
    before = process.memory_info().rss
    content = bomb_npz()
    told(post(port, content, "/v1/detect?name=f.npz"), 413, "too large")
    assert process.memory_info().rss - before < 600 * 2**20
    fine(port)


def test_truncated_and_corrupt_videos(port, tmp_path):
    whole = video(tmp_path / "v.mp4")
    corrupt = bytearray(whole)
    for place in range(len(whole) // 3, len(whole) - 1, 7):
        corrupt[place] ^= 0x5A
    for content in (whole[: len(whole) // 2], bytes(corrupt), whole[:40]):
        answer = post(port, content)
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 422:
            told(answer, 422, "video")
    fine(port)


def test_a_video_of_huge_pictures_is_not_decoded(tmp_path):
    content = video(tmp_path / "v.mp4", seconds=0.2, size=(640, 480))
    with running(Service({"toy": served()}, Limits(pixels=320 * 240))) as port:
        told(post(port, content), 422, "640 x 480")


def test_a_video_that_takes_too_long_is_given_up(tmp_path):
    content = video(tmp_path / "v.mp4")

    class Slow:
        def __getattr__(self, name):
            time.sleep(0.2)
            return lambda *_: []

    service = Service({"toy": served(extractor=Slow)}, Limits(request_seconds=0.5))
    with running(service) as port:
        told(post(port, content), 503, "takes longer")


def test_bodies_that_are_too_large_are_cut_off(port):
    told(post(port, b"x" * (2**20 + 1)), 413, "larger than 1 MiB")

    def endless():
        for _ in range(10_000):
            yield b"x" * 65536

    # The server answers and closes while the client still sends: it sees one or the other.
    begin = time.monotonic()
    try:
        told(post(port, endless()), 413, "larger than 1 MiB")
    except OSError:
        pass
    except Exception as error:  # httpx wraps them
        assert "Error" in type(error).__name__
    assert time.monotonic() - begin < 10
    assert metric(port, 'tal_requests_total{path="/v1/detect",status="413"}') >= 2
    fine(port)


# ---------------------------------------------------------------- slow and malformed requests


def test_slow_bodies_and_heads_are_cut_off(port):
    with (
        socket.create_connection(("127.0.0.1", port), 20) as body,
        socket.create_connection(("127.0.0.1", port), 20) as head,
        socket.create_connection(("127.0.0.1", port), 20) as dripping,
    ):
        body.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        head.sendall(b"GET /healthz HTTP/1.1\r\nHost: lo")
        dripping.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        begin = time.monotonic()

        def drip():
            try:
                while time.monotonic() - begin < 15:
                    dripping.sendall(b"1\r\nx\r\n")
                    time.sleep(0.3)
            except OSError:
                pass

        dripper = threading.Thread(target=drip)
        dripper.start()
        fine(port)
        assert b"408" in body.recv(65536)
        assert head.recv(65536) == b""
        assert b"408" in dripping.recv(65536)
        assert time.monotonic() - begin < 10
        dripping.close()
        dripper.join()


@pytest.mark.parametrize(
    "path,status",
    [
        ("/v1/detect?run=../../etc/passwd", 404),
        ("/v1/detect?run=..%2F..%2Fetc", 404),
        ("/v1/detect?run=" + "a" * 500, 422),
        ("/v1/detect?min_score=nan", 422),
        ("/v1/detect?min_score=2", 422),
        ("/v1/detect?unknown=1", 422),
        ("/nothing", 404),
        ("/healthz", 405),
    ],
)
def test_odd_addresses(port, path, status):
    told(post(port, npy(FEATURES), path), status, "")


def test_only_the_files_of_the_docs_are_given(port):
    for path in (
        "..",
        "../core.py",
        "%2e%2e/core.py",
        "..%2fcore.py",
        "../../../../../etc/passwd",
        "/etc/passwd",
    ):
        head = f"GET /docs-files/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert b" 404 " in raw(port, head.encode()).split(b"\r\n")[0], path


def test_forms_with_something_else(port):
    import httpx

    url = f"http://127.0.0.1:{port}/v1/detect"
    told(httpx.post(url, files={"other": b"x"}, trust_env=False), 422, "part named file")
    told(httpx.post(url, files=[("file", b"x"), ("file", b"y")], trust_env=False), 400, "")
    told(httpx.post(url, data={"a": "b"}, files={"file": b"x"}, trust_env=False), 400, "")
    broken = httpx.post(
        url,
        content=b"--x\r\nnonsense",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
        trust_env=False,
    )
    assert broken.status_code in (400, 422)


def test_a_failure_inside_tells_no_secrets():
    def detect(*_):
        raise RuntimeError("secret")

    with running(Service({"toy": served(detect=detect)})) as port:
        answer = post(port, npy(FEATURES))
        told(answer, 500, "the server failed")
        assert "secret" not in answer.text


def test_too_many_detections_at_once():
    held = threading.Event()

    def detect(features, grid, name):
        assert held.wait(20)
        raise InputError("slow")

    with running(Service({"toy": served(detect=detect)}, Limits(detections=1))) as port:
        statuses = []
        clients = [
            threading.Thread(target=lambda: statuses.append(post(port, npy(FEATURES)).status_code))
            for _ in range(10)
        ]
        for client in clients:
            client.start()
        wait_until(lambda: len(statuses) == 6)
        assert statuses == [503] * 6
        held.set()
        for client in clients:
            client.join()
        assert statuses[6:] == [422] * 4


# ---------------------------------------------------------------- who may come in


def test_other_names_and_origins_are_refused(port):
    told(get(port, "/v1/runs", headers={"Host": "evil.example"}), 403, "evil.example")
    told(get(port, "/v1/runs", headers={"Host": f"127.0.0.1.evil.example:{port}"}), 403, "evil.example")
    told(get(port, "/v1/runs", headers={"Origin": "https://evil.example"}), 403, "evil.example")
    told(get(port, "/v1/runs", headers={"Origin": "null"}), 403, "null")
    told(get(port, "/v1/runs", headers={"Origin": "http://127.0.0.1:1"}), 403, "127.0.0.1:1")
    assert get(port, "/v1/runs", headers={"Origin": f"http://127.0.0.1:{port}"}).status_code == 200
    for headers in ({"Origin": "https://evil.example"},):
        with pytest.raises(InvalidStatus) as refused, stream(port, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403
    request = "GET /v1/stream HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert b" 403 " in raw(port, request.encode())


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_wrong_or_missing_token(guarded, header):
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/runs", "/metrics", "/nothing"):
        answer = get(guarded, path, headers=headers)
        told(answer, 401, "token")
        assert answer.headers["www-authenticate"] == "Bearer"
    told(post(guarded, npy(FEATURES), headers=headers), 401, "token")
    if header:
        with pytest.raises(InvalidStatus) as refused, stream(guarded, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 401


def test_the_right_token(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert get(guarded, "/v1/runs", headers=headers).status_code == 200
    assert get(guarded, "/healthz").status_code == get(guarded, "/docs").status_code == 200
    with stream(guarded, additional_headers=headers) as line:
        line.send(hello())
        assert json.loads(line.recv())["type"] == "ready"
    with stream(guarded) as line:
        line.send(hello(token=TOKEN))
        assert json.loads(line.recv())["type"] == "ready"
    for message in (hello(), hello(token="wrong")):
        with stream(guarded) as line:
            line.send(message)
            assert "token" in until_end(line)[-1]["error"]["what"]
            with pytest.raises(ConnectionClosed, match="4401"):
                line.recv(timeout=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_listening_to_others_without_a_token(host):
    with pytest.raises(InputError, match="TAL_TOKEN"):
        make_server(Service({"toy": served()}), host, 0)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize(
    "message,code,words",
    [
        (b"\0\1", 4400, "hello"),
        ("{", 4422, "JSON"),
        ('{"type": "finish"}', 4422, "type"),
        (hello("sounds"), 4422, "kind"),
        (hello(secret=1), 4422, "secret"),
        (hello(run="other"), 4404, "other"),
        (hello(run="../../etc"), 4404, "etc"),
        (hello(run=7), 4422, "run"),
        ("[" * 30_000, 4422, "recursion"),
    ],
    ids=range(9),
)
def test_wrong_hellos(port, message, code, words):
    with stream(port) as line:
        line.send(message)
        error = until_end(line)[-1]["error"]
        assert words.lower() in f"{error['what']} {error['where']}".lower(), error
        with pytest.raises(ConnectionClosed, match=str(code)):
            line.recv(timeout=5)


F32 = struct.pack("<4sI", b"F32 ", CHANNELS)


@pytest.mark.parametrize(
    "message,words",
    [
        (F32 + FEATURES.tobytes()[:-1], "whole number"),
        (struct.pack("<4sI", b"F32 ", 2**32 - 1), None),
        (struct.pack("<4sI", b"F32 ", 0) + b"abcd", "whole number"),
        (struct.pack("<4sI", b"F32 ", 2) + b"abcdefgh", "2 channels"),
        (F32 + with_values(np.nan).tobytes(), "NaN"),
        (F32 + with_values(-np.inf).tobytes(), "infinite"),
        (b"F32", "header"),
        (jpeg("red"), "header"),
        ('{"type": "features", "values": [[1, 2]]}', "2 channels"),
        ('{"type": "features", "values": [[1, 2, 3], [1]]}', "lengths"),
        ('{"type": "features", "values": [[1, 2, NaN]]}', "NaN"),
        ('{"type": "features", "values": [[1e39, 0, 0]]}', "infinite"),
        ('{"type": "features", "values": "abc"}', "array"),
        ('{"type": "features", "values": [[1, 2, 3]], "more": 1}', "more"),
        ('{"type": "gap", "seconds": -1}', "seconds"),
        ('{"type": "gap", "seconds": 1e300}', "seconds"),
        ('{"type": "shout"}', "type"),
        ('{"type": "features", "values": []}', None),
        ("nonsense", "JSON"),
    ],
    ids=range(19),
)
def test_wrong_messages_end_only_their_own_stream(port, message, words):
    with stream(port) as other, stream(port) as line:
        other.send(hello())
        line.send(hello())
        line.recv()
        line.send(message)
        if words is None:  # no snippets at all: nothing to object to
            line.send('{"type": "finish"}')
            assert until_end(line)[-1]["snippets"] == 0
        else:
            error = until_end(line)[-1]["error"]
            assert words.lower() in f"{error['what']} {error['where']}".lower(), error
            with pytest.raises(ConnectionClosed, match="4422"):
                line.recv(timeout=5)
        other.send(F32 + FEATURES.tobytes())
        other.send('{"type": "finish"}')
        assert until_end(other)[-1]["snippets"] == 10


def jpeg_bomb(width=60_000, height=60_000):
    """A small whole JPEG whose header says it is huge."""
    content = bytearray(jpeg("red"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def test_bad_pictures_are_left_out_and_the_stream_goes_on(port):
    process = psutil.Process()
    with stream(port) as line:
        line.send(hello("frames", when_slow="wait"))
        line.recv()
        line.send(struct.pack("<4sd", b"JPEG", 0.0) + jpeg("red"))
        before = process.memory_info().rss
        bad = [jpeg_bomb(), jpeg_bomb(9_000, 9_000), jpeg("red")[:200], jpeg("red")[:3], b"JPEG" + b"\0" * 8]
        for content in bad:
            line.send(struct.pack("<4sd", b"JPEG", 0.1) + content)
        line.send(struct.pack("<4sd", b"JPEG", 0.25) + jpeg("red", size=(80, 60)))
        line.send('{"type": "finish"}')
        messages = until_end(line)
    warnings = [m["error"]["what"] for m in messages if m["type"] == "warning"]
    assert len(warnings) == len(bad), warnings
    assert "larger than" in warnings[0] and "9000 x 9000" in warnings[1]
    assert process.memory_info().rss - before < 100 * 2**20
    assert messages[-1] == {"type": "end", "snippets": 2, "frames": 7, "dropped": 0, "faulty": 5}


@pytest.mark.parametrize("head", [b"JPEG", b"JPEG\0\0", struct.pack("<4sd", b"JPEG", np.nan), b"GIF89a", b""])
def test_pictures_without_a_proper_head(port, head):
    with stream(port) as line:
        line.send(hello("frames"))
        line.recv()
        line.send(head)
        assert until_end(line)[-1]["type"] == "error"


def test_a_client_that_pushes_far_ahead_is_not_taken_for_dead():
    class Slow(Model):
        def push_many(self, pushes):
            time.sleep(0.005)
            return super().push_many(pushes)

    service = Service({"toy": served(model=Slow())}, Limits(idle_seconds=0.2))
    server, listener = make_server(service, "127.0.0.1", 0)
    listener.close()
    assert server.config.ws_ping_interval is None  # its answer would come behind all that was pushed
    with running(service) as port, stream(port, ping_interval=None) as line:
        line.send(hello("frames", when_slow="wait"))
        for index in range(120):
            line.send(struct.pack("<4sd", b"JPEG", 0.2 * index) + jpeg("red"))
        line.send('{"type": "finish"}')
        messages = until_end(line)
        assert messages[-1]["frames"] == 120 and messages[-1]["dropped"] == 0


def test_messages_that_are_too_large(port):
    for content in (b"x" * 2**17, '{"type": "features", "values": [' + "[1,2,3]," * 20_000 + "[1,2,3]]}"):
        with stream(port) as line:
            line.send(hello())
            line.recv()
            with pytest.raises(ConnectionClosed, match="1009"):
                line.send(content)
                line.recv(timeout=5)
    fine(port)


def test_silent_clients_are_told_and_closed(port):
    with stream(port) as unnamed, stream(port) as idle:
        idle.send(hello())
        for line in (unnamed, idle):
            assert "nothing came" in until_end(line)[-1]["error"]["what"]
            with pytest.raises(ConnectionClosed, match="4408"):
                line.recv(timeout=5)
    wait_until(lambda: metric(port, 'tal_streams{run="toy"}') == 0)


def test_a_client_that_never_reads_is_dropped():
    class Talkative(Stream):
        def push(self, features):
            return Output(np.zeros(3000), np.random.default_rng(0).random((3000, 2)), [])

    class Chatty(Model):
        def open_stream(self):
            return Talkative()

    service = Service({"toy": served(model=Chatty())}, Limits(streams=2, send_seconds=0.5))
    with running(service) as port, socket.socket() as deaf, stream(port) as other:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        request = f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        request += "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        deaf.sendall((request + "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        assert b" 101 " in deaf.recv(4096)
        deaf.sendall(masked(hello().encode(), 1))
        other.send(hello())
        other.recv()
        snippet = masked(struct.pack("<4sI3f", b"F32 ", 3, 0, 0, 0), 2)
        deaf.settimeout(0.2)
        before = psutil.Process().memory_info().rss
        gone = threading.Event()

        def push():
            while not gone.is_set():
                try:
                    deaf.sendall(snippet)
                except TimeoutError:
                    continue
                except OSError:
                    return

        pusher = threading.Thread(target=push)
        pusher.start()
        try:
            wait_until(lambda: metric(port, 'tal_streams{run="toy"}') == 1)
        finally:
            gone.set()
            pusher.join()
        assert metric(port, 'tal_streams_closed_total{code="1008"}') == 1
        assert psutil.Process().memory_info().rss - before < 50 * 2**20
        other.send(F32 + FEATURES.tobytes())
        other.send('{"type": "finish"}')
        assert until_end(other)[-1]["snippets"] == 3000


def masked(payload, opcode):
    """A WebSocket frame as a client sends it (RFC 6455, 5.2); the mask is zero."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + struct.pack(">H", length)
    return bytes([0x80 | opcode]) + size + b"\0" * 4 + payload


def test_a_hundred_clients_at_once(port):
    async def client(number):
        async with connect_async(f"ws://127.0.0.1:{port}/v1/stream", proxy=None) as line:
            await line.send(hello())
            ready = json.loads(await line.recv())
            if ready["type"] == "error":
                with pytest.raises(ConnectionClosed, match="1013"):
                    await line.recv()
                return "closed"
            values = [[number / 100, 0, 0]] * 5
            await line.send(json.dumps({"type": "features", "values": values}))
            await line.send('{"type": "finish"}')
            scores = json.loads(await line.recv())["scores"]
            assert np.allclose(np.array(scores)[:, 0], number / 100)
            return "served"

    async def everybody():
        return await asyncio.gather(*(client(number) for number in range(100)), return_exceptions=True)

    answers = run_apart(everybody())
    refused = [answer for answer in answers if isinstance(answer, InvalidStatus)]
    assert all(answer.response.status_code == 503 for answer in refused)
    assert answers.count("served") >= LIMITS.streams
    assert answers.count("served") + answers.count("closed") + len(refused) == 100, answers
    assert len(refused) + answers.count("closed") > 0
    wait_until(lambda: metric(port, 'tal_streams{run="toy"}') == 0)
    fine(port)


def test_clients_that_leave_at_any_point(port):
    for messages in ([], [hello()], [hello(), F32 + FEATURES.tobytes()], [hello("frames"), jpeg("red")]):
        with stream(port) as line:
            for message in messages:
                line.send(message)
            line.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: metric(port, 'tal_streams{run="toy"}') == 0)
    fine(port)


def test_a_run_without_a_stream_says_so():
    service = Service({"toy": served()})
    service.runs["files"] = served("files", model=None)
    object.__setattr__(service.runs["files"], "online", None)
    object.__setattr__(service.runs["files"], "why_not", "it makes proposals only")
    with running(service) as port, stream(port) as line:
        assert get(port, "/v1/runs").json()["runs"][1]["no_stream"] == "it makes proposals only"
        line.send(hello(run="files"))
        assert "proposals only" in until_end(line)[-1]["error"]["what"]
