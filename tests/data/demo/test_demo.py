import json
from dataclasses import replace
from itertools import islice, pairwise

import av
import numpy as np
import pytest

from tal_core.data.demo import actions
from tal_core.data.demo.actions import ACTIONS, FIDGETS, RESTING, Style, walk
from tal_core.data.demo.drawing import HEIGHT, WIDTH, draw_frames
from tal_core.data.demo.figure import joints
from tal_core.data.demo.script import NUM_VIDEOS, pose_at, write_script
from tal_core.video.extractors.extractor import extract
from tal_core.video.extractors.motion import STRIDE
from tal_core.video.frames import probe, read_frames
from tal_core.workspace import DEMO


@pytest.fixture(scope="module")
def scripts():
    return [write_script(0, index) for index in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def database():
    return json.loads((DEMO / "annotations.json").read_text())["database"]


def test_the_shipped_annotations_are_those_of_seed_0(scripts, database):
    assert database == {script.video_id: script.annotation() for script in scripts}


def test_every_class_is_in_both_subsets(scripts):
    for subset, videos in (("training", 42), ("testing", 18)):
        members = [script for script in scripts if script.subset == subset]
        assert len(members) == videos
        assert set().union(*(script.labels for script in members)) == set(ACTIONS)


def test_segments_are_in_order_inside_the_video_and_of_sensible_length(database):
    for video in database.values():
        times = [a["segment"] for a in video["annotations"]]
        assert times and all(0.5 <= end - start <= 8 for start, end in times)
        assert all(end <= later for (_, end), (later, _) in pairwise(times))
        assert times[0][0] > 0 and times[-1][1] < video["duration"]


def test_videos_are_whole_numbers_of_frames_and_snippets(scripts):
    assert {float(script.fps) for script in scripts} == {12.5, 15, 20, 25}
    for script in scripts:
        assert 30 <= script.duration <= 60
        assert script.duration / STRIDE == pytest.approx(round(script.duration / STRIDE))


def test_a_seed_fixes_the_frames_and_another_changes_them(scripts):
    def cut(script, seed):
        return [frame.tobytes() for frame in islice(draw_frames(script, seed), 5)]

    assert cut(scripts[3], 0) == cut(write_script(0, 3), 0)
    assert cut(scripts[3], 0) != cut(scripts[3], 1)
    assert write_script(1, 3).annotation() != scripts[3].annotation()


def test_the_shipped_videos_show_what_the_code_draws(scripts):
    paths = sorted((DEMO / "videos").glob("*.mp4"))
    subsets = [scripts[int(path.stem[-3:])].subset for path in paths]
    assert subsets.count("testing") == 18, "every video of the shipped run can be watched"
    path = paths[0]
    script = scripts[int(path.stem[-3:])]
    info = probe(path)
    assert (info.width, info.height, info.fps) == (WIDTH, HEIGHT, float(script.fps))
    assert info.duration == pytest.approx(script.duration, abs=1e-3)
    for (_, shown), drawn in islice(zip(read_frames(path), draw_frames(script, 0), strict=True), 20):
        assert np.abs(shown.astype(float) - drawn).mean() < 10


def test_the_shipped_videos_play_in_every_browser_while_they_load():
    for path in (DEMO / "videos").glob("*.mp4"):
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_the_shipped_features_are_those_of_the_shipped_video():
    path = min((DEMO / "videos").glob("*.mp4"), key=lambda path: path.stat().st_size)
    shipped = np.load(DEMO / "features" / f"{path.stem}.npy")
    found, _ = extract(path)
    np.testing.assert_allclose(shipped, found, atol=5e-3)


def test_the_shipped_demo_is_whole_and_small(database):
    assert {path.stem for path in (DEMO / "features").glob("*.npy")} == set(database)
    made = [p for part in ("features", "videos") for p in (DEMO / part).iterdir()]
    assert sum(path.stat().st_size for path in made) < 15e6
    for video_id, video in database.items():
        features = np.load(DEMO / "features" / f"{video_id}.npy", mmap_mode="r")
        assert features.dtype == np.float16 and len(features) == round(video["duration"] / STRIDE)


@pytest.mark.parametrize("name", [*ACTIONS, *FIDGETS])
def test_every_movement_is_smooth_and_names_known_joints(name):
    motion = (ACTIONS | FIDGETS)[name]
    style = Style("l", 1.0, 1, 0.5)
    poses = [motion.pose(phase, style) for phase in np.linspace(0, 0.999, 200)]
    for joint in poses[0]:
        assert joint in RESTING
        steps = np.abs(np.diff([pose[joint] for pose in poses]))
        assert steps.max() < 9, joint


def test_the_walk_names_known_joints():
    assert set(walk(1.0)) <= set(RESTING)


def test_feet_stand_on_the_floor_and_a_jump_leaves_it():
    def lowest(pose):
        return min(y for name, (_, y, _) in joints(RESTING | pose, 30).items() if name.endswith("foot"))

    style = Style("r", 1.0, 1, 0.5)
    assert lowest(actions.squat(0.5, style)) == pytest.approx(0)
    assert lowest(actions.jump(0.56, style)) > 0.2


def test_the_pose_has_no_leaps_where_movements_begin_and_end(scripts):
    script = scripts[0]
    for event in script.events:
        for moment in (event.start, event.end):
            (before, x0), (after, x1) = pose_at(script, moment - 1e-3), pose_at(script, moment + 1e-3)
            assert x0 == pytest.approx(x1, abs=1e-3)
            for joint, angle in before.items():
                assert (angle - after[joint] + 180) % 360 - 180 == pytest.approx(0, abs=0.5), joint


def test_scripts_are_independent_of_one_another():
    assert write_script(0, 7) == write_script(0, 7)
    assert replace(write_script(0, 7), index=8) != write_script(0, 8)
