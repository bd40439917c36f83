"""One pydantic class, as flags, as form fields, and in its errors."""

import argparse
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from tal_core.data.dataset.entry import DatasetEntry
from tal_core.schema import add_flags, fields_of, given, setting, to_text, validated
from tal_core.streaming.server.limits import Limits
from tal_core.types import InputError


class Sample(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: Path = setting(..., "where it is", flag="--source", metavar="F")
    share: float | None = setting(None, "how much", flag="--share", metavar="S", gt=0, lt=1)
    size: int = setting(2048, "bytes ({default})", flag="--size", metavar="KIB", unit=1024, gt=0)
    names: list[str] = setting([], "what of it", flag="--names", metavar="N")
    order: list[str] | None = setting(None, "which way", flag="--order", choices=("auto", "up"))
    scales: list[int] = setting([1, 2], "sizes", min_length=1)
    quiet: bool = False


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser, Sample)
    return parser.parse_args(arguments)


def test_fields_tell_a_form_all_it_needs():
    fields = {field.name: field for field in fields_of(Sample)}
    kinds = {name: field.kind for name, field in fields.items()}
    assert kinds == {
        "source": "path", "share": "number", "size": "number", "names": "texts", "order": "choice",
        "scales": "integers", "quiet": "boolean",
    }  # fmt: skip
    assert fields["source"].required and fields["share"].optional and not fields["order"].optional
    assert fields["order"].default == "auto" and fields["size"].help == "bytes (2)"
    assert fields["share"].allowed == "a number above 0 below 1 or none"


def test_flags_give_what_was_said_and_nothing_else():
    assert given(parse("--source", "a"), Sample) == {"source": Path("a")}
    said = given(parse("--source", "a", "--size", "0.5", "--names", "x", "y", "--share", "0.2"), Sample)
    assert said == {"source": Path("a"), "size": 512, "names": ["x", "y"], "share": 0.2}
    assert validated(Sample, said).size == 512


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "a", "--share", "1"], "argument --share: it can't be '1'. Allowed: a number above 0"),
        (["--source", "a", "--share", "nan"], "--share: it can't be 'nan'"),
        (["--source", "a", "--size", "much"], "--size: it can't be 'much'"),
        (["--source", "a", "--order", "down"], "--order: invalid choice: 'down'"),
        ([], "--source"),
    ],
)
def test_a_wrong_flag_is_named_with_what_it_takes(capsys, arguments, says):
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "here: source is missing. It takes a path"),
        ({"source": " "[:0]}, "source is missing"),
        ({"source": "a", "share": "2"}, "share can't be '2'. Allowed: a number above 0 below 1 or none"),
        ({"source": "a", "scales": ""}, "scales can't be []. Allowed: a list of 1 to any number of values"),
        ({"source": "a", "sise": 1}, "there is no setting 'sise'. Did you mean size?"),
        ("a", "here: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(values, says):
    with pytest.raises(InputError) as error:
        validated(Sample, values, where="here")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_text_is_read_as_forms_hold_it():
    sample = validated(Sample, {"source": " a ", "share": "", "names": "x\n\n y ", "scales": "[1, 3]"})
    assert sample == Sample(source=Path("a"), share=None, names=["x", "y"], scales=[1, 3])
    assert [to_text(value) for value in (None, 5e-4, [1, 2.5], True)] == ["none", "0.0005", "1,2.5", "True"]


def test_every_flag_of_the_program_s_own_classes_has_help():
    for schema in (DatasetEntry, Limits):
        flags = [field for field in fields_of(schema) if field.flag]
        assert flags and all(field.help and field.flag.startswith("--") for field in flags)
