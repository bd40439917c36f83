"""Settings chosen for a dataset, each with its reason, and warnings before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tal_core.models.config import MethodConfig
from tal_core.models.data_summary import DataSummary
from tal_core.models.method import Method, Suggestion
from tal_core.models.presets import presets
from tal_core.models.pyramid.auto import check_data, check_schedule
from tal_core.models.registry import get_method
from tal_core.models.settings import build_config
from tal_core.types import InputError

AUTO, DEFAULTS = "auto", "defaults"


def preset_titles(model: str) -> dict[str, str]:
    """Every preset of a method and what it is: ``auto``, ``defaults``, then the published ones."""
    titles = {AUTO: "Auto: chosen for this dataset", DEFAULTS: "Defaults of the method"}
    return titles | {name: preset.title for name, preset in presets(model).items()}


def choose(model: str, preset: str, summary: DataSummary | None) -> dict[str, Suggestion]:
    """What a preset sets, by field, each with a reason. ``auto`` needs the dataset's ``summary``.

    Raises:
        InputError: for an unknown method or preset, and for ``auto`` without a dataset.
    """
    method, known = get_method(model), preset_titles(model)
    if preset not in known:
        hint = f"Presets of {model}: {', '.join(known)}."
        raise InputError(f"there is no preset {preset!r}", where=model, hint=hint)
    if preset == DEFAULTS:
        return {}
    if preset == AUTO:
        if summary is None:
            raise InputError("the preset auto chooses by the data", hint="Give a dataset.")
        return method.suggest(summary)
    source = presets(model)[preset]
    return {name: Suggestion(value, source.source) for name, value in source.settings.items()}


def merged(suggestions: Mapping[str, Suggestion], own: Mapping[str, Any]) -> dict[str, Any]:
    """Suggested settings and a person's ``own``, which win."""
    return {name: suggestion.value for name, suggestion in suggestions.items()} | dict(own)


def warnings(method: Method, config: MethodConfig, summary: DataSummary) -> list[str]:
    """What will go badly with this data and these settings, a line each."""
    return [*check_data(summary), *check_schedule(config), *method.check(config, summary)]


def configure(
    model: str, preset: str, own: Mapping[str, Any], summary: DataSummary
) -> tuple[MethodConfig, dict[str, Suggestion], list[str]]:
    """The config of a preset overridden by a person's ``own`` settings; what the preset alone set; warnings.

    Raises:
        InputError: for an unknown method or preset, or settings that don't fit.
    """
    suggestions = choose(model, preset, summary)
    config = build_config(model, merged(suggestions, own))
    suggestions = {name: suggestion for name, suggestion in suggestions.items() if name not in own}
    return config, suggestions, warnings(get_method(model), config, summary)
