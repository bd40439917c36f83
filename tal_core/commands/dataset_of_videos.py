"""``datasets add --extract``: a dataset from a folder of videos and a label file."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse

from tal_core.commands.parsing import print_findings, progress_bar
from tal_core.types import InputError
from tal_core.workspace import home

_OF_FEATURES = (
    "features",
    "preset",
    "blocked",
    "class_scores",
    "stride",
    "fps",
    "snippet_seconds",
    "offset_seconds",
    "offset_frames",
    "replace",
)


def make_of_videos(options: argparse.Namespace, split) -> None:
    """Look, extract, register. Ctrl-C stops cleanly; the same command goes on."""
    from tal_core.commands.extract import print_problems, seconds_bar
    from tal_core.evaluation.result import parse_tiou
    from tal_core.models.settings import parse_settings
    from tal_core.video.extraction import new_dataset
    from tal_core.video.extractors.spec import read_spec

    if not options.videos:
        raise InputError("there is nothing to extract", hint="Give the folder of the videos with --videos.")
    odd = next((name for name in _OF_FEATURES if getattr(options, name)), None)
    if odd is not None:
        what = f"--{odd.replace('_', '-')} doesn't go with --extract"
        raise InputError(what, hint="Leave it out: the extractor says how its features run in time.")
    plan = new_dataset.Plan(
        name=options.name,
        videos=options.videos,
        annotations=options.annotations,
        spec=read_spec({**parse_settings(options.set), "name": options.extractor}),
        tiers=options.tiers,
        video_info=options.video_info,
        training_subset=options.training_subset,
        evaluation_subset=options.evaluation_subset,
        tiou=parse_tiou(options.tiou) if options.tiou else None,
        split=split,
    )
    new_dataset.check_new(home(), plan.name)
    preview = new_dataset.look(plan, progress_bar())
    print(f"{preview.matched} labelled videos, {preview.seconds:.0f} s in all")
    print_findings(preview.findings[preview.findings["level"] != "info"])
    outcome, _ = new_dataset.make(home(), plan, progress=seconds_bar())
    print_problems(outcome)
