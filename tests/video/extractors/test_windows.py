import numpy as np
import pytest

from tal_core.types import TimeGrid
from tal_core.video.extractors.extractor import extract_with
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.video.extractors.windows import FlowPictures, WindowExtractor
from tal_core.video.frames import read_frames
from tests.video.films import moving_patch, write_film


class Seen:
    """An encoder that keeps what it is shown, and answers with each clip's mean colour."""

    num_features, frames, size = 3, 4, 32

    def __init__(self):
        self.clips = []

    def __call__(self, clips):
        self.clips += list(clips)
        return clips.mean(axis=(1, 2, 3)).astype(np.float32)


def plain(level):
    return np.full((48, 64, 3), level, np.uint8)


def windows(frames, batch=1, **settings):
    given = {"name": "torchscript", "stride_seconds": 0.4, "snippet_seconds": 0.8, "frames": 4, **settings}
    extractor = WindowExtractor(ExtractorSpec(**given), Seen(), batch)
    found = [vector for seconds, frame in frames for vector in extractor.push(seconds, frame)]
    return extractor, found, found + extractor.finish()


def test_a_window_shows_what_a_player_shows_at_its_times():
    # frame k is as bright as k; at 10 a second, window i samples seconds 0.4 i + 0, 0.2, 0.4, 0.6
    extractor, early, found = windows([(k / 10, plain(k)) for k in range(21)])
    levels = [clip[:, 0, 0, 0].tolist() for clip in extractor.encoder.clips]
    assert levels == [[4 * i + k for k in (0, 2, 4, 6)] for i in range(4)] + [[16, 18, 20, 20]]
    assert len(early) == 4 and len(found) == 5
    assert extractor.grid == TimeGrid(0.4, 0.4) and extractor.delay == 0.4
    assert found[1][0] == pytest.approx(7)


def test_any_frame_rate_gives_the_same_number_of_snippets():
    for fps in (5, 12.5, 25, 29.97, 60, 240):
        frames = [(k / fps, plain(round(10 * k / fps))) for k in range(round(3 * fps))]
        assert len(windows(frames)[2]) == 7


def test_no_frame_is_awaited_longer_than_the_delay():
    extractor, _, _ = windows([])
    for k in range(50):
        end = extractor.grid.seconds(extractor._next) + extractor.delay
        found = extractor.push(k / 25, plain(k))
        assert bool(found) == (k / 25 >= end - 0.2 - 1e-6), "its last frame comes a fourth before its end"


def test_only_frames_that_a_window_shows_are_wanted():
    extractor = windows([])[0]
    kept = []
    for k in range(200):
        if extractor.wants(k / 50):
            kept.append(k / 50)
            extractor.push(k / 50, plain(k))
    np.testing.assert_allclose(kept, np.arange(20) * 0.2, atol=1e-9)


def test_gaps_and_late_starts_keep_the_grid_and_cost_one_encoding():
    frames = [(5 + k / 10, plain(k)) for k in range(5)] + [(60 + k / 10, plain(100 + k)) for k in range(20)]
    extractor, _, found = windows(frames, batch=8)
    assert len(found) == 154, "up to 61.9 s, one each 0.4 s"
    assert len(extractor.encoder.clips) < 20
    assert found[0][0] == 0 and found[100][0] == 4 and found[-1][0] > 110


def test_frames_that_are_not_wanted_change_nothing():
    frames = [(k / 60, plain(k)) for k in range(150)]
    _, _, every = windows(frames)
    chosen = windows([])[0]
    found = [v for seconds, frame in frames if chosen.wants(seconds) for v in chosen.push(seconds, frame)]
    np.testing.assert_array_equal(every, found + chosen.finish())
    with pytest.raises(ValueError, match="follows"):
        chosen.push(1.0, plain(0))


def test_a_file_and_a_stream_give_the_same_at_every_batch(tmp_path):
    path = write_film(tmp_path / "film.mp4", [moving_patch(k / 25, (0.4, 0)) for k in range(60)])
    for settings in ({}, {"modality": "both"}, {"fit": "squash"}):
        whole = extract_with(windows([], batch=8, **settings)[0], path)
        stream = windows([], **settings)[0]
        frames = read_frames(path, size=stream.picture_size)
        pieces = [vector for seconds, frame in frames for vector in stream.push(seconds, frame)]
        np.testing.assert_allclose(whole, pieces + stream.finish(), atol=1e-5)


def test_the_square_is_the_centre_or_the_whole_frame():
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:, :24] = 200
    crop, squash = (windows([], fit=fit)[0] for fit in ("crop", "squash"))
    assert crop.picture_size(96, 48) == (64, 32) and squash.picture_size(96, 48) == (32, 32)
    assert crop._square(picture).shape == squash._square(picture).shape == (32, 32, 3)
    assert crop._square(picture).max() == 0 and squash._square(picture)[:, :6].min() == 200
    assert crop.picture_size(20, 40) == (32, 64), "small frames are enlarged"


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_flow_is_seen_as_a_picture(method):
    frames = [(k / 10, moving_patch(k / 10, camera=(-0.2, 0.0), size=(48, 64))) for k in range(20)]
    extractor, _, found = windows(frames, modality="flow", flow=method, snippet_seconds=0.4)
    assert len(found[0]) == extractor.num_features == 3
    clip = extractor.encoder.clips[1][:, 8:24, 8:24].astype(float)
    across, down, speed = clip.mean(axis=(0, 1, 2)) - 128
    # the camera pans by 0.2 heights a second: at 32 pixels a side, 0.64 pixels in 0.1 s
    assert abs(across) == pytest.approx(0.64 * 127 / 20, abs=1.5)
    assert abs(down) < 1.5 and speed == pytest.approx(abs(across), abs=1.5)
    assert (extractor.encoder.clips[0][0] == 128).all(), "nothing is known before the first frame"


def test_both_puts_pictures_beside_flow():
    frames = [(k / 10, moving_patch(k / 10, (0.4, 0), size=(48, 64))) for k in range(20)]
    rgb, flow, both = (np.stack(windows(frames, modality=m)[2]) for m in ("rgb", "flow", "both"))
    np.testing.assert_allclose(both, np.concatenate([rgb, flow], axis=1), atol=1e-5)


def test_windows_that_overlap_share_their_flow(monkeypatch):
    between, real = [], FlowPictures._between
    monkeypatch.setattr(FlowPictures, "_between", lambda *given: between.append(1) or real(*given))
    frames = [(k / 10, moving_patch(k / 10, (0.4, 0), size=(48, 64))) for k in range(21)]
    _, _, found = windows(frames, modality="flow", stride_seconds=0.2)
    assert len(found) == 9 and len(between) <= 13
