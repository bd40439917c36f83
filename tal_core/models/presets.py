"""Published hyper-parameters, by method and dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that a repository publishes. ``source`` names the repository and its config file."""

    title: str
    source: str
    settings: Mapping[str, Any]


PRESETS: dict[str, dict[str, Preset]] = {}


def presets(method: str) -> dict[str, Preset]:
    """The published presets of a method, by name."""
    return PRESETS.get(method, {})
