"""Videos as people have them: every kind either gives its frames at the right times, or a clear refusal."""

import numpy as np
import pytest

from tal_core.types import InputError
from tal_core.video.extractors.extractor import extract
from tal_core.video.extractors.motion import NUM_FEATURES
from tal_core.video.frames import Damage, duration_of, picture, probe, read_frames
from tests.video.odd_videos import CARD, SMALL_H264, cut, ffmpeg, patch, remux, spoil

EVERY_40_MS = np.arange(25) * 0.04


def read(path, **how):
    damage = Damage()
    times, frames = zip(*read_frames(path, damage=damage, **how), strict=True)
    assert (np.diff(times) > 0).all() and damage.frames == len(frames)
    return np.array(times), frames, damage


def half(width, height):
    return width // 2, height // 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return ffmpeg(tmp_path_factory.mktemp("odd") / "plain.mp4", *SMALL_H264)


@pytest.mark.parametrize(
    ("display", "turn"),
    [
        ({"degrees": 90}, lambda p: np.rot90(p, 1)),
        ({"degrees": 180}, lambda p: np.rot90(p, 2)),
        ({"degrees": 270}, lambda p: np.rot90(p, 3)),
        ({"degrees": 0, "hflip": True}, lambda p: p[:, ::-1]),
        ({"degrees": 90, "hflip": True}, lambda p: np.rot90(p[:, ::-1], 3)),
    ],
    ids=["90", "180", "270", "mirror", "mirror-90"],
)
def test_a_turned_phone_gives_upright_frames(plain, tmp_path, display, turn):
    path = remux(plain, tmp_path / "phone.mp4", **display)
    _, stored, _ = read(plain)
    times, shown, damage = read(path)
    np.testing.assert_array_equal(shown[3], turn(stored[3]))
    np.testing.assert_allclose(times, EVERY_40_MS, atol=1e-6)
    height, width = shown[0].shape[:2]
    assert (probe(path).width, probe(path).height) == (width, height) and not str(damage)
    _, scaled, _ = read(path, size=half)
    assert scaled[0].shape == (height // 2, width // 2, 3)
    np.testing.assert_array_equal(scaled[3], turn(read(plain, size=half)[1][3]))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("interlaced.mpg", ["-c:v", "mpeg2video", "-flags", "+ildct+ilme"]),
        ("ten-bit.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv420p10le"]),
        ("gray.mkv", ["-c:v", "ffv1", "-pix_fmt", "gray"]),
        ("gray-16.mkv", ["-c:v", "ffv1", "-pix_fmt", "gray16le"]),
        ("full-colour.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuv444p"]),
        ("see-through.mov", ["-c:v", "qtrle", "-pix_fmt", "argb"]),
        ("palette.gif", []),
        ("bare.h264", ["-c:v", "libx264", "-threads", "1"]),
        ("mjpeg.avi", ["-c:v", "mjpeg"]),
        ("b-frames.ts", ["-c:v", "libx264", "-threads", "1"]),
        ("vp8.webm", ["-c:v", "libvpx", "-b:v", "200k", "-threads", "1"]),
    ],
)  # fmt: skip
def test_every_pixel_format_and_container_gives_all_frames(tmp_path, name, arguments):
    path = ffmpeg(tmp_path / name, *arguments)
    times, frames, damage = read(path)
    np.testing.assert_allclose(times, EVERY_40_MS, atol=2e-3)
    assert {frame.shape for frame in frames} == {(64, 96, 3)} and frames[0].std() > 20
    assert str(damage) == ""
    assert probe(path).duration == pytest.approx(1.0, abs=0.13)


def test_odd_sizes_are_not_cropped(tmp_path):
    card = "testsrc=s=101x67:r=25:d=0.2"
    path = ffmpeg(tmp_path / "odd.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", source=card)
    _, frames, _ = read(path)
    assert frames[0].shape == (67, 101, 3) and len(frames) == 5


def test_4k_is_scaled_as_it_is_converted(tmp_path):
    path = ffmpeg(tmp_path / "4k.mkv", "-c:v", "mjpeg", source="testsrc2=s=3840x2160:r=5:d=0.6")
    _, large, _ = read(path)
    _, small, _ = read(path, size=lambda width, height: (width // 24, height // 24))
    assert large[0].shape == (2160, 3840, 3) and small[0].shape == (90, 160, 3)
    blocks = large[1].reshape(90, 24, 160, 24, 3)
    error = np.abs(small[1] - blocks.mean(axis=(1, 3))).mean()
    assert error < 0.8 * np.abs(blocks[:, 12, :, 12] - blocks.mean(axis=(1, 3))).mean()
    assert extract(path)[0].shape == (2, NUM_FEATURES)


def test_a_varying_frame_rate_keeps_its_times(tmp_path):
    path = ffmpeg(tmp_path / "vfr.mp4", "-vf", "select='not(between(n,8,15))'", "-vsync", "vfr", *SMALL_H264)
    times, _, damage = read(path)
    np.testing.assert_allclose(times, np.delete(EVERY_40_MS, range(8, 16)), atol=1e-3)
    assert not damage.broken and not damage.missing


def test_a_picture_that_starts_late_starts_late(tmp_path):
    late = ["-itsoffset", "0.6", "-f", "lavfi", "-i", f"{CARD}1"]
    path = ffmpeg(
        tmp_path / "late.mkv", *late, "-map", "0:a", "-map", "1:v", "-c:a", "pcm_s16le", *SMALL_H264,
        source="sine=d=2",
    )  # fmt: skip
    times, frames, damage = read(path)
    np.testing.assert_allclose(times, EVERY_40_MS + 0.6, atol=2e-3)
    assert len(frames) == 25 and not str(damage)
    features, grid = extract(path)
    assert grid.seconds(len(features) - 1) == pytest.approx(1.5), "snippets lie on the grid from second 0"


def test_noise_in_the_middle_is_skipped_reported_and_counted(tmp_path):
    whole = ffmpeg(tmp_path / "whole.mkv", "-c:v", "mjpeg", source=f"{CARD}4")
    path = remux(whole, tmp_path / "noise.mkv", spoil(40, 45))
    times, _, damage = read(path)
    np.testing.assert_allclose(times, np.delete(np.arange(100) * 0.04, range(40, 46)), atol=2e-3)
    assert damage.broken == 6 and damage.gaps == [pytest.approx((1.56, 1.84), abs=2e-3)]
    assert str(damage) == "6 broken packets; no picture at 1.6-1.8 s"
    assert extract(path)[0].shape == (20, NUM_FEATURES)


def test_frames_lost_on_the_way_leave_a_gap(tmp_path):
    whole = ffmpeg(tmp_path / "whole.ts", "-c:v", "mpeg2video", "-g", "1", source=f"{CARD}4")
    path = remux(whole, tmp_path / "lost.ts", lambda number, packet: None if 50 <= number < 60 else packet)
    times, _, damage = read(path)
    np.testing.assert_allclose(times, np.delete(np.arange(100) * 0.04, range(50, 60)), atol=2e-3)
    assert str(damage) == "no picture at 2.0-2.4 s"


def test_an_avi_with_holes_says_how_many_frames_are_missing(tmp_path):
    path = ffmpeg(tmp_path / "hole.avi", "-c:v", "mjpeg", source=f"{CARD}4")
    data = bytearray(path.read_bytes())
    middle = slice(len(data) * 40 // 100, len(data) * 45 // 100)
    data[middle] = bytes(middle.stop - middle.start)
    path.write_bytes(data)
    times, _, damage = read(path)
    assert damage.missing + damage.broken == 100 - len(times) > 0 and "missing frame" in str(damage)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_file_cut_short_gives_what_there_is(tmp_path, name):
    flags = ["-movflags", "+faststart"] if name.endswith("mp4") else []
    path = cut(ffmpeg(tmp_path / name, *SMALL_H264, *flags, source=f"{CARD}4"), 0.6)
    times, _, damage = read(path)
    assert 25 < len(times) < 75
    assert damage.ends == pytest.approx(times[-1] + 0.04, abs=1e-3) and damage.stated == pytest.approx(
        4, abs=0.1
    )
    assert f"cut short: ends at {damage.ends:.1f} of 4.0 s" in str(damage)
    assert len(extract(path)[0]) == pytest.approx(damage.ends / 0.2, abs=1)


def test_joined_recordings_of_two_sizes_go_on(tmp_path):
    first = ffmpeg(tmp_path / "a.ts", *SMALL_H264)
    second = ffmpeg(tmp_path / "b.ts", *SMALL_H264, source="testsrc=s=64x96:r=25:d=1")
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    times, frames, _ = read(path)
    assert (frames[0].shape, frames[-1].shape) == ((64, 96, 3), (96, 64, 3))
    np.testing.assert_allclose(np.diff(times), 0.04, atol=2e-3)  # though the second's own times begin anew
    _, scaled, _ = read(path, size=lambda width, height: (32, 32))
    assert {frame.shape for frame in scaled} == {(32, 32, 3)}
    assert np.isfinite(extract(path)[0]).all()


def sound(path):
    return ffmpeg(path, "-c:a", "aac", source="sine=d=0.5")


def song_with_cover(path):
    cover = ffmpeg(path.with_suffix(".png"), "-frames:v", "1")
    return ffmpeg(
        path, "-i", str(cover), "-map", "0:a", "-map", "1:v", "-c:a", "aac", "-c:v", "png", "-disposition:v",
        "attached_pic", source="sine=d=0.5",
    )  # fmt: skip


def no_frames(path):
    return ffmpeg(path, *SMALL_H264, "-frames:v", "0")


def all_noise(path):
    return remux(ffmpeg(path.with_name("a.mkv"), "-c:v", "mjpeg"), path, spoil(0, 99))


def unknown_codec_mp4(path):
    return patch(ffmpeg(path, *SMALL_H264), (b"avc1", b"zzz9"), (b"avcC", b"zzzC"))


def unknown_codec_mkv(path):
    return patch(ffmpeg(path, *SMALL_H264), (b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))


def without_index(path):
    return cut(ffmpeg(path, *SMALL_H264), 0.5)


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (sound, "sound.mp4", "holds no video stream"),
        (song_with_cover, "song.m4a", "holds no video stream"),
        (no_frames, "none.mp4", "holds no video stream"),
        (all_noise, "noise.mkv", "not one frame can be decoded"),
        (unknown_codec_mp4, "codec.mp4", "codec is not one that this program can decode"),
        (unknown_codec_mkv, "codec.mkv", "codec is not one that this program can decode"),
        (without_index, "cut.mp4", "can't be read as a video"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, make, name, says):
    path = make(tmp_path / name)
    with pytest.raises(InputError, match=says) as caught:
        list(read_frames(path))
    assert str(caught.value).startswith(str(path)) and caught.value.hint
    with pytest.raises(InputError, match=says):
        extract(path)
    assert duration_of(path) >= 0


def test_a_single_picture_is_a_video_too_short_for_features(tmp_path):
    path = ffmpeg(tmp_path / "one.mp4", *SMALL_H264, "-frames:v", "1")
    assert len(read(path)[0]) == 1
    with pytest.raises(InputError, match="too short for a single feature"):
        extract(path)


def test_frames_that_are_not_wanted_are_not_converted(plain, monkeypatch):
    converted = []
    monkeypatch.setattr(
        "tal_core.video.frames.picture", lambda *frame: converted.append(1) or picture(*frame)
    )
    times = [seconds for seconds, _ in read_frames(plain, wanted=lambda seconds: seconds > 0.5)]
    np.testing.assert_allclose(times, EVERY_40_MS[EVERY_40_MS > 0.5], atol=1e-6)
    assert len(converted) == len(times)
