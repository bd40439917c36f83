"""What the commands share: one-line errors, the shape of their help, progress on standard error."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tal_core.types import Progress


class OneLineParser(argparse.ArgumentParser):
    """Answers wrong arguments with one line instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


def command(commands, name: str, function: Callable, summary: str, example: str) -> OneLineParser:
    """Add the parser of one command, which runs ``function(options)``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example: python -m tal_core {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run_command=function)
    return parser


def add_files(parser: argparse.ArgumentParser) -> None:
    """What detections are compared with: ground truth and subset."""
    parser.add_argument(
        "--ground-truth", type=Path, required=True, metavar="F", help="annotation file or folder"
    )
    parser.add_argument(
        "--detections", type=Path, required=True, metavar="F", help="ActivityNet result JSON or CSV"
    )
    parser.add_argument("--video-info", type=Path, metavar="F", help="table of subset and duration per video")
    parser.add_argument(
        "--subset", metavar="S", help="subset of the ground truth (default: its evaluation subset)"
    )


def progress_bar() -> Progress:
    """A ``Progress`` that draws one bar per message on standard error."""
    from tqdm import tqdm

    meter = None

    def report(done: int, total: int, message: str) -> None:
        nonlocal meter
        if meter is None or meter.desc != message or meter.total != total:
            if meter is not None:
                meter.close()
            meter = tqdm(total=total, desc=message, file=sys.stderr, leave=False, disable=None)
            meter.desc = message
        meter.update(done - meter.n)
        if done >= total:
            meter.close()
            meter = None

    return report


def print_findings(findings) -> None:
    """One line per finding (``FINDING_COLUMNS``)."""
    for row in findings.itertuples():
        where = f"{row.video_id}: " if row.video_id else ""
        print(f"  {row.level}: {where}{row.detail}" + (f" ({row.advice})" if row.advice else ""))
