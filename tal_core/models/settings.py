"""A method's config from text, and the form for it: both follow from the config class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tal_core.models.config import GROUPS, MethodConfig, validated
from tal_core.models.registry import get_method
from tal_core.types import InputError

NONE_WORDS = ("", "none", "null")


@dataclass(frozen=True)
class FormField:
    """One widget of a form.

    ``kind``: ``integer``, ``number``, ``boolean``, ``choice``, ``text``, ``integers`` or ``numbers``
    (lists, written with commas). ``minimum`` and ``maximum`` are inclusive unless ``above`` or ``below``
    say that the bound itself isn't allowed. ``optional``: None is allowed too.
    """

    name: str
    label: str
    help: str
    kind: str
    default: Any
    group: str
    minimum: float | None = None
    maximum: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False


def build_config(model: str, settings: Mapping[str, Any] | None = None) -> MethodConfig:
    """The validated config of a method; what ``settings`` leaves out takes its default.

    Values may be text, as from the command line: ``"5e-4"``, ``"1,2,4"``, ``"none"``.

    Raises:
        InputError: for an unknown method or setting, or a value out of range, naming what is allowed.
    """
    config_class = get_method(model).config
    fields = {field.name: field for field in form_fields(config_class)}
    parsed = {
        name: _from_text(value, fields[name]) if isinstance(value, str) and name in fields else value
        for name, value in (settings or {}).items()
    }
    return validated(config_class, parsed)


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


def form_fields(config_class: type[MethodConfig]) -> list[FormField]:
    """The fields of a config's form, by group in the order of ``GROUPS``."""
    properties = config_class.model_json_schema(mode="validation")["properties"]
    fields = [_form_field(name, schema) for name, schema in properties.items()]
    return sorted(fields, key=lambda field: GROUPS.index(field.group))


def _form_field(name: str, schema: Mapping[str, Any]) -> FormField:
    variants = schema.get("anyOf", [schema])
    optional = any(variant.get("type") == "null" for variant in variants)
    value = next(variant for variant in variants if variant.get("type") != "null")
    kind = {"integer": "integer", "number": "number", "boolean": "boolean"}.get(value.get("type"), "text")
    if value.get("type") == "array":
        value = value["items"]
        kind = "integers" if value["type"] == "integer" else "numbers"
    choices = tuple(value["enum"]) if "enum" in value else ()
    return FormField(
        name=name,
        label=name.replace("_", " ").capitalize(),
        help=schema.get("description", ""),
        kind="choice" if choices else kind,
        default=schema["default"],
        group=schema.get("group", "Run"),
        minimum=value.get("minimum", value.get("exclusiveMinimum")),
        maximum=value.get("maximum", value.get("exclusiveMaximum")),
        above="exclusiveMinimum" in value,
        below="exclusiveMaximum" in value,
        choices=choices,
        optional=optional,
    )


def _from_text(text: str, field: FormField) -> Any:
    """What pydantic can't read from text by itself: nothing, and lists."""
    if field.optional and text.strip().lower() in NONE_WORDS:
        return None
    if field.kind in ("integers", "numbers"):
        return [part.strip() for part in text.strip().strip("[]").split(",") if part.strip()]
    return text


def to_text(value: Any) -> str:
    """A setting as people type it; ``build_config`` reads it back."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(to_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
