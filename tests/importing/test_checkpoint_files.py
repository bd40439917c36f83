"""Configs of other programs are read as data, whatever is in them."""

import pytest

from tal_core.importing.checkpoint_files import read_config
from tal_core.importing.foreign_settings import official_settings, opentad_settings
from tal_core.models.registry import get_method
from tal_core.types import InputError


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_python_configs_inherit(tmp_path):
    write(
        tmp_path / "_base_" / "a.py",
        "'''doc'''\nx = 2304\nmodel = dict(size=x, deep=dict(a=1, b=[(0, -4)]))\n",
    )
    write(tmp_path / "_base_" / "b.py", "solver = {'lr': 1e-4, 'name': 'a' + 'b', 'sizes': [1] * 3}\n")
    text = "_base_ = ['../_base_/a.py', '../_base_/b.py']\nmodel = dict(deep=dict(a=2), more=None)\n"
    found = read_config(write(tmp_path / "own" / "c.py", text))
    assert found["model"] == {"size": 2304, "deep": {"a": 2, "b": [[0, -4]]}, "more": None}
    assert found["solver"] == {"lr": 1e-4, "name": "ab", "sizes": [1, 1, 1]}
    text = "_base_ = '../_base_/a.py'\nmodel = dict(_delete_=True, only=1)\n"
    assert read_config(write(tmp_path / "own" / "d.py", text))["model"] == {"only": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\n", "line 1: only plain settings"),
        ("x = 1\ny = open('f')\n", r"line 2: \"open\('f'\)\" is no plain setting"),
        ("x = __import__('os').system('true')\n", "line 1: .* is no plain setting"),
        ("x = dict(**y)\n", "is no plain setting"),
        ("x = [0] * 10**9\n", "is no plain setting"),
        ("x = y\n", "'y' is no plain setting"),
        ("x = (\n", "line 1: is not valid Python"),
        ("_base_ = ['c.py']\n", "builds on itself"),
        ("_base_ = ['/etc/passwd']\n", "_base_ names '/etc/passwd'"),
        ("_base_ = ['absent.py']\n", "absent.py: can't be read"),
    ],
)
def test_python_configs_are_never_executed(tmp_path, text, words):
    with pytest.raises(InputError, match=words) as raised:
        read_config(write(tmp_path / "c.py", text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.yaml", "a: [1\n", "line 2: .*"),
        ("c.yaml", "x: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("c.yaml", "- 1\n", "holds no settings"),
        ("c.json", "{", "is not valid JSON"),
        ("c.txt", "a: 1\n", "is no config that can be read"),
        ("absent.yaml", None, "can't be read"),
    ],
)
def test_other_faulty_configs(tmp_path, name, text, words):
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(InputError, match=words) as raised:
        read_config(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_section_that_is_none():
    with pytest.raises(InputError, match="model in the config is no section"):
        official_settings({"model": 3}, "actionformer")


def test_silent_keys_mean_the_authors_defaults():
    settings = official_settings({"dataset": {"max_seq_len": 192, "force_upsampling": True}}, "actionformer")
    config = get_method("actionformer").config(**settings)
    assert (config.resize, config.sequence_length, config.max_candidates) == (192, 192, 5000)
    assert config.attention_windows == [-1] and config.gradient_clip is None and config.epochs == 35
    assert (config.crop_low, config.crop_high, config.range_overlap) == (1, 1, 1)


def test_overlapping_ranges_and_their_training():
    ranges = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 10000]]
    settings = official_settings({"model": {"regression_range": ranges}}, "temporalmaxer")
    config = get_method("temporalmaxer").config(**settings)
    assert config.ranges[:-1] == [tuple(pair) for pair in ranges[:-1]] and config.ranges[-1][0] == 32
    assert (config.distance_cost, config.keep_share, config.confuse_weight) == (3.0, 0.65, 0.1)


def test_opentad_keys():
    content = {
        "model": {"projection": {"sgp_win_size": [1, 15, 15], "arch": [1, 2, 2], "k": 1.3}},
        "post_processing": {"nms": {"use_soft_nms": False, "voting_thresh": 0.7, "multiclass": False}},
    }
    settings = opentad_settings(content, "tridet")
    assert (settings["window"], settings["levels"], settings["window_factor"]) == (15, 3, 1.3)
    assert (settings["nms"], settings["voting_threshold"], settings["voting_weights"]) == (
        "hard",
        0.7,
        "score",
    )
    content["model"]["projection"]["sgp_win_size"] = [1, 3, 5]
    with pytest.raises(InputError, match="differ by level"):
        opentad_settings(content, "tridet")
