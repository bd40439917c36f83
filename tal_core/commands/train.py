"""``train``: train a method, or go on with a run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tal_core.commands.parsing import Commands, add_run_id, add_settings, command, print_result, progress_bar
from tal_core.types import InputError
from tal_core.workspace import home

if TYPE_CHECKING:
    from tal_core.models.config import MethodConfig


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "train",
        run_train,
        "train a method on a dataset",
        "train --dataset demo --model baseline --set epochs=2 --run-id first",
    )
    parser.add_argument("--dataset", metavar="NAME", help="a registered dataset")
    parser.add_argument("--model", metavar="METHOD", help="the method, such as baseline")
    parser.add_argument(
        "--preset",
        metavar="P",
        help="where settings come from: auto (derived from the dataset, the default), defaults, or"
        " a published one (see --settings)",
    )
    add_settings(parser, "a setting, overrides the preset; may be repeated")
    add_run_id(parser, "name of the run (default: made of dataset, method and time)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run --run-id from its last checkpoint"
    )
    parser.add_argument(
        "--settings",
        action="store_true",
        help="list presets, settings and defaults of --model",
    )


def run_train(options: argparse.Namespace) -> None:
    """Train in the foreground; Ctrl-C stops cleanly and leaves a run to resume."""
    from tal_core.runs.run import create_run, open_run
    from tal_core.training.loop import train

    if options.settings:
        _print_settings(options.model or "baseline")
        return
    if options.resume:
        if not options.run_id or options.set or options.preset:
            hint = "Give --run-id ID, and neither --set nor --preset."
            raise InputError("--resume takes a run as it is", hint=hint)
        run = open_run(home(), options.run_id)
    else:
        if not options.dataset or not options.model:
            raise InputError("nothing to train", hint="Give --dataset NAME and --model METHOD.")
        config = _config(options)
        run = create_run(home(), options.dataset, options.model, config, options.run_id)
    print(f"run {run.run_id}: {run.folder}")
    train(home(), run, resume=options.resume, progress=progress_bar())
    print_result(run)


def _config(options: argparse.Namespace) -> MethodConfig:
    """The config of ``--model`` on ``--dataset`` by ``--preset`` and ``--set``; prints why."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.models.data_summary import summarise
    from tal_core.models.suggested_settings import AUTO, configure
    from tal_core.schema import parse_settings, to_text

    own = parse_settings(options.set)
    summary = summarise(open_dataset(home(), options.dataset, progress_bar()))
    config, suggestions, warnings = configure(options.model, options.preset or AUTO, own, summary)
    for name, suggestion in suggestions.items():
        print(f"{name}={to_text(suggestion.value)}\t{suggestion.reason}")
    for warning in warnings:
        print(f"warning: {warning}")
    return config


def _print_settings(model: str) -> None:
    from tal_core.models.registry import get_method
    from tal_core.models.settings import form_fields
    from tal_core.models.suggested_settings import preset_titles

    for name, title in preset_titles(model).items():
        print(f"preset {name}\t{title}")
    for field in form_fields(get_method(model).config):
        print(f"{field.name}={field.default}\t{field.help}")
