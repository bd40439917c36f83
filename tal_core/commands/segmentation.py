"""``segmentation``: frame accuracy, edit score and F1 of a detections file."""

from __future__ import annotations

import argparse
import math

from tal_core.commands.parsing import (
    Commands,
    add_files,
    add_json,
    command,
    print_detection_findings,
    read_inputs,
)
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "segmentation",
        run_segmentation,
        "frame accuracy, edit score and F1 of a detections file, as in action segmentation",
        "segmentation --ground-truth gt.json --detections detections.json --step 0.2 --min-score 0.3",
    )
    add_files(parser)
    parser.add_argument(
        "--step", type=float, default=0.1, metavar="SECONDS", help="time between two frames (%(default)s)"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=-math.inf,
        metavar="X",
        help="leave weaker detections out (default: all count, the best one at each moment)",
    )
    add_json(parser)


def run_segmentation(options: argparse.Namespace) -> None:
    """Print the means over the videos; optionally write them as JSON."""
    from tal_core.evaluation.segmentation import segmentation_scores

    inputs = read_inputs(options)
    _, _, truth, videos, detections = inputs
    durations = dict(zip(videos, inputs.durations.loc[videos], strict=True))
    scores = segmentation_scores(truth, detections, durations, options.step, options.min_score)
    print(f"mean over {len(scores.per_video)} videos, a frame each {options.step:g} s")
    for name, value in scores.means().items():
        print(f"{name:10s}{value:7.2f} %")
    print_detection_findings(inputs)
    if options.json:
        write_json(options.json, scores.means())
