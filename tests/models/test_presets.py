"""Published settings are ours by name and value."""

import pytest

from tal_core.models.config import validated
from tal_core.models.presets import FOLDER, presets
from tal_core.models.registry import METHODS, get_method

ALL = [(method, name) for method in METHODS for name in presets(method)]


@pytest.mark.parametrize("method,name", ALL)
def test_every_preset_is_a_valid_config(method, name):
    preset = presets(method)[name]
    config = validated(get_method(method).config, preset.settings)
    assert all(getattr(config, key) == value for key, value in preset.settings.items())
    assert preset.title and "github.com" in preset.source


def test_presets_belong_to_methods_and_leave_the_two_names_free():
    assert {path.stem for path in FOLDER.glob("*.toml")} <= {*METHODS, "shared"}
    assert not {"auto", "defaults"} & {name for _, name in ALL}
    assert presets("baseline") == {}


@pytest.mark.parametrize("method", ["actionformer", "tridet", "temporalmaxer"])
def test_the_defaults_of_a_pyramid_are_its_thumos14_preset(method):
    config = get_method(method).config()
    assert {key: getattr(config, key) for key in presets(method)["thumos14"].settings} == dict(
        presets(method)["thumos14"].settings
    )


def test_known_values():
    """A few figures that the papers print."""
    activitynet = presets("actionformer")["activitynet"].settings
    assert activitynet["resize"] == 192 and activitynet["attention_windows"][-1] == -1
    for method in ("actionformer", "tridet"):
        config = validated(get_method(method).config, presets(method)["activitynet"].settings)
        assert config.needs_class_scores and config.num_outputs(200) == 1
        assert (config.classes_per_proposal, config.score_fusion, config.nms_per_class) == (2, "root", False)
    assert presets("tridet")["thumos14"].settings["bins"] == 16
    ranges = validated(get_method("actionformer").config, presets("actionformer")["ego4d"].settings).ranges
    assert ranges[:3] == [(0, 4), (2, 8), (4, 16)] and ranges[-1] == (64, float("inf"))
