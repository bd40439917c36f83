import os

import pytest

from tal_core.streaming.live.addresses import read_address, registered_folders, without_secrets
from tal_core.types import InputError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no source"),
        ("   ", "no source"),
        ("gopher://host/x", "'gopher' is not a kind of source"),
        ("file:///etc/passwd", "file: addresses are not opened"),
        ("FILE:/etc/passwd", "file: addresses are not opened"),
        ("concat:/etc/passwd|/etc/hosts", "'concat' is not"),
        ("subfile:,,start,0,end,9,,:/etc/passwd", "'subfile' is not"),
        ("subfile,,start,0,end,9,,:/etc/passwd", "there is no such file"),
        ("data:video/mp4;base64,AAAA", "'data' is not"),
        ("pipe:0", "'pipe' is not"),
        ("crypto:/etc/passwd", "'crypto' is not"),
        ("lavfi:testsrc", "'lavfi' is not"),
        ("udp://239.0.0.1:1234", "'udp' is not"),
        ("tcp://127.0.0.1:22", "'tcp' is not"),
        ("rtmp:/host/app", "not a complete address"),
        ("rtmp://", "not a complete address"),
        ("rtmp:///live/x", "not a complete address"),
        ("rtmp://host:99999/live", "not a complete address"),
        ("rtmp://host/live swfUrl=http://x conn=S:x", "not a complete address"),
        ("http://[::1", "not a complete address"),
        ("http:|file:/etc/passwd", "not a complete address"),
        ("rtsp://host/a\nb", "control characters"),
        ("rtsp://host/" + "a" * 3000, "too long"),
        ("no-such-file.mp4", "there is no such file"),
        ("/dev/null", "there is no such file"),
        ("/", "there is no such file"),
        ("a" * 1000, "there is no such file"),
        ("nul\0byte", "control characters"),
    ],
)
def test_everything_else_is_refused_in_one_line(text, says):
    with pytest.raises(InputError, match=says) as refusal:
        read_address(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600


def test_known_kinds(tmp_path):
    assert read_address("camera:0").target == "/dev/video0"
    assert read_address("/dev/video2").shown == "camera:2"
    network = read_address(" RTSP://user:secret@cam.local:554/stream?token=abc ")
    assert (network.kind, network.scheme) == ("network", "rtsp")
    assert network.target == "rtsp://user:secret@cam.local:554/stream?token=abc"
    assert "secret" not in network.shown and "abc" not in network.shown and "user" not in network.shown
    film = tmp_path / "a film: part 1.mp4"
    film.write_bytes(b"x")
    assert read_address(str(film)).target == str(film)


def test_who_is_remote_reads_only_registered_folders(tmp_path):
    inside, outside = tmp_path / "videos", tmp_path / "private"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "film.mp4").write_bytes(b"x")
    (inside / "link.mp4").symlink_to(outside / "film.mp4")
    assert read_address(str(inside / "film.mp4"), [inside]).target == str(inside / "film.mp4")
    for text in (
        outside / "film.mp4",
        inside / ".." / "private" / "film.mp4",
        inside / "link.mp4",
        "/etc/passwd",
    ):
        with pytest.raises(InputError, match="outside the registered folders"):
            read_address(str(text), [inside])
    with pytest.raises(InputError, match="outside the registered folders"):
        read_address("/no/such/file", [inside])  # nobody learns what is there and what isn't
    with pytest.raises(InputError, match="outside the registered folders"):
        read_address(str(inside / "film.mp4"), [])


def test_a_pipe_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="there is no such file"):
        read_address(str(tmp_path / "pipe.mp4"))


def test_registered_are_the_workspace_and_the_videos_of_datasets(home):
    folders = registered_folders(home)
    assert folders[0] == home
    assert any(folder.name == "videos" and folder.is_dir() for folder in folders[1:]), "the demo's"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtmp://host/live/demo", "rtmp://host/live/demo"),
        ("https://me:pw@host:8443/a?key=1#frag", "https://…@host:8443/a?…"),
    ],
)
def test_passwords_and_tokens_are_not_shown(url, shown):
    assert without_secrets(url) == shown
