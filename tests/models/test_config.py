import pytest

from tal_core.models.config import GROUPS, validated
from tal_core.models.registry import METHODS, get_method
from tal_core.models.settings import build_config, form_fields
from tal_core.schema import allowed, parse_settings
from tal_core.types import InputError


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_form(name):
    method = get_method(name)
    assert method.name == name and method.title and method.summary and method.reference
    fields = form_fields(method.config)
    assert {field.name for field in fields} == set(method.config.model_fields)
    assert [field.group for field in fields] == sorted((field.group for field in fields), key=GROUPS.index)
    default = method.config()
    for field in fields:
        assert field.help.endswith("."), field.name
        assert field.default == getattr(default, field.name)
        assert (field.kind == "choice") == bool(field.choices)


@pytest.mark.parametrize("name", METHODS)
def test_a_config_survives_text(name):
    config = get_method(name).config()
    text = {
        key: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in config.model_dump().items()
    }
    assert build_config(name, text) == config


def test_fields_carry_bounds_choices_and_optional():
    fields = {field.name: field for field in form_fields(METHODS["baseline"].config)}
    assert (fields["epochs"].kind, fields["epochs"].minimum, fields["epochs"].maximum) == (
        "integer",
        1,
        10_000,
    )
    rate = fields["learning_rate"]
    assert (rate.kind, rate.minimum, rate.above, rate.below) == ("number", 0, True, False)
    assert fields["device"].choices == ("auto", "cuda", "mps", "cpu")
    assert fields["ema_decay"].optional and fields["ema_decay"].below and fields["ema_decay"].kind == "number"
    assert fields["scales"].kind == "integers" and fields["thresholds"].kind == "numbers"
    assert fields["nms_per_class"].kind == "boolean"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": "0"}, "epochs can't be '0'. Allowed: a whole number from 1 to 10000"),
        ({"epochs": "many"}, "epochs can't be 'many'"),
        ({"epochs": 2.5}, "epochs can't be 2.5"),
        ({"learning_rate": "0"}, "a number above 0 to 10"),
        ({"learning_rate": "nan"}, "learning_rate can't be 'nan'"),
        ({"learning_rate": "inf"}, "learning_rate can't be 'inf'"),
        ({"ema_decay": "1"}, "a number from 0 below 1 or none"),
        ({"nms": "best"}, "none, hard, soft, linear"),
        ({"nms_per_class": "maybe"}, "true or false"),
        ({"scales": ""}, "a list of 1 to 8 values, each a whole number from 1"),
        ({"scales": "1,0"}, "scales can't be"),
        ({"window": "8"}, "odd"),
        ({"epoch": "3"}, "there is no setting 'epoch'. Did you mean epochs"),
        ({"zzz": "3"}, "there is no setting 'zzz'. Known: epochs"),
        ({"checkpoint": "best", "validate_every": "0"}, "checkpoint can't be best when validate_every is 0"),
    ],
)
def test_wrong_settings_say_what_is_allowed(settings, said):
    with pytest.raises(InputError) as error:
        build_config("baseline", settings)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_text_becomes_values():
    config = build_config(
        "baseline",
        {"learning_rate": "5e-4", "scales": "[1, 4]", "gradient_clip": "None", "nms": "hard"},
    )
    assert config.learning_rate == 5e-4 and config.scales == [1, 4]
    assert config.gradient_clip is None and config.nms == "hard"


def test_unknown_method_lists_those_there_are():
    with pytest.raises(InputError, match="there is no method 'best'"):
        build_config("best")


def test_key_value_pairs():
    assert parse_settings(["a=1", "b = x=y "]) == {"a": "1", "b": "x=y"}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(InputError):
            parse_settings(wrong)


def test_where_is_named():
    with pytest.raises(InputError, match=r"config\.json: epochs"):
        validated(METHODS["baseline"].config, {"epochs": 0}, where="config.json")
    assert allowed(METHODS["baseline"].config, "gradient_clip") == "a number above 0 to 1e+06 or none"
