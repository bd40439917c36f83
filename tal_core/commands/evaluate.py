"""``evaluate``: mAP of a detections file."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import (
    Commands,
    add_files,
    add_json,
    add_protocol,
    command,
    print_detection_findings,
    read_inputs,
)
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "evaluate",
        run_evaluate,
        "mAP of a detections file against ground truth",
        "evaluate --ground-truth gt.json --detections detections.json --subset validation",
    )
    add_files(parser)
    parser.add_argument(
        "--tiou",
        default="0.3:0.7:0.1",
        metavar="T",
        help="tIoU thresholds, first:last:step or a,b,c (%(default)s)",
    )
    add_protocol(parser)
    parser.add_argument(
        "--excuse-ambiguous",
        action="store_true",
        help="as THUMOS14's own kit: a detection over an Ambiguous segment is no false positive",
    )
    add_json(parser)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print AP per class and mAP; optionally write them as JSON."""
    from tal_core.evaluation.average_precision import evaluate
    from tal_core.evaluation.result import format_table, parse_tiou

    inputs = read_inputs(options)
    annotations, subset, truth, videos, detections = inputs
    result = evaluate(
        truth,
        detections,
        parse_tiou(options.tiou),
        protocol=options.protocol,
        videos=videos,
        ambiguous=annotations.ambiguous if options.excuse_ambiguous else None,
    )
    title = f"subset {subset}, {options.protocol} protocol" if subset else f"{options.protocol} protocol"
    print(format_table(result, title=title))
    print_detection_findings(inputs)
    if options.json:
        write_json(options.json, result.to_json())
