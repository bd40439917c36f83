import json

import numpy as np
import pytest

from tal_core.data.demo import script as demo_script
from tal_core.types import InputError
from tal_core.video.drawing import demo_videos
from tal_core.video.extractors.motion import NUM_FEATURES


@pytest.fixture(autouse=True)
def short_videos(monkeypatch):
    monkeypatch.setattr(demo_script, "LENGTH", (2.0, 4.0))


def stand(folder):
    """Everything in a demo folder that a reader sees."""
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*.*") if p.name != ".lock"}


def test_a_demo_is_complete_and_made_once(tmp_path):
    seen = []
    toml = demo_videos.make_demo(tmp_path, num_videos=1, progress=lambda *step: seen.append(step))
    assert toml == tmp_path / "dataset.toml" and seen[-1] == (1, 1, "drew demo_000")
    database = json.loads((tmp_path / "annotations.json").read_text())["database"]
    features = np.load(tmp_path / "features/demo_000.npy")
    assert features.dtype == np.float16
    assert features.shape == (round(database["demo_000"]["duration"] / 0.2), NUM_FEATURES)
    before = stand(tmp_path)
    demo_videos.make_demo(tmp_path, num_videos=1)
    assert stand(tmp_path) == before


def test_two_processes_make_what_one_makes(tmp_path):
    demo_videos.make_demo(tmp_path / "two", num_videos=2)
    demo_videos.make_demo(tmp_path / "one", num_videos=1)
    for name in ("features/demo_000.npy", "videos/demo_000.mp4"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_interrupted_demo_is_finished(tmp_path, monkeypatch):
    def fail(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo_videos, "extract", fail)
        with pytest.raises(KeyboardInterrupt):
            demo_videos.make_demo(tmp_path, num_videos=1)
    assert not (tmp_path / "dataset.toml").exists() and not list(tmp_path.glob("features/*"))
    demo_videos.make_demo(tmp_path, num_videos=1)
    assert (tmp_path / "dataset.toml").exists() and len(list(tmp_path.glob("features/*.npy"))) == 1
    assert not list(tmp_path.rglob("*.part"))


def test_another_seed_makes_another_demo(tmp_path):
    demo_videos.make_demo(tmp_path, num_videos=1)
    before = (tmp_path / "videos/demo_000.mp4").read_bytes()
    demo_videos.make_demo(tmp_path, num_videos=1, seed=1)
    assert (tmp_path / "videos/demo_000.mp4").read_bytes() != before
    assert json.loads((tmp_path / "made.json").read_text())["seed"] == 1


def test_shipping_copies_the_finished_demo_and_leaves_a_run_alone(tmp_path):
    full, assets = tmp_path / "full", tmp_path / "assets"
    with pytest.raises(InputError, match="not a finished demo"):
        demo_videos.ship_demo(full, assets)
    demo_videos.make_demo(full, num_videos=1)
    (assets / "runs").mkdir(parents=True)
    (assets / "runs" / "kept").write_text("")
    (assets / "features").mkdir()
    (assets / "features" / "stale.npy").write_text("")
    demo_videos.ship_demo(full, assets)
    shipped = {str(p.relative_to(assets)) for p in assets.rglob("*.*") if p.is_file()}
    assert shipped == {"annotations.json", "dataset.toml", "features/demo_000.npy", "videos/demo_000.mp4"}
    assert (assets / "runs" / "kept").exists()
    assert str(tmp_path) not in (assets / "dataset.toml").read_text()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        demo_videos.make_demo(tmp_path / "file", num_videos=1)
