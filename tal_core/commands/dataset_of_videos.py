"""``datasets add --extract``: a dataset from a folder of videos and a label file."""

from __future__ import annotations

import argparse
from typing import Any

from tal_core.commands.parsing import print_findings, progress_bar
from tal_core.data.dataset.entry import DatasetEntry
from tal_core.types import InputError
from tal_core.workspace import home


def make_of_videos(options: argparse.Namespace, fields: dict[str, Any]) -> None:
    """Look, extract, register. Ctrl-C stops cleanly; the same command goes on."""
    from tal_core.commands.extract import print_problems, seconds_bar
    from tal_core.data.dataset.registry import free_path
    from tal_core.schema import fields_of, parse_settings, validated
    from tal_core.video.extraction import new_dataset
    from tal_core.video.extractors.spec import read_spec

    if not options.videos:
        raise InputError("there is nothing to extract", hint="Give the folder of the videos with --videos.")
    known = new_dataset.Plan.model_fields
    odd = [
        field.flag for field in fields_of(DatasetEntry) if field.name in fields and field.name not in known
    ]
    if odd or options.replace:
        what = f"{odd[0] if odd else '--replace'} doesn't go with --extract"
        raise InputError(what, hint="Leave it out: the extractor says how its features run in time.")
    spec = read_spec({**parse_settings(options.set), "name": options.extractor})
    plan = validated(new_dataset.Plan, {**fields, "name": options.name, "spec": spec})
    free_path(home(), plan.name)
    preview = new_dataset.look(plan, progress_bar())
    print(f"{preview.matched} labelled videos, {preview.seconds:.0f} s in all")
    print_findings(preview.findings[preview.findings["level"] != "info"])
    outcome, _ = new_dataset.make(home(), plan, progress=seconds_bar())
    print_problems(outcome)
