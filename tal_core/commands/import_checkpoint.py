"""``import-checkpoint``: a run from weights that another program trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import Commands, add_run_id, command, print_result, progress_bar
from tal_core.workspace import home

# As in importing.checkpoints.SOURCES, which takes seconds to load.
SOURCES = ("actionformer", "tridet", "temporalmaxer", "bmn", "opentad-actionformer", "opentad-tridet")


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "import-checkpoint",
        run_import_checkpoint,
        "make a run of weights that another program trained",
        "import-checkpoint --from actionformer --config thumos_i3d.yaml --weights epoch_034.pth.tar"
        " --dataset thumos14 --run-id actionformer-official",
    )
    parser.add_argument("--from", dest="source", required=True, choices=SOURCES, help="the program")
    parser.add_argument("--weights", type=Path, required=True, metavar="F", help="its checkpoint")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="F",
        help="its config (.yaml, .py, .json); without it sizes come from the weights, the rest from THUMOS14",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="the dataset that it was trained on")
    add_run_id(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="F",
        help="its classes in its order, one a line (default: label_id of the annotations, or alphabetical)",
    )
    parser.add_argument(
        "--proposals",
        action="store_true",
        help="keep the proposals of a checkpoint without classes as they are, for a dataset without video"
        " class scores",
    )


def run_import_checkpoint(options: argparse.Namespace) -> None:
    """Import, detect in the evaluation subset, print mAP."""
    from tal_core.importing.run_of_checkpoint import import_checkpoint

    run = import_checkpoint(
        home(),
        options.source,
        options.weights,
        options.dataset,
        config=options.config,
        labels=options.labels,
        run_id=options.run_id,
        proposals=options.proposals,
        progress=progress_bar(),
    )
    print(f"run {run.run_id}: {run.folder}")
    print_result(run)
