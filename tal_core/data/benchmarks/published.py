"""Published results that ship with the program, each figure with its source.

``assets/published.csv`` has one row per figure:

dataset     the benchmark: the title of one in ``assets/benchmarks``
method, year, features
classifier  the video classifier whose scores name the classes, where the source says
metric      mAP, AR@AN (recall at a number of proposals), AUC, per-frame mAP; percent
at          the tIoU of a mAP, the number of proposals of an AR, or "average" as the source averages
value       percent
computed    "yes" for an average that was computed here from the source's row
source      where the figure stands
note        what a reader must know to compare it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tal_core.data.benchmarks.presets import Published, benchmarks
from tal_core.data.formats.files import numbers, read_columns
from tal_core.types import InputError
from tal_core.workspace import ASSETS

PUBLISHED = ASSETS / "published.csv"
COLUMNS = (
    "dataset",
    "method",
    "year",
    "features",
    "classifier",
    "metric",
    "at",
    "value",
    "computed",
    "source",
    "note",
)
REQUIRED = ("dataset", "method", "metric", "value", "source")
METRICS = ("mAP", "AR@AN", "AUC", "per-frame mAP")
_ENTRY = ["dataset", "method", "year", "features", "classifier", "source", "note"]


def read_published(path: Path = PUBLISHED) -> pd.DataFrame:
    """All figures, ``COLUMNS``; ``value`` float64 percent, ``computed`` truth values, the others text.

    Raises:
        InputError: naming file and line of the first figure without source, outside 0 to 100, of an unknown
            metric, or there twice.
    """
    table = read_columns(path, dict.fromkeys(COLUMNS, ()), REQUIRED)
    table = table.reindex(columns=list(COLUMNS), fill_value="")
    table["value"] = numbers(table, "value", path)
    for column in REQUIRED:
        if column != "value":
            _refuse(table[column] == "", f"{column} is empty", path)
    _refuse(~table["value"].between(0, 100), "value is not between 0 and 100", path)
    _refuse(~table["metric"].isin(METRICS), f"metric is none of {', '.join(METRICS)}", path)
    sound = (table["at"] == "average") | ((_number(table["at"]) > 0) & (table["metric"] != "AUC"))
    single = table["metric"].isin(("AUC", "per-frame mAP")) & (table["at"] == "")
    _refuse(~(sound | single), "at must be a tIoU, a number of proposals or average", path)
    _refuse(table.duplicated([*_ENTRY, "metric", "at"]), "the figure is there twice", path)
    table["computed"] = table["computed"].str.lower() == "yes"
    return table


def _number(text: pd.Series) -> pd.Series:
    """Text as float64, NaN for what is no number."""
    return pd.to_numeric(text, errors="coerce")


def _refuse(wrong: pd.Series, what: str, path: Path) -> None:
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0]) + 2
        raise InputError(f"line {line}: {what}", where=path, hint="Correct the line.")


def published_maps(figures: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """One row per published result of a benchmark: what it is, a column per tIoU, ``average``; best first.

    ``name`` is unique: method, features and classifier, and the source where these don't tell two apart.
    Averages that were computed here are marked in ``note``.
    """
    rows = figures[(figures["dataset"] == benchmark) & (figures["metric"] == "mAP")]
    if rows.empty:
        return pd.DataFrame(columns=["name", *_ENTRY, "average"])
    table = rows.pivot_table(index=_ENTRY, columns="at", values="value", sort=False).reset_index()
    table.columns.name = None
    tious = sorted((c for c in set(rows["at"]) if c != "average"), key=float)
    table = table.reindex(columns=[*_ENTRY, *tious, "average"])
    computed = rows.loc[rows["computed"], _ENTRY].apply(tuple, axis=1)
    marked = table[_ENTRY].apply(tuple, axis=1).isin(set(computed))
    note = "average computed from the row"
    table.loc[marked, "note"] = [f"{old}; {note}" if old else note for old in table.loc[marked, "note"]]
    table.insert(0, "name", _names(table))
    order = table["average"].fillna(table[tious].mean(axis=1))
    return table.loc[order.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def _names(table: pd.DataFrame) -> pd.Series:
    features = table["features"] + table["classifier"].where(
        table["classifier"] == "", " + " + table["classifier"]
    )
    names = table["method"] + features.where(features == "", " (" + features + ")")
    short = table["source"].str.rsplit("/", n=1).str[-1]
    return names.where(~names.duplicated(keep=False), names + ", by " + short)


def comparable() -> dict[str, Published]:
    """What a dataset must be to stand beside published results, by the benchmark's title."""
    return {
        benchmark.title: benchmark.published for benchmark in benchmarks().values() if benchmark.published
    }


def benchmark_of(labels: Sequence[str], conditions: Mapping[str, Published]) -> str | None:
    """The benchmark with exactly these classes (case, spaces and underscores aside), if any."""
    plain = {_plain(label) for label in labels}
    return next(
        (name for name, wanted in conditions.items() if plain == set(map(_plain, wanted.classes))), None
    )


def _plain(label: str) -> str:
    return "".join(letter for letter in label.lower() if letter.isalnum())
