"""What the commands share: one-line errors, the shape of their help, progress on standard error."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tal_core.types import Annotations, Progress

if TYPE_CHECKING:
    import pandas as pd


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
    parser.add_argument(
        "--blocked",
        type=Path,
        metavar="F",
        help="videos to leave out of both: a JSON list, or text with one id a line",
    )


class Inputs(NamedTuple):
    """What `add_files` names: all annotations, the subset's ground truth and videos, the detections."""

    annotations: Annotations
    subset: str
    truth: pd.DataFrame
    videos: list[str]
    detections: pd.DataFrame


def read_inputs(options: argparse.Namespace) -> Inputs:
    """Read the files of `add_files`. Raises ``InputError``."""
    from tal_core.data.dataset.subsets import evaluation_subset, in_subset
    from tal_core.data.formats.annotations import read_annotations
    from tal_core.data.formats.blocked import leave_out, read_blocked, without_blocked
    from tal_core.data.formats.detections import read_detections

    annotations = read_annotations(options.ground_truth, options.video_info)
    blocked = read_blocked(options.blocked) if options.blocked else frozenset()
    if blocked:
        annotations = leave_out(annotations, blocked, options.blocked)
        print_findings(annotations.findings[annotations.findings["kind"] == "blocked videos"])
    subset = options.subset or evaluation_subset(annotations)
    truth, videos = in_subset(annotations, subset, where=options.ground_truth)
    detections = without_blocked(read_detections(options.detections), blocked)
    return Inputs(annotations, subset, truth, videos, detections)


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
