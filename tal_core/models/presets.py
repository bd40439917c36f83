"""Published hyper-parameters, by method and dataset, under the names of our settings.

``assets/presets/<method>.toml`` has a table for each preset; ``builds_on`` names tables of ``shared.toml``
that its settings start from. What a repository has and a method here doesn't (a floor of the learning rate,
steps instead of a cosine) is left out. Class-agnostic configs need a dataset with video class scores;
classes=all learns the classes instead.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from tal_core.workspace import ASSETS

FOLDER = ASSETS / "presets"


class Preset(BaseModel):
    """Settings that a repository publishes. ``source`` names the repository and its config file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    settings: dict[str, Any]


@cache
def presets(method: str) -> dict[str, Preset]:
    """The published presets of a method, by name; none for a method without."""
    path = FOLDER / f"{method}.toml"
    return {name: _preset(**table) for name, table in _read(path.name).items()} if path.exists() else {}


def _preset(
    title: str, source: str, builds_on: Iterable[str] = (), settings: dict[str, Any] | None = None
) -> Preset:
    return Preset(title=title, source=source, settings=_shared(builds_on) | (settings or {}))


def _shared(names: Iterable[str]) -> dict[str, Any]:
    """The settings of tables in ``shared.toml``; later ones override earlier ones."""
    settings: dict[str, Any] = {}
    for name in names:
        table = dict(_read("shared.toml")[name])
        settings |= _shared(table.pop("builds_on", ())) | table
    return settings


@cache
def _read(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))
