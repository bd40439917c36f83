"""``diagnose``: what is wrong in a detections file, and what fixing it would gain."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import (
    Commands,
    add_files,
    add_json,
    command,
    print_detection_findings,
    progress_bar,
    read_inputs,
)
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "diagnose",
        run_diagnose,
        "kinds of error in a detections file, and what fixing each would gain",
        "diagnose --ground-truth gt.json --detections detections.json --tiou 0.5",
    )
    add_files(parser)
    parser.add_argument(
        "--tiou",
        default="0.5",
        metavar="T",
        help="one tIoU threshold, or several to average over: first:last:step or a,b,c (%(default)s)",
    )
    parser.add_argument(
        "--buckets",
        choices=("auto", "thumos14", "activitynet", "quantiles"),
        default="auto",
        help="edges of the buckets of coverage, length and instances; auto: told by the video ids",
    )
    add_json(parser)


def run_diagnose(options: argparse.Namespace) -> None:
    """Print the report; optionally write the numbers as JSON."""
    from tal_core.evaluation.diagnosis.diagnose import diagnose
    from tal_core.evaluation.diagnosis.report import format_report, to_json
    from tal_core.evaluation.result import parse_tiou

    thresholds = parse_tiou(options.tiou)
    inputs = read_inputs(options)
    _, subset, truth, _, detections = inputs
    diagnosis = diagnose(
        truth,
        detections,
        thresholds,
        durations=inputs.durations,
        buckets=options.buckets,
        progress=progress_bar(),
    )
    where = f"subset {subset}, " if subset else ""
    print(format_report(diagnosis, title=f"{where}tIoU {options.tiou}"))
    print_detection_findings(inputs)
    if options.json:
        write_json(options.json, to_json(diagnosis))
