"""``import-detections``: a run from detections that another program made."""

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import Commands, add_run_id, command, print_result, progress_bar
from tal_core.workspace import home


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "import-detections",
        run_import_detections,
        "make a run of detections that another program made",
        "import-detections --dataset thumos14 --detections opentad/result_detection.json --run-id af-opentad",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="the dataset they are of")
    parser.add_argument(
        "--detections",
        type=Path,
        required=True,
        metavar="F",
        help="ActivityNet results JSON (OpenTAD, challenge submissions), or CSV with video_id, start, end,"
        " label, score; .gz is fine",
    )
    add_run_id(parser)
    parser.add_argument(
        "--prefix",
        metavar="P",
        help="put this in front of every video id, such as v_ (default: found out for v_)",
    )


def run_import_detections(options: argparse.Namespace) -> None:
    """Import, say what was renamed and what is unknown, print mAP."""
    from tal_core.importing.run_of_detections import import_detections

    run, notes = import_detections(
        home(),
        options.dataset,
        options.detections,
        run_id=options.run_id,
        prefix=options.prefix,
        progress=progress_bar(),
    )
    print(f"run {run.run_id}: {run.folder}")
    for note in notes:
        print(f"  note: {note}")
    print_result(run)
