from fractions import Fraction

import av
import numpy as np
import pytest

from tal_core.types import InputError
from tal_core.video.frames import probe, read_frames
from tests.video.films import moving_patch, write_film


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.mp4", [moving_patch(k / 25, (0.5, 0)) for k in range(30)])


def test_probe_reads_the_header(film):
    info = probe(film)
    assert (info.fps, info.width, info.height) == (25, 128, 96)
    assert info.duration == pytest.approx(1.2)


def test_frames_come_in_order_with_their_times(film):
    times, frames = zip(*read_frames(film), strict=True)
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=1e-6)
    assert frames[0].shape == (96, 128, 3) and frames[0].dtype == np.uint8
    for k in (0, 29):
        assert np.abs(frames[k].astype(float) - moving_patch(k / 25, (0.5, 0))).mean() < 6


@pytest.mark.parametrize("name", ["film.mkv", "film.avi", "film.mov", "film.ts"])
def test_time_starts_at_zero_in_every_container(tmp_path, name):
    path = write_film(tmp_path / name, [moving_patch(k / 25) for k in range(10)])
    times = [t for t, _ in read_frames(path)]
    np.testing.assert_allclose(times, np.arange(10) / 25, atol=2e-3)
    assert probe(path).duration == pytest.approx(0.4, abs=0.09)


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 0.04, 0.3, 0.34, 1.0]
    path = write_film(tmp_path / "vfr.mkv", [moving_patch(t) for t in times], times=times)
    np.testing.assert_allclose([t for t, _ in read_frames(path)], times, atol=2e-3)


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("read", [probe, lambda path: list(read_frames(path))])
@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing.mp4", lambda path: None, "no such video file"),
        ("folder.mp4", lambda path: path.mkdir(), "no such video file"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "can't be read as a video"),
        ("text.mp4", lambda path: path.write_text("not a film " * 100), "can't be read as a video"),
        ("sound.m4a", write_sound, "no video stream"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, read, name, make, says):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(film):
    film.write_bytes(film.read_bytes()[:-400])  # loses its index
    with pytest.raises(InputError, match="can't be read as a video"):
        list(read_frames(film))
