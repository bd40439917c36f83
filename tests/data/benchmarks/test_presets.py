"""Presets of the public benchmarks: what they set, what overrides them, and that they fit the methods'."""

import numpy as np
import pytest

from tal_core.data.benchmarks.presets import benchmarks, describe, find_preset, preset_names
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.models.presets import presets
from tal_core.types import InputError
from tests.data.files_on_disk import arrays_for, four_videos, video, write_annotations, write_features

WANTED = {
    "thumos14", "multithumos", "activitynet", "hacs", "epic-kitchens-100", "ego4d-mq", "charades",
    "fineaction", "50salads",
}  # fmt: skip


def test_every_benchmark_is_there_with_its_sources():
    assert set(benchmarks()) == WANTED
    for name, benchmark in benchmarks().items():
        assert benchmark.source and benchmark.subsets and benchmark.features, name
        assert benchmark.tiou == sorted(benchmark.tiou)
        for convention in benchmark.features.values():
            assert convention.source and convention.title and describe(convention)
            assert convention.stretched == (convention.stride is None)


@pytest.mark.parametrize("name", preset_names())
def test_published_settings_exist(name):
    for method, preset in find_preset(name)[1].settings:
        assert preset in presets(method)


def test_every_published_setting_belongs_to_a_benchmark():
    named = {pair for name in preset_names() for pair in find_preset(name)[1].settings}
    methods = ("actionformer", "tridet", "temporalmaxer", "bmn", "bsn")  # SSN's are of raw clips
    assert named == {(method, preset) for method in methods for preset in presets(method)}


def test_a_benchmark_alone_means_its_first_features():
    assert find_preset("thumos14") == find_preset("thumos14-i3d")
    with pytest.raises(InputError, match=r"no benchmark 'thumos'.*thumos14"):
        find_preset("thumos")


def files(tmp_path, database, step):
    return {
        "annotations": write_annotations(tmp_path / "a.json", database),
        "features": write_features(tmp_path / "f", arrays_for(database, step)),
    }


def test_a_preset_sets_subsets_thresholds_and_time(home, tmp_path):
    database = {
        "a": video("training", 64.0, (1, 9, "run")),
        "b": video("validation", 96.0, (2, 30, "run")),
        "c": video("testing", 80.0, (2, 30, "run")),  # annotated, but not what ActivityNet evaluates on
    }
    entry = add_dataset(home, "anet", **files(tmp_path, database, 16 / 15), benchmark="activitynet")
    data = open_dataset(home, "anet")
    assert (entry.training_subset, entry.evaluation_subset) == ("training", "validation")
    assert entry.tiou == np.linspace(0.5, 0.95, 10).tolist()
    assert data.grid("a").stride == pytest.approx(16 / 15)
    assert data.grid("a").offset == pytest.approx(8 / 15)
    assert entry.benchmark == "activitynet" and entry.derived == []


def test_an_offset_in_frames_follows_each_video_s_frame_rate(home, tmp_path):
    database = {
        "a": video("validation", 20.0, (1, 9, "run"), fps=30.0),
        "b": video("test", 24.0, (2, 20, "run"), fps=25.0),
    }
    arrays = arrays_for(database, 4 / 30)
    arrays["b"] = np.repeat(arrays["b"], 2, axis=0)[:150]
    features = write_features(tmp_path / "f", arrays)
    annotations = write_annotations(tmp_path / "a.json", database)
    add_dataset(home, "thumos", annotations=annotations, features=features, benchmark="thumos14")
    data = open_dataset(home, "thumos")
    assert (data.training_subset, data.evaluation_subset) == ("validation", "test")
    assert [data.grid(v).offset for v in "ab"] == pytest.approx([8 / 30, 8 / 25])
    assert [data.grid(v).stride for v in "ab"] == pytest.approx([4 / 30, 4 / 25])


@pytest.mark.parametrize(
    ("said", "stride", "offset"),
    [
        ({"snippet_seconds": 0.5}, 0.5, 0.25),
        ({"stride": 15.0, "fps": 30.0}, 0.5, 0.25),
        ({"fps": 32.0}, 0.5, 0.25),
        ({"fps": 32.0, "offset_seconds": 0.1}, 0.5, 0.1),
        ({"fps": 32.0, "offset_frames": 16.0}, 0.5, 0.5),
    ],
)
def test_what_a_person_says_overrides_the_preset(home, tmp_path, said, stride, offset):
    add_dataset(home, "x", **files(tmp_path, four_videos(), 0.5), benchmark="activitynet", **said, tiou=[0.5])
    data = open_dataset(home, "x")
    assert data.grid("a").stride == pytest.approx(stride)
    assert data.grid("a").offset == pytest.approx(offset)
    assert data.tiou == [0.5]
    assert data.evaluation_subset == "testing"  # the file has no validation subset


@pytest.mark.parametrize("more", [{}, {"stride": 4.0, "fps": 8.0, "offset_seconds": 0.1}])
def test_an_offset_in_frames_needs_a_stride_and_no_other_offset(home, tmp_path, more):
    with pytest.raises(InputError, match="the offset in frames"):
        add_dataset(home, "x", **files(tmp_path, four_videos(), 0.5), offset_frames=8.0, **more)


def test_an_unknown_preset_registers_nothing(home, tmp_path):
    with pytest.raises(InputError, match="no benchmark 'imagenet'"):
        add_dataset(home, "x", **files(tmp_path, four_videos(), 0.5), benchmark="imagenet")
    assert not (home / "datasets" / "x.toml").exists()
