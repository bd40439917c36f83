"""Runs side by side: what each is, how it differs in its settings, what it reached and what it costs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.runs.run import Run
from tal_core.schema import to_text
from tal_core.training.profile import Cost, measure_apart
from tal_core.types import InputError

COLUMNS = (
    "run",
    "method",
    "dataset",
    "average_mAP",
    "tiou",
    "parameters",
    "gflops_per_minute",
    "training_seconds",
    "times_real_time",
    "device",
    "created",
)


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run that can be read, ``COLUMNS``; NaN or None for what was never recorded.

    ``average_mAP`` is a fraction, of the thresholds ``tiou``. ``parameters``: as recorded, or measured.
    ``training_seconds``: its epochs' time, without validations between. ``gflops_per_minute`` and
    ``times_real_time`` (seconds of video per second of detection, on ``device``): from its ``cost.json``.
    """
    rows = []
    for run in runs:
        try:
            rows.append(_row(run))
        except InputError:
            continue  # deleted meanwhile, or half written: the Overview says which and why
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numeric = ["average_mAP", "parameters", "gflops_per_minute", "training_seconds", "times_real_time"]
    table[numeric] = table[numeric].astype(float)
    return table


def _row(run: Run) -> dict[str, Any]:
    config, evaluation, cost, status = run.config(), run.evaluation(), recorded_cost(run), run.status()
    return {
        "run": run.run_id,
        "method": config["model"],
        "dataset": config["dataset"],
        "average_mAP": evaluation.average_mAP if evaluation else None,
        "tiou": tuple(evaluation.tiou) if evaluation else None,
        "parameters": cost.parameters if cost else status.get("parameters") or _logged_parameters(run),
        "gflops_per_minute": cost.gflops_per_minute if cost else None,
        "training_seconds": _training_seconds(run),
        "times_real_time": cost.times_real_time if cost else None,
        "device": cost.device if cost else None,
        "created": status.get("created"),
    }


def _logged_parameters(run: Run) -> int | None:
    """The size of its network as the log of a run says that version 0.1.0 trained; None if it doesn't."""
    stated = re.findall(r"^\S+ \S+ (\d+) weights", run.log_tail(1_000_000), re.MULTILINE)
    return int(stated[-1]) if stated else None


def _training_seconds(run: Run) -> float | None:
    metrics = run.metrics()
    if "seconds" not in metrics:
        return None
    seconds = metrics.loc[metrics["kind"] == "epoch", "seconds"].sum()
    return float(seconds) or None


def setting_differences(runs: Sequence[Run]) -> pd.DataFrame:
    """Settings that two of the runs set otherwise: a row per run, a column per setting, as text.

    Settings that only one of the methods knows are no differences; ``""`` where a run hasn't got one.
    """
    settings = {run.run_id: {k: to_text(v) for k, v in run.settings().items()} for run in runs}
    names = list(dict.fromkeys(name for known in settings.values() for name in known))
    different = [
        name for name in names if len({known[name] for known in settings.values() if name in known}) > 1
    ]
    rows = [
        {"run": run, **{name: known.get(name, "") for name in different}} for run, known in settings.items()
    ]
    return pd.DataFrame(rows, columns=["run", *different])


def recorded_cost(run: Run) -> Cost | None:
    """What was measured of the run's method and settings; None if nothing was, or in another form."""
    try:
        content = run.read_json(run.cost_file.name)
        return Cost(**{field.name: content[field.name] for field in fields(Cost)})
    except (InputError, LookupError, TypeError):
        return None


def can_measure(run: Run) -> bool:
    """Whether the run's method can be measured here: not of imported detections, nor where we can't write."""
    return run.config()["model"] in METHODS and not run.shipped


def measure_run(home: Path, run: Run) -> Cost:
    """Measure the run's method with its settings on its dataset, in a process of its own; keep it there.

    Raises:
        InputError: if it can't be measured, or takes too long.
    """
    config = run.config()
    cost = measure_apart(
        home, config["dataset"], config["model"], build_config(config["model"], run.settings())
    )
    run.write_json(run.cost_file, {**asdict(cost), "measured": time.time()})
    return cost
