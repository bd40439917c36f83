"""A method's config from text, and the form for it: both follow from the config class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tal_core.models.config import GROUPS, MethodConfig
from tal_core.models.registry import get_method
from tal_core.schema import SchemaField, fields_of, validated


def build_config(model: str, settings: Mapping[str, Any] | None = None) -> MethodConfig:
    """The validated config of a method; what ``settings`` leaves out takes its default.

    Values may be text, as from the command line: ``"5e-4"``, ``"1,2,4"``, ``"none"``.

    Raises:
        InputError: for an unknown method or setting, or a value out of range, naming what is allowed.
    """
    return validated(get_method(model).config, settings or {})


def form_fields(config_class: type[MethodConfig]) -> list[SchemaField]:
    """The fields of a config's form, by group in the order of ``GROUPS``."""
    return sorted(fields_of(config_class), key=lambda field: GROUPS.index(field.group))
