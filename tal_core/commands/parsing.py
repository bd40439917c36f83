"""What the commands share: one-line errors, the shape of their help, options that several have, progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tal_core.types import Progress
from tal_core.workspace import home

if TYPE_CHECKING:
    import pandas as pd

    from tal_core.data.dataset.dataset import Dataset
    from tal_core.evaluation.inputs import Inputs
    from tal_core.runs.run import Run


Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
"""What a command adds its parser to."""


class OneLineParser(argparse.ArgumentParser):
    """Answers wrong arguments with one line instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


def program() -> str:
    """What a person types to start this program: ``tal`` where it was started so."""
    return "tal" if Path(sys.argv[0]).stem == "tal" else "python -m tal_core"


def command(
    commands: Commands,
    name: str,
    function: Callable[[argparse.Namespace], None],
    summary: str,
    *examples: str,
) -> OneLineParser:
    """Add the parser of one command, which runs ``function(options)``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="example: " + "\n         ".join(f"{program()} {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run_command=function)
    return parser


def add_run(parser: argparse.ArgumentParser, text: str = "the trained run") -> None:
    """``--run ID``."""
    parser.add_argument("--run", required=True, metavar="ID", help=text)


def add_run_id(parser: argparse.ArgumentParser, text: str = "name of the run") -> None:
    """``--run-id ID``, of a run that is made."""
    parser.add_argument("--run-id", metavar="ID", help=text)


def add_settings(parser: argparse.ArgumentParser, text: str = "a setting; may be repeated") -> None:
    """``--set KEY=VALUE``, read by ``parse_settings``."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_extractor(parser: argparse.ArgumentParser) -> None:
    """``--extractor NAME`` and its settings."""
    parser.add_argument(
        "--extractor", default="motion", metavar="NAME", help="the extractor (default: %(default)s)"
    )
    add_settings(parser, "a setting of the extractor; may be repeated")


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device D``."""
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cuda, mps or cpu (default: %(default)s)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json OUT``."""
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers here")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """``--protocol``."""
    parser.add_argument(
        "--protocol",
        choices=("official", "toolbox"),
        default="official",
        help="official: ActivityNet's script; toolbox: ActionFormer's and OpenTAD's",
    )


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


def read_inputs(options: argparse.Namespace) -> Inputs:
    """Read the files of `add_files`. Raises ``InputError``."""
    from tal_core.evaluation import inputs

    return inputs.read_inputs(
        options.ground_truth,
        options.detections,
        subset=options.subset,
        video_info=options.video_info,
        blocked=options.blocked,
        on_blocked=print_findings,
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


def print_findings(findings: pd.DataFrame) -> None:
    """One line per finding (``FINDING_COLUMNS``)."""
    for row in findings.to_dict("records"):
        where = f"{row['video_id']}: " if row["video_id"] else ""
        print(f"  {row['level']}: {where}{row['detail']}" + (f" ({row['advice']})" if row["advice"] else ""))


def print_detection_findings(inputs: Inputs) -> None:
    """What is odd in the detections, beside the ground truth."""
    from tal_core.data.formats.findings import detection_findings

    annotations = inputs.annotations
    print_findings(
        detection_findings(inputs.detections, inputs.truth, annotations.videos, annotations.labels)
    )


def open_run_and_dataset(run_id: str) -> tuple[Run, Dataset]:
    """A run of the workspace and the dataset it was trained on. Raises ``InputError``."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.runs.run import open_run

    run = open_run(home(), run_id)
    return run, open_dataset(home(), run.config()["dataset"], progress_bar())


def print_result(run: Run) -> None:
    """How a run ended, and its mAP."""
    from tal_core.evaluation.result import format_table

    print(run.status()["message"])
    if (evaluation := run.evaluation()) is not None:
        print(format_table(evaluation))
