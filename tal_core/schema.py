"""A pydantic class becomes form fields, command-line flags and one-line errors.

    class Draw(BaseModel):
        share: float = setting(0.2, "share of the videos", flag="--share", metavar="S", gt=0, lt=1)

    fields_of(Draw)                     # what a form shows
    add_flags(parser, Draw)             # --share S   share of the videos
    validated(Draw, {"share": "2"})     # InputError: share can't be '2'. Allowed: a number above 0 below 1.

Methods, dataset entries, extractors and the server's limits all go through here, so that a field is declared
once.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from tal_core.types import InputError

NONE_WORDS = ("", "none", "null")
_CONVERT: dict[str, Callable[[str], Any]] = {"integer": int, "number": float, "path": Path, "text": str}
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class SchemaField:
    """One field of a class, as forms and commands need it.

    ``kind``: ``integer``, ``number``, ``boolean``, ``choice``, ``text``, ``path``, their lists ``integers``,
    ``numbers``, ``texts`` and ``paths``, or ``table`` for what has fields of its own. ``minimum`` and
    ``maximum`` are inclusive unless ``above`` or ``below`` say that the bound itself isn't allowed.
    ``optional``: None is allowed too. ``allowed``: the accepted values in words. ``unit``: what one counts
    for on the command line.
    """

    name: str
    label: str
    help: str
    kind: str
    default: Any
    group: str
    allowed: str
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    required: bool = False
    flag: str = ""
    metavar: str | None = None
    unit: float = 1

    def accepts(self, number: float) -> bool:
        """Whether a finite number is within the bounds."""
        low = self.minimum is None or (number > self.minimum if self.above else number >= self.minimum)
        high = self.maximum is None or (number < self.maximum if self.below else number <= self.maximum)
        return low and high and math.isfinite(number)


def setting(
    default: Any,
    description: str,
    group: str = "",
    *,
    flag: str = "",
    metavar: str | None = None,
    choices: tuple[str, ...] = (),
    unit: float = 1,
    **bounds: Any,
) -> Any:
    """A pydantic field with its help text, the heading under which forms show it, and its command-line flag.

    ``{default}`` in the description stands for the default. ``choices``: what people choose from, the default
    first, where the class itself takes more. ``unit``: what one of the flag counts for.
    """
    extra: dict[str, Any] = {
        "group": group,
        "flag": flag,
        "metavar": metavar,
        "choices": choices,
        "unit": unit,
    }
    bounds = {"default": default, **bounds} if "default_factory" not in bounds else bounds
    return Field(description=description, json_schema_extra=extra, **bounds)


@cache
def fields_of(schema: type[BaseModel]) -> tuple[SchemaField, ...]:
    properties = schema.model_json_schema(mode="validation")["properties"]
    return tuple(_field(schema, name, properties[name]) for name in schema.model_fields)


def _field(schema: type[BaseModel], name: str, json: Mapping[str, Any]) -> SchemaField:
    variants = json.get("anyOf", [json])
    value = next(variant for variant in variants if variant.get("type") != "null")
    items = value.get("items", value)
    info = schema.model_fields[name]
    default = None if info.is_required() else json.get("default", info.get_default(call_default_factory=True))
    own_choices = json.get("choices")
    unit, choices = json.get("unit", 1), tuple(own_choices or items.get("enum", ()))
    shown = to_text(default if unit == 1 else default / unit)
    value, items = (value, items) if unit == 1 else [{**value, "type": "number"}] * 2
    if choices:
        kind, words = "choice", ", ".join(map(str, choices))
    else:
        kind, words = _kind(items) + ("s" if items is not value else ""), _allowed(value)
    return SchemaField(
        name=name,
        label=name.replace("_", " ").capitalize(),
        help=json.get("description", "").replace("{default}", shown),
        kind=kind,
        default=own_choices[0] if own_choices else default,
        group=json.get("group", ""),
        allowed=words + (" or none" if len(variants) > 1 and not own_choices else ""),
        minimum=items.get("minimum", items.get("exclusiveMinimum")),
        maximum=items.get("maximum", items.get("exclusiveMaximum")),
        above="exclusiveMinimum" in items,
        below="exclusiveMaximum" in items,
        choices=choices,
        optional=len(variants) > 1 and not own_choices,
        required=info.is_required(),
        flag=json.get("flag", ""),
        metavar=json.get("metavar"),
        unit=unit,
    )


def _kind(json: Mapping[str, Any]) -> str:
    if "$ref" in json or json.get("type") == "object":
        return "table"
    if json.get("format") == "path":
        return "path"
    kind = json.get("type")
    return kind if kind in ("integer", "number", "boolean") else "text"


def _allowed(json: Mapping[str, Any]) -> str:
    """What a field accepts, in words: ``a whole number from 1 to 10000``."""
    if "enum" in json:
        return ", ".join(map(str, json["enum"]))
    if "const" in json:
        return str(json["const"])
    if json.get("type") == "array":
        least, most = json.get("minItems", 0), json.get("maxItems", "any number of")
        return f"a list of {least} to {most} values, each {_allowed(json['items'])}"
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "path": "a path",
        "table": "a table",
        "text": "text",
    }
    bounds = [
        f"{text} {json[key]:g}"
        for key, text in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in json
    ]
    return " ".join([words[_kind(json)], *bounds])


def allowed(schema: type[BaseModel], name: str) -> str:
    """What a field accepts, in words: ``a whole number from 1 to 10000``."""
    return next(field.allowed for field in fields_of(schema) if field.name == name)


def validated(schema: type[Model], values: Any, where: object = None, hint: str = "") -> Model:
    """An object of the class, or an error that says which field is wrong and what it may be.

    Values may be text, as from forms and the command line: ``"5e-4"``, ``"1,2,4"``, ``"none"``. ``hint`` is
    added to every error.

    Raises:
        InputError: naming the first wrong field.
    """
    if isinstance(values, Mapping):
        fields = {field.name: field for field in fields_of(schema)}
        values = {
            name: from_text(value, fields[name]) if isinstance(value, str) and name in fields else value
            for name, value in values.items()
            if value != "" or name not in fields or fields[name].kind not in ("path", "paths")
        }
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        what, advice = _explained(schema, error.errors()[0])
        raise InputError(what, where=where, hint=f"{advice} {hint}".strip() or None) from None


def _explained(schema: type[BaseModel], error: ErrorDetails) -> tuple[str, str]:
    """What is wrong, and what is allowed, of one of pydantic's errors."""
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "value_error":  # a rule written in the class says itself what is wrong
        return str(error["ctx"]["error"]), ""
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        close = difflib.get_close_matches(name, schema.model_fields, n=1)
        known = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(schema.model_fields)}."
        return f"there is no setting {name!r}", known
    if error["type"] == "missing" and len(error["loc"]) == 1:
        return f"{name} is missing", f"It takes {allowed(schema, name)}."
    if name not in schema.model_fields or len(error["loc"]) > 2:
        return f"{'.'.join(map(str, error['loc']))}: {error['msg']}".removeprefix(": "), ""
    return f"{name} can't be {error['input']!r}", f"Allowed: {allowed(schema, name)}."


def from_text(text: str, field: SchemaField) -> Any:
    """What pydantic can't read from text by itself: nothing, and lists."""
    if field.optional and text.strip().lower() in NONE_WORDS:
        return None
    if field.kind in ("integers", "numbers"):
        return [part.strip() for part in text.strip().strip("[]").split(",") if part.strip()]
    if field.kind in ("texts", "paths"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    return text.strip() if field.kind == "path" else text


def to_text(value: Any) -> str:
    """A value as people type it; ``validated`` reads it back."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(to_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """``["epochs=2", "learning_rate=5e-4"]`` -> ``{"epochs": "2", "learning_rate": "5e-4"}``.

    Raises:
        InputError: for a pair without ``=`` or a setting given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"{pair!r} is not a setting", hint="Write key=value, such as epochs=20.")
        if name in settings:
            raise InputError(f"{name} is set twice", hint="Give each setting once.")
        settings[name] = value.strip()
    return settings


def add_flags(
    parser: argparse._ActionsContainer, schema: type[BaseModel], optional: Collection[str] = ()
) -> None:
    """Add the flags of a class: one for each field that names its flag. ``given`` reads them.

    ``optional``: fields that the class requires and the command doesn't, because it may find them elsewhere.
    """
    for field in fields_of(schema):
        if field.flag:
            parser.add_argument(
                field.flag,
                dest=field.name,
                type=_reader(field),
                nargs="+" if field.kind in ("texts", "paths") else None,
                choices=field.choices or None,
                required=field.required and field.name not in optional,
                metavar=field.metavar,
                help=field.help,
            )


def given(options: argparse.Namespace, schema: type[BaseModel]) -> dict[str, Any]:
    """The values that were given of a class's flags; what was left out is left out."""
    values = [(field, getattr(options, field.name)) for field in fields_of(schema) if field.flag]
    return {
        field.name: int(value * field.unit) if field.unit != 1 else value
        for field, value in values
        if value is not None
    }


def _reader(field: SchemaField) -> Callable[[str], Any]:
    """What turns a flag's text into its value, within the field's bounds."""
    kind = field.kind.removesuffix("s") if field.kind in ("texts", "paths") else field.kind
    convert = float if field.unit != 1 else _CONVERT.get(kind, str)

    def read(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if kind in ("integer", "number") and not field.accepts(value):
            raise argparse.ArgumentTypeError(f"it can't be {text!r}. Allowed: {field.allowed}")
        return value

    return read
