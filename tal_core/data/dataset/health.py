"""The health report: one table for the ``datasets check`` command and the Explore page alike."""

from __future__ import annotations

import pandas as pd

from tal_core.data.dataset.dataset import Dataset

_ORDER = {"error": 0, "warning": 1, "info": 2}


def health_report(dataset: Dataset) -> pd.DataFrame:
    """All findings on a dataset (``FINDING_COLUMNS``), worst first."""
    findings = dataset.findings
    return findings.sort_values(
        "level", key=lambda level: level.map(_ORDER), kind="stable", ignore_index=True
    )


def counts(dataset: Dataset) -> dict[str, int | float]:
    """How much there is: videos (usable, missing, broken), annotations, classes, hours."""
    index = dataset.index
    missing = ~index["usable"] & index["reason"].str.endswith("no feature file")
    return {
        "videos": len(index),
        "usable": int(index["usable"].sum()),
        "missing": int(missing.sum()),
        "broken": int((~index["usable"] & ~missing).sum()),
        "annotations": len(dataset.annotations.ground_truth),
        "classes": len(dataset.labels),
        "hours": float(index["duration"].sum() / 3600),
    }


def summary(dataset: Dataset) -> str:
    """The counts as one line for people."""
    c = counts(dataset)
    return (
        f"{c['videos']} videos ({c['usable']} usable, {c['missing']} without features, "
        f"{c['broken']} broken), {c['annotations']} annotations of {c['classes']} classes, "
        f"{c['hours']:.1f} hours"
    )
