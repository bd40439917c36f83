"""Settings of SSN that suit a dataset, and warnings of those that don't."""

from __future__ import annotations

from typing import Any

from tal_core.models.method import Suggestion
from tal_core.models.summary import DataSummary


def suggest(summary: DataSummary) -> dict[str, Suggestion]:
    """Settings by field."""
    del summary
    return {}


def check(config: Any, summary: DataSummary) -> list[str]:
    """What will go badly, a line each."""
    del config, summary
    return []
