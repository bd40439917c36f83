"""``frames``: per-frame average precision of a run."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import Commands, add_json, add_run, command, open_run_and_dataset
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "frames",
        run_frames,
        "per-frame mAP of a run that scores snippets",
        "frames --run first --json frames.json",
    )
    add_run(parser)
    add_json(parser)


def run_frames(options: argparse.Namespace) -> None:
    """Print AP and calibrated AP per class and their means on the run's evaluation subset."""
    from tal_core.evaluation.frame_precision import evaluate_dataset_frames, format_frames
    from tal_core.postprocessing.candidates import load_all_snippet_scores

    run, data = open_run_and_dataset(options.run)
    scores, labels = load_all_snippet_scores(run.snippet_scores_file)
    precision = evaluate_dataset_frames(data, scores, labels, data.evaluation_subset)
    print(format_frames(precision, f"{run.run_id}, subset {data.evaluation_subset}"))
    if options.json:
        write_json(options.json, precision.to_json())
