import dataclasses
import types

import numpy as np
import pytest

from tal_core.models.shared.weights import read_info
from tal_core.types import InputError, TimeGrid
from tal_core.video.extractors.extractor import extract, make_extractor, spec_of
from tal_core.video.extractors.motion import GRID, NUM_FEATURES, WINDOW
from tal_core.video.extractors.spec import KINDS, ExtractorSpec, read_spec, settings
from tal_core.workspace import DEMO
from tests.video.films import moving_patch, write_film


def trained_on(num_features=NUM_FEATURES, grid=GRID, extractor=None):
    return types.SimpleNamespace(num_features=num_features, grid=grid, extractor=extractor)


def test_a_spec_says_all_that_counts_and_survives_a_file():
    spec = ExtractorSpec()
    assert spec.table() == {
        "name": "motion",
        "stride_seconds": 0.2,
        "snippet_seconds": 0.4,
        "dtype": "float16",
    }
    assert spec.grid == GRID and spec.snippet_seconds == WINDOW
    for name in KINDS:
        spec = ExtractorSpec(name=name)
        assert read_spec(spec.table()) == spec and hash(spec)
        assert {setting.name for setting in settings(name)} == set(KINDS[name].defaults)


def test_settings_from_texts_become_numbers():
    spec = read_spec({"name": "s3d", "stride_seconds": "0.5", "frames": "32", "fit": "squash"})
    assert (spec.stride_seconds, spec.frames, spec.fit, spec.frame_size) == (0.5, 32, "squash", 224)
    assert spec.grid == TimeGrid(0.5, spec.snippet_seconds / 2)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": "i3d"}, "no extractor 'i3d'; known are motion, "),
        ({"name": 7}, "no extractor 7"),
        ({"frame_size": 224}, "motion has no frame_size; it takes stride_seconds, "),
        ({"colour": "red"}, "motion has no colour"),
        ({"name": "mvit_v2_s", "frames": 8}, "mvit_v2_s has no frames"),
        ({"stride_seconds": 0}, "stride_seconds can't be 0. Allowed: a number above 0"),
        ({"stride_seconds": "often"}, "stride_seconds can't be 'often'"),
        ({"name": "s3d", "modality": "depth"}, "modality can't be 'depth'. Allowed: rgb, flow, both"),
        ("motion", "valid dictionary"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_in_one_line(values, says):
    with pytest.raises(InputError, match=says) as caught:
        read_spec(values, where="there")
    assert str(caught.value).startswith("there: ") and "extract --list" in str(caught.value)


def test_the_model_of_a_spec_is_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "own.onnx").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert ExtractorSpec(name="onnx", model="own.onnx").model == str(tmp_path / "own.onnx")
    assert ExtractorSpec(name="image", model="openai/clip").model == "openai/clip"


def test_other_settings_of_the_built_in_extractor_change_its_grid(tmp_path):
    path = write_film(tmp_path / "film.mp4", [moving_patch(k / 25, (0.4, 0)) for k in range(50)])
    usual, grid = extract(path)
    sparse, other = extract(path, ExtractorSpec(stride_seconds=0.4, snippet_seconds=0.8))
    assert grid == GRID and other == TimeGrid(0.4, 0.2)
    assert usual.shape == (10, NUM_FEATURES) and sparse.shape == (5, NUM_FEATURES)


def test_frames_that_are_not_wanted_change_nothing():
    frames = [(k / 60, moving_patch(k / 60, (0.4, 0))) for k in range(90)]
    every, chosen = make_extractor(ExtractorSpec()), make_extractor(ExtractorSpec())
    all_of_them = [vector for seconds, frame in frames for vector in every.push(seconds, frame)]
    wanted = [s for seconds, frame in frames if chosen.wants(seconds) for s in chosen.push(seconds, frame)]
    np.testing.assert_array_equal(all_of_them, wanted)


def test_a_run_knows_its_extractor():
    spec = ExtractorSpec(name="s3d", stride_seconds=0.5)
    assert spec_of(trained_on(1024, spec.grid, spec.table())) == spec
    assert spec_of(trained_on(extractor=ExtractorSpec().table())) == ExtractorSpec()


def test_the_shipped_run_is_of_the_built_in_extractor():
    info = read_info(DEMO / "runs" / "demo-baseline" / "checkpoints" / "last.safetensors")
    assert spec_of(dataclasses.replace(info, extractor=None)) == ExtractorSpec()


@pytest.mark.parametrize(
    "info",
    [
        trained_on(2048),
        trained_on(grid=TimeGrid(0.4, 0.2)),
        trained_on(2048, extractor=ExtractorSpec().table()),
    ],
    ids=["size", "grid", "claim"],
)
def test_features_from_elsewhere_are_not_taken_for_ours(info):
    with pytest.raises(InputError, match="not extracted by this program"):
        spec_of(info)


def test_an_extractor_that_is_unknown_here_is_named():
    with pytest.raises(InputError, match="the run's features: there is no extractor 'timesformer'"):
        spec_of(trained_on(extractor={"name": "timesformer"}))
