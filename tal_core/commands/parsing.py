"""What the commands share: one-line errors, the shape of their help, progress on standard error."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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
