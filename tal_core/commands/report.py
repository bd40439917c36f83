"""``report``: one HTML page on a run, or on two against each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import Commands, add_protocol, command, progress_bar
from tal_core.types import InputError
from tal_core.workspace import home, write_text


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "report",
        run_report,
        "settings, tables and figures of a run, or of two, as one HTML page",
        "report --run first --run second --out report.html",
    )
    parser.add_argument(
        "--run",
        required=True,
        action="extend",
        nargs="+",
        metavar="ID",
        help="the run; give two to compare them",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="the page to write, .html")
    parser.add_argument("--subset", metavar="S", help="subset (default: the dataset's evaluation subset)")
    parser.add_argument(
        "--tiou",
        metavar="T",
        help="tIoU thresholds, first:last:step or a,b,c (default: the dataset's thresholds)",
    )
    add_protocol(parser)


def run_report(options: argparse.Namespace) -> None:
    """Write the page."""
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise InputError("a report is an HTML page", where=options.out, hint="Use a name that ends in .html.")

    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.evaluation.result import parse_tiou
    from tal_core.report import dataset_of, make_report
    from tal_core.runs.run import open_run

    runs = [open_run(home(), run_id) for run_id in options.run]
    tiou = parse_tiou(options.tiou) if options.tiou else None
    data = open_dataset(home(), dataset_of(runs), progress_bar())
    subset = options.subset or data.evaluation_subset
    subsets = sorted(set(data.index["subset"]))
    if options.subset and subset not in subsets:
        raise InputError(
            f"no video has the subset {subset!r}", where=data.name, hint=f"Known: {', '.join(subsets)}."
        )
    text = make_report(
        data, runs, subset=subset, tiou=tiou, protocol=options.protocol, progress=progress_bar()
    )
    write_text(options.out, text)
    print(f"{options.out}: {len(text) / 2**20:.1f} MB, open it in any browser")
