import numpy as np
import pytest

from tal_core.types import InputError
from tal_core.video.extractors.extractor import extract
from tal_core.video.extractors.motion import (
    BINS,
    CELLS,
    GRID,
    NUM_FEATURES,
    MotionExtractor,
    moving_region,
    shrink,
    stream_features,
)
from tal_core.video.frames import read_frames
from tests.video.films import moving_patch, write_film

OVERALL = CELLS * CELLS * (BINS + 1) + CELLS * CELLS * BINS  # where the region's flow histogram begins


def film(seconds=3.0, fps=25.0, **motion):
    return [(k / fps, moving_patch(k / fps, **motion)) for k in range(round(seconds * fps))]


def features(frames):
    return np.stack(list(stream_features(frames)))


@pytest.mark.parametrize("fps", [12.5, 15, 20, 25, 30, 60])
def test_snippets_lie_on_the_grid_at_every_frame_rate(fps):
    found = features(film(2.0, fps, velocity=(0.2, 0)))
    assert found.shape == (10, NUM_FEATURES) and found.dtype == np.float32
    assert np.isfinite(found).all()
    assert GRID.seconds(9) == pytest.approx(1.9)


def test_frame_rate_hardly_matters():
    slow, fast = (features(film(2.0, fps, velocity=(0.3, 0.1)))[2:9] for fps in (12.5, 20))
    scale = fast.std(axis=0).mean() + fast.mean()
    assert np.abs(slow - fast).mean() < 0.1 * scale


def test_file_and_stream_give_the_same(tmp_path):
    path = write_film(tmp_path / "film.mp4", [frame for _, frame in film(1.5, velocity=(0.4, 0))])
    whole, grid = extract(path)
    extractor, pieces = MotionExtractor(), []
    for seconds, frame in read_frames(path):
        pieces += extractor.push(seconds, frame)
    pieces += extractor.finish()
    np.testing.assert_array_equal(whole, np.stack(pieces))
    assert grid == GRID


def test_features_never_look_ahead():
    frames = film(2.0, velocity=(0.3, 0))
    extractor = MotionExtractor()
    early = [snippet for seconds, frame in frames[:30] for snippet in extractor.push(seconds, frame)]
    assert len(early) == 5  # frames up to 1.16 s settle the windows that end by 1.1 s
    np.testing.assert_array_equal(np.stack(early), features(frames)[:5])


@pytest.mark.parametrize(("velocity", "bin_"), [((0.4, 0), 0), ((0, 0.4), 2), ((-0.4, 0), 4), ((0, -0.4), 6)])
def test_motion_lands_in_the_bin_of_its_direction(velocity, bin_):
    start = {4: 1, 6: 1}.get(bin_, 0)
    frames = [(t, moving_patch(t - start, velocity=velocity)) for t, _ in film(1.0)]
    histogram = features(frames)[1:4, OVERALL : OVERALL + BINS].mean(axis=0)
    assert histogram.argmax() == bin_ and histogram[bin_] > 3 * histogram[(bin_ + 4) % BINS]


def test_camera_motion_is_taken_out():
    still, moved = OVERALL + BINS, slice(OVERALL, OVERALL + BINS)
    panned = features(film(1.0, camera=(0.25, 0.0)))[1:4]
    patch = features(film(1.0, camera=(0.25, 0.0), velocity=(0.5, 0.0)))[1:4]
    assert panned[:, still].min() > 0.95
    assert patch[:, moved].max() > 3 * panned[:, moved].max()


def test_a_still_video_has_features():
    found = features(film(1.0))
    assert np.isfinite(found).all() and found[:, OVERALL + BINS].min() == 1


def test_the_region_follows_the_motion():
    energy = np.zeros((30, 30), np.float32)
    assert moving_region(energy, aspect=4 / 3) == pytest.approx((2 / 3, 0.5, 0.6), abs=0.02)
    energy[20:24, 3:6] = 1
    x, y, half = moving_region(energy, aspect=4 / 3)
    assert (x, y) == pytest.approx((0.2, 22 / 30), abs=0.02) and half < 0.2


@pytest.mark.parametrize("size", [(120, 160), (360, 640), (1920, 1080), (50, 60), (2, 400)])
def test_any_picture_is_shrunk_to_the_working_size(size):
    gray = shrink(np.zeros((*size, 3), np.uint8))
    assert gray.dtype == np.uint8 and min(gray.shape) >= 32
    assert gray.size == pytest.approx(160 * 120, rel=0.1) or min(size) < 10


def test_a_change_of_size_and_a_gap_are_survived():
    frames = film(0.6, velocity=(0.4, 0)) + [(t + 3, moving_patch(t, size=(64, 64))) for t, _ in film(0.6)]
    found = features(frames)
    assert len(found) == 18 and np.isfinite(found).all()
    assert (found[6:13, OVERALL : OVERALL + BINS] == 0).all()  # no motion is made up for the gap


def test_time_must_go_on():
    extractor = MotionExtractor()
    extractor.push(1.0, moving_patch(0))
    with pytest.raises(ValueError, match="follows"):
        extractor.push(1.0, moving_patch(0))


def test_too_short_a_video_is_refused(tmp_path):
    path = write_film(tmp_path / "short.mp4", [moving_patch(0)])
    with pytest.raises(InputError, match="too short"):
        extract(path)
