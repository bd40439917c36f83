"""Burning in, on films that the tests make; what is drawn is read back from the written pixels."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from tal_core.background.processes import StopRequested
from tal_core.cli import main
from tal_core.types import InputError
from tal_core.video.drawing.burn_in import burn_in, shown_size
from tal_core.video.drawing.captions import Captions
from tal_core.video.frames import probe, read_frames
from tests.video.films import moving_patch, write_film

COLORS = {"wave": "#F2A448", "jump": "#4C77CC"}
ORANGE = (242, 164, 72)


def found(*rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["start", "end", "label", "score"])
    return table.assign(video_id="film")


def film(path: Path, seconds: float = 2.0, fps: float = 10, times=None) -> Path:
    times = np.arange(round(seconds * fps)) / fps if times is None else np.asarray(times)
    return write_film(path, [moving_patch(time, (0.2, 0)) for time in times], fps, times)


def with_sound(video: Path, out: Path, *options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(video), "-f", "lavfi", "-i", "sine=duration=2"]
    subprocess.run([*command, *options, "-shortest", str(out)], check=True)
    return out


def sound_of(path: Path) -> tuple[str, float, float]:
    """Codec, and where the sound starts and ends."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [(frame.time, frame.time + frame.samples / frame.rate) for frame in container.decode(stream)]
        return stream.codec_context.name, frames[0][0], frames[-1][1]


def near(picture: np.ndarray, color: tuple, slack: int = 40) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture.astype(int) - color).max(axis=2) <= slack).sum())


def test_the_action_of_the_moment_is_drawn_in_its_colour(tmp_path):
    out = tmp_path / "out.mp4"
    seen = []
    burn_in(
        film(tmp_path / "film.mp4"),
        found((0.5, 1.2, "wave", 0.9), (0.6, 1.0, "jump", 0.4)),
        out,
        COLORS,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    frames = list(read_frames(out))
    assert [time for time, _ in frames] == pytest.approx(np.arange(20) / 10, abs=1e-3)
    width, height = shown_size(128, 96)
    assert frames[0][1].shape[1] == width and frames[0][1].shape[0] > height
    captions = {time: near(frame[height:], ORANGE) for time, frame in frames}
    strip = captions[0.0] if 0.0 in captions else min(captions.values())
    inside = [count for time, count in captions.items() if 0.5 <= time + 1e-6 < 1.2]
    outside = [count for time, count in captions.items() if not 0.45 <= time < 1.25]
    assert strip > 0 and min(inside) > max(outside) + 50
    assert seen[-1] == (2000, 2000) and seen == sorted(seen)
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_the_playhead_goes_from_left_to_right():
    captions = Captions(found((1.0, 2.0, "wave", 0.9)), 10.0, 640, COLORS)
    columns = []
    for seconds in (0.0, 2.5, 5.0, 10.0):
        lower = captions.draw(seconds)[captions.height // 2 :].astype(int)
        columns.append(int(np.argmax((lower.min(axis=2) > 250).sum(axis=0))))
    assert columns == sorted(columns)
    assert columns[2] == pytest.approx(320, abs=2)


@pytest.mark.parametrize("label", ["挥手 ジャンプ", "Übergießen", "a very long label " * 20, "", "a\x00b\nc"])
def test_any_label_fits_the_bar(label):
    bar = Captions(found((0, 2, label, 0.5), *[(0, 2, f"x{k}", 0.4) for k in range(30)]), 2.0, 480, {}).draw(
        1.0
    )
    assert bar.shape[1] == 480 and bar.dtype == np.uint8
    assert near(bar, (228, 235, 240)) > 20


def test_variable_frame_times_are_kept(tmp_path):
    times = [0.0, 0.1, 0.15, 0.6, 0.61, 1.4, 1.5]
    out = tmp_path / "out.mp4"
    burn_in(film(tmp_path / "film.mp4", times=times), found(), out, COLORS)
    assert [time for time, _ in read_frames(out)] == pytest.approx(times, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("x.mp4", ["-c:v", "copy", "-c:a", "aac"], "aac"),
        ("x.mkv", ["-c:v", "copy", "-c:a", "libvorbis"], "aac"),
        ("x.ts", ["-c:v", "copy", "-c:a", "mp2"], "aac"),
        ("x.mov", ["-c:v", "copy", "-c:a", "pcm_s16le"], "aac"),
    ],
)
def test_sound_is_kept_and_stays_in_time(tmp_path, name, options, codec):
    video = with_sound(film(tmp_path / "film.mp4"), tmp_path / name, *options)
    out = tmp_path / "out.mp4"
    assert burn_in(video, found((0.5, 1.0, "wave", 0.9)), out, COLORS) == []
    (_, first, last), (made, start, end) = map(sound_of, (video, out))
    assert made == codec
    assert start == pytest.approx(0, abs=0.06) and end - start == pytest.approx(last - first, abs=0.06)


def test_a_turned_phone_video_stands_upright(tmp_path):
    turned = tmp_path / "turned.mp4"
    source = film(tmp_path / "film.mp4", 0.5)
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-c", "copy"]
    subprocess.run([*command, "-metadata:s:v:0", "rotate=90", str(turned)], check=True)
    out = tmp_path / "out.mp4"
    burn_in(turned, found(), out, COLORS)
    info = probe(out)
    width, height = shown_size(96, 128)
    assert info.width == width and info.height > height > width


def test_large_pictures_are_scaled_down_and_small_ones_up():
    assert shown_size(3840, 2160) == (1920, 1080)
    assert shown_size(2160, 3840) == (1080, 1920)
    assert shown_size(1280, 720) == (1280, 720)
    assert shown_size(160, 120) == (480, 360)
    assert shown_size(641, 361) == (640, 360)


def test_wrong_input_is_refused_and_nothing_is_left_behind(tmp_path):
    video, out = film(tmp_path / "film.mp4"), tmp_path / "out.mp4"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:300])
    for source, target, what in (
        (tmp_path / "absent.mp4", out, "no such video"),
        (broken, out, "can't be read as a video"),
        (video, tmp_path / "out.avi", "MP4"),
        (video, video, "there already"),
        (video, video / "under.mp4", "can't be written"),
    ):
        with pytest.raises(InputError, match=what):
            burn_in(source, found(), target, COLORS)

    def stop(*_):
        raise StopRequested

    with pytest.raises(StopRequested):
        burn_in(video, found(), out, COLORS, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "film.mp4"]


def test_a_full_disk_is_told_and_leaves_no_half_video(tmp_path):
    video, out = film(tmp_path / "film.mp4", 4), tmp_path / "out.mp4"
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[0][1]))
    try:
        with pytest.raises(InputError, match="can't be written"):
            burn_in(video, found(), out, COLORS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert os.listdir(tmp_path) == ["film.mp4"]  # noqa: PTH208


def test_predict_burns_in(tmp_path, capsys):
    video, out = film(tmp_path / "film.mp4"), tmp_path / "out.mp4"
    arguments = ["predict", "--run", "demo-baseline", "--video", str(video)]
    assert main(arguments) == 2
    assert "--out F, --burn-in" in capsys.readouterr().err
    assert main([*arguments, "--burn-in", str(out), "--min-score", "0.01"]) == 0
    assert "detections drawn into the video" in capsys.readouterr().out and probe(out).duration > 1
    assert main([*arguments, "--burn-in", str(out)]) == 2
    features = ["predict", "--run", "demo-baseline", "--features", "x.npy", "--burn-in", str(out)]
    assert main(features) == 2
    assert "belongs to --video" in capsys.readouterr().err
