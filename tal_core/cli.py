"""``tal`` or ``python -m tal_core``: exit code 0, or 2 for wrong input with one line on standard error."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence

from tal_core import __version__
from tal_core.commands.parsing import Commands, OneLineParser, program
from tal_core.types import InputError

COMMANDS = (
    "demo",
    "app",
    "datasets",
    "train",
    "predict",
    "stream",
    "stream_demo",
    "serve",
    "evaluate",
    "extract",
    "diagnose",
    "proposals",
    "segmentation",
    "frames",
    "online",
    "report",
    "postprocess",
    "profile",
    "export",
    "import_checkpoint",
    "import_detections",
)
"""In the order of the help: a command is the file of its name in ``commands/`` and this line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        options.run_command(options)
    except InputError as error:
        print(f"tal_core: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left; what it wanted to see it has seen.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("tal_core: interrupted", file=sys.stderr)
        return 130
    return 0


def build_parser() -> OneLineParser:
    """The parser of all commands; each imports what it needs when it runs, so that ``--help`` is quick."""
    parser = OneLineParser(
        prog=program(),
        description="Temporal action localization: data, training, prediction and evaluation.",
        epilog="The workspace is the folder TAL_HOME, or ./workspace.",
    )
    parser.add_argument(
        "--version", action="version", version=f"tal {__version__}", help="print the version and leave"
    )
    parsers: Commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"tal_core.commands.{name}").add(parsers)
    return parser


def commands_table() -> str:
    """All commands and what they do, as a Markdown table."""
    rows = [f"| `{name}` | {summary} |" for name, summary in _summaries(build_parser())]
    return "\n".join(["| command | what it does |", "|---|---|", *rows]) + "\n"


def _summaries(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, str]]:
    """Every command with its one-line summary; commands of commands follow theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                name = f"{before}{choice.dest}"
                yield name, choice.help or ""
                yield from _summaries(action.choices[choice.dest], f"{name} ")
