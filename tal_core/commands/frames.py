"""``frames``: per-frame average precision of a run."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import command, progress_bar
from tal_core.workspace import home, write_json


def add(commands) -> None:
    """Its arguments."""
    parser = command(
        commands,
        "frames",
        run_frames,
        "per-frame mAP of a run that scores snippets",
        "frames --run first --json frames.json",
    )
    parser.add_argument("--run", required=True, metavar="ID", help="the trained run")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers here")


def run_frames(options: argparse.Namespace) -> None:
    """Print AP and calibrated AP per class and their means on the run's evaluation subset."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.evaluation.frame_precision import evaluate_dataset_frames, format_frames
    from tal_core.postprocessing.candidates import load_all_snippet_scores
    from tal_core.runs.run import open_run

    run = open_run(home(), options.run)
    data = open_dataset(home(), run.config()["dataset"], progress_bar())
    scores, labels = load_all_snippet_scores(run.folder / "snippet_scores.npz")
    found = evaluate_dataset_frames(data, scores, labels, data.evaluation_subset)
    print(format_frames(found, f"{run.run_id}, subset {data.evaluation_subset}"))
    if options.json:
        write_json(options.json, found.to_json())
