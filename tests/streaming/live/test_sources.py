import gc
import socket
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tal_core.streaming.live import sources
from tal_core.streaming.live.inlet import Frame, Interruption
from tal_core.streaming.live.sources import Patience, open_source
from tal_core.types import InputError
from tests.streaming.web import answer, web_server
from tests.video.films import write_film

QUICK = Patience(open=1.0, read=1.0, first=0.0, lost=0.0)


def blinking(number: int, size=(48, 64)) -> list[np.ndarray]:
    return [np.full((*size, 3), 220 if (i // 10) % 2 else 20, np.uint8) for i in range(number)]


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "blink.mp4", blinking(50))


def read(source, limit: int = 10_000) -> list:
    items, stop = [], threading.Event()
    for item in source.items(stop):
        items.append(item)
        if len(items) == limit:
            stop.set()
    return items


def times(items) -> list[float]:
    return [item.seconds for item in items if isinstance(item, Frame)]


# -- files --------------------------------------------------------------------------------------------


def test_a_file_as_fast_as_possible(film):
    source = open_source(str(film))
    assert not source.live and source.state == "connecting"
    items = read(source)
    assert times(items) == pytest.approx(np.arange(50) / 25, abs=1e-3)
    assert source.decoded == 50 and source.broken == 0 and source.state == "running"
    assert items[15].picture().mean() > 200 > 50 > items[5].picture().mean()


def test_a_paced_file_takes_its_time(film):
    source = open_source(str(film), paced=True)
    assert source.live
    began = time.monotonic()
    items = read(source, 20)
    late = [item.arrived - items[0].arrived - item.seconds for item in items]
    assert time.monotonic() - began >= 18 / 25
    assert min(late) > -0.005, "never early"


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    stamps = [0.0, 0.04, 0.3, 0.31, 0.9, 1.5]
    path = write_film(tmp_path / "vfr.mkv", blinking(6), times=stamps)
    assert times(read(open_source(str(path)))) == pytest.approx(stamps, abs=2e-3)


def test_a_leap_of_a_files_time_is_a_gap_that_pacing_does_not_wait_for(tmp_path):
    path = write_film(tmp_path / "leap.mkv", blinking(6), times=[0.0, 0.04, 0.08, 600.0, 600.04, 600.08])
    began = time.monotonic()
    items = read(open_source(str(path), paced=True))
    assert time.monotonic() - began < 5
    assert [type(item) for item in items] == [Frame] * 3 + [Interruption] + [Frame] * 3
    assert "jumped by +599.9 s" in items[3].reason


def test_time_that_begins_anew_in_a_file_is_a_gap(tmp_path):
    parts = [write_film(tmp_path / f"{n}.ts", blinking(25)).read_bytes() for n in range(2)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    items = read(open_source(str(tmp_path / "joined.ts")))
    assert sum(isinstance(item, Interruption) for item in items) == 1
    assert len(times(items)) == 50 and min(np.diff(times(items))) > 0


def test_a_picture_that_changes_its_size_goes_on(tmp_path):
    parts = [write_film(tmp_path / f"{w}.ts", blinking(25, (48, w))).read_bytes() for w in (64, 96)]
    (tmp_path / "rotating.ts").write_bytes(b"".join(parts))
    items = [item for item in read(open_source(str(tmp_path / "rotating.ts"))) if isinstance(item, Frame)]
    assert {item.picture().shape for item in items} == {(48, 64, 3), (48, 96, 3)}
    assert {item.picture(lambda w, h: (32, 24)).shape for item in items} == {(24, 32, 3)}


def test_odd_sizes(tmp_path):
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 33, 17, "bgr0"
        for picture in blinking(3, (17, 33)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert [item.picture().shape for item in read(open_source(str(tmp_path / "odd.mkv")))] == [
        (17, 33, 3)
    ] * 3


def test_broken_parts_of_a_file_are_counted_and_passed_over(tmp_path):
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(50)]
    content = bytearray(write_film(tmp_path / "noise.mp4", pictures).read_bytes())
    third = len(content) // 3
    content[third : third + 60_000] = noise.bytes(60_000)
    (tmp_path / "broken.mp4").write_bytes(content)
    source = open_source(str(tmp_path / "broken.mp4"))
    items = read(source)
    assert 10 < len(items) <= 50 and source.broken > 0


@pytest.mark.parametrize(
    "content", [b"", b"no video at all" * 99, b"\0" * 5000], ids=["empty", "text", "zeros"]
)
def test_what_is_no_video_is_refused(tmp_path, content):
    (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"film\.mp4"):
        read(open_source(str(tmp_path / "film.mp4")))


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_in_a_folder_leads_nowhere(film, tmp_path, name):
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="can't be read as a video"):
        read(open_source(str(tmp_path / name), allowed=[tmp_path]))


def test_a_list_of_files_leads_nowhere(film, tmp_path):
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {film.name}\n")
    (tmp_path / film.name).write_bytes(film.read_bytes())
    with pytest.raises(InputError, match="can't be read as a video"):
        read(open_source(str(tmp_path / "list.mp4")))


# -- the web ------------------------------------------------------------------------------------------


def test_a_file_behind_http_has_an_end_and_can_wait(film):
    with web_server({"/film.mp4": answer(film.read_bytes())}) as server:
        source = open_source(server.url("/film.mp4"), patience=QUICK)
        assert times(read(source)) == pytest.approx(np.arange(50) / 25, abs=1e-3)
        assert not source.live and source.reconnects == 0


def test_an_hls_playlist(film, tmp_path):
    segment = write_film(tmp_path / "0.ts", blinking(50)).read_bytes()
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n0.ts\n#EXT-X-ENDLIST\n"
    pages = {"/live.m3u8": answer(text.encode(), "application/vnd.apple.mpegurl"), "/0.ts": answer(segment)}
    with web_server(pages) as server:
        assert len(times(read(open_source(server.url("/live.m3u8"), patience=QUICK)))) == 50


def test_hls_that_goes_on_is_waited_for(tmp_path):
    with av.open(
        str(tmp_path / "x.m3u8"), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}
    ) as hls:
        stream = hls.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.gop_size = 25
        for picture in blinking(150):
            hls.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        hls.mux(stream.encode())
    began = time.monotonic()

    def playlist(handler):
        there = min(6, 3 + int((time.monotonic() - began) / 1.2))
        head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
        text = head + "".join(f"#EXTINF:1.0,\n/x{number}.ts\n" for number in range(there))
        answer(text.encode(), "application/vnd.apple.mpegurl")(handler)

    pages = {f"/{path.name}": answer(path.read_bytes(), "video/mp2t") for path in tmp_path.glob("x*.ts")}
    with web_server({"/live.m3u8": playlist, **pages}) as server:
        source = open_source(server.url("/live.m3u8"), patience=Patience(2, 0.3, 0, 0))
        items = read(source, 110)
    assert source.live and source.reconnects == 0
    assert not [item for item in items if isinstance(item, Interruption)]
    assert np.diff(times(items)) == pytest.approx(1 / 25, abs=0.002)


def test_a_camera_that_sends_jpegs_breaks_off_and_comes_back(monkeypatch):
    monkeypatch.setattr(sources, "PAUSES", (0.01, 0.02))

    def jpegs(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        handler.end_headers()
        for picture in blinking(20):
            content = cv2.imencode(".jpg", picture)[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            handler.wfile.write(head.encode() + content + b"\r\n")

    with web_server({"/cam": jpegs}) as server:
        source = open_source(server.url("/cam"), patience=Patience(read=1.0))
        items = read(source, 70)
    assert source.live and source.reconnects >= 2
    assert sum(isinstance(item, Interruption) for item in items) == source.reconnects
    assert min(np.diff(times(items))) > 0
    assert server.asked[:3] == ["/cam"] * 3


LIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n{key}#EXTINF:2,\n{entry}\n#EXT-X-ENDLIST\n"
HOSTILE = {
    "local": LIST.format(key="", entry="{film}"),
    "file": LIST.format(key="", entry="file://{film}"),
    "concat": LIST.format(key="", entry="concat:{film}|{film}"),
    "subfile": LIST.format(key="", entry="subfile,,start,0,end,0,,:{film}"),
    "key": LIST.format(key='#EXT-X-KEY:METHOD=AES-128,URI="file://{film}"\n', entry="0.ts"),
    "ffconcat": "ffconcat version 1.0\nfile 'file:{film}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_stream_that_points_to_local_files_gives_none_of_them(trick, film, tmp_path):
    local = write_film(tmp_path / "local.ts", blinking(10))
    text = HOSTILE[trick].format(film=local)
    pages = {f"/{name}": answer(text.encode(), "text/plain") for name in ("list.m3u8", "film.mp4")}
    with web_server({**pages, "/0.ts": answer(local.read_bytes())}) as server:
        for name in ("list.m3u8", "film.mp4"):
            with pytest.raises(InputError, match="no picture came"):
                read(open_source(server.url(f"/{name}"), patience=QUICK))


def test_a_redirection_to_a_local_file_is_not_followed(film):
    pages = {"/film.mp4": answer(b"", status=302, Location=f"file://{film}")}
    with web_server(pages) as server, pytest.raises(InputError, match="no picture came"):
        read(open_source(server.url("/film.mp4"), patience=QUICK))


@pytest.mark.parametrize(
    ("status", "says"), [(404, "Check the address"), (401, "user and password"), (500, "no picture came")]
)
def test_a_refusal_is_told_without_the_password(status, says):
    with web_server({"/film.mp4": answer(b"", status=status)}) as server:
        url = server.url("/film.mp4?token=hush").replace("http://", "http://me:secret@")
        with pytest.raises(InputError, match=says) as refusal:
            read(open_source(url, patience=QUICK))
    assert "secret" not in str(refusal.value) and "hush" not in str(refusal.value)


def test_a_stream_without_a_picture_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp3"), "w") as container:
        stream = container.add_stream("mp3", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    pages = {"/radio": answer((tmp_path / "sound.mp3").read_bytes(), "audio/mpeg")}
    with web_server(pages) as server, pytest.raises(InputError, match="holds no picture"):
        read(open_source(server.url("/radio"), patience=QUICK))


# -- addresses that hang, or where nobody is -----------------------------------------------------------


@pytest.fixture
def silence():
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["rtmp", "rtsp", "http", "https"])
def test_an_address_that_hangs_is_given_up(scheme, silence):
    source = open_source(f"{scheme}://127.0.0.1:{silence}/live/x", patience=Patience(0.3, 0.3, 0.0, 0.0))
    began = time.monotonic()
    with pytest.raises(InputError, match="no picture came"):
        read(source)
    assert time.monotonic() - began < 3


def test_where_nobody_listens_it_is_tried_again_for_a_while(monkeypatch):
    monkeypatch.setattr(sources, "PAUSES", (0.02, 0.1))
    attempts = []
    monkeypatch.setattr(
        sources.LiveSource, "_open", lambda self: attempts.append(time.monotonic()) or _refuse()
    )
    with pytest.raises(InputError, match=r"no picture came \(Connection refused\)"):
        read(open_source("rtmp://127.0.0.1:9/live/x", patience=Patience(first=0.6)))
    pauses = np.diff(attempts)
    assert 5 < len(attempts) < 20 and pauses[0] < 0.08 and pauses[-1] > 0.07


def _refuse():
    raise av.error.ConnectionRefusedError(111, "Connection refused", "rtmp://x")


def test_pauses_double_up_to_a_bound_with_jitter():
    middle = [pause for pause, _ in zip(sources._pauses(lambda: 0.5), range(6), strict=False)]
    assert middle == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert next(sources._pauses(lambda: 0.0)) < 0.25 < next(sources._pauses(lambda: 0.99))


def test_a_lost_source_is_given_up_after_the_time_allowed(monkeypatch, film):
    monkeypatch.setattr(sources, "PAUSES", (0.01, 0.01))

    def once(handler):
        pages.clear()
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        handler.end_headers()
        content = cv2.imencode(".jpg", blinking(1)[0])[1].tobytes()
        for _ in range(3):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            handler.wfile.write(head.encode() + content + b"\r\n")

    pages = {"/cam": once}
    with web_server(pages) as server:
        source = open_source(server.url("/cam"), patience=Patience(1, 1, 0, 0.2))
        with pytest.raises(InputError, match="is lost"):
            read(source)
    assert source.state == "reconnecting"


def test_a_camera_that_is_not_there():
    if Path("/dev/video9").exists():
        pytest.skip("this machine has ten cameras")
    with pytest.raises(InputError, match="no such camera"):
        read(open_source("camera:9", patience=QUICK))


def test_frames_that_were_looked_at_are_let_go_at_once(film):
    """Without waiting for a collection of garbage, which may not come for a long time."""
    gc.collect()
    gc.disable()
    try:
        for item in open_source(str(film)).items(threading.Event()):
            item.picture()
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) < 5
    finally:
        gc.enable()
