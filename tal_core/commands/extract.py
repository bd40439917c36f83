"""``extract``: features of a folder of videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tal_core.commands.parsing import Commands, add_device, add_extractor, command
from tal_core.types import InputError

if TYPE_CHECKING:
    from tal_core.video.extraction.folder import Outcome, Step


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "extract",
        run_extract,
        "extract features from a folder of videos",
        "extract --videos films --out features --set stride_seconds=0.4",
    )
    parser.add_argument("--videos", type=Path, metavar="DIR", help="folder of the videos")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the features, one .npy file per video"
    )
    add_extractor(parser)
    add_device(parser)
    parser.add_argument(
        "--processes", type=int, metavar="N", help="processes of the built-in extractor (default: all cores)"
    )
    parser.add_argument("--list", action="store_true", help="list extractors and their settings")


def run_extract(options: argparse.Namespace) -> None:
    """Extract in the foreground. Ctrl-C stops cleanly; the same command goes on. Done videos are skipped."""
    if options.list:
        _print_extractors()
        return
    if not options.videos or not options.out:
        raise InputError("nothing to extract", hint="Give --videos DIR and --out DIR.")
    if options.processes is not None and options.processes < 1:
        raise InputError(f"--processes {options.processes} is less than 1", hint="Give 1 or more.")
    from tal_core.schema import parse_settings
    from tal_core.video.extraction.folder import extract_folder
    from tal_core.video.extractors.spec import read_spec

    spec = read_spec({**parse_settings(options.set), "name": options.extractor})
    outcome = extract_folder(
        options.videos,
        options.out,
        spec,
        device=options.device,
        processes=options.processes,
        progress=seconds_bar(),
    )
    print_problems(outcome)
    print(f"{outcome.made} videos extracted, {outcome.skipped} done before: {options.out}")
    if outcome.failed and not outcome.made + outcome.skipped:
        raise InputError("no video could be used", where=options.videos, hint="See the reasons above.")
    print(
        f"as a dataset: datasets add NAME --annotations F --features {options.out}"
        f" --snippet-seconds {spec.grid.stride:g} --offset-seconds {spec.grid.offset:g}"
    )


def print_problems(outcome: Outcome) -> None:
    """One line per video that was damaged or couldn't be used."""
    for name, why in outcome.damaged.items():
        print(f"warning: {name}: {why}", file=sys.stderr)
    for name, why in outcome.failed.items():
        print(f"not usable: {name}: {why}", file=sys.stderr)


def seconds_bar() -> Callable[[Step], None]:
    """Draws seconds of video done, with the videos beside them."""
    from tqdm import tqdm

    meter = tqdm(unit="s", desc="extracting", file=sys.stderr, leave=False, disable=None)

    def report(step: Step) -> None:
        meter.total = round(step.seconds_total, 1)
        meter.set_postfix_str(f"{step.done} of {step.total} videos, {step.failed} failed", refresh=False)
        meter.update(round(step.seconds_done, 1) - meter.n)

    return report


def _print_extractors() -> None:
    from tal_core.video.extractors.spec import KINDS, settings

    for kind in KINDS.values():
        needs = f" (needs: pip install -r requirements-video.txt: {kind.package})" if kind.package else ""
        print(f"{kind.name}\t{kind.title}{needs}")
        for setting in settings(kind.name):
            choices = f" [{' | '.join(setting.choices)}]" if setting.choices else ""
            print(f"  {setting.name}={setting.default}\t{setting.help}{choices}")
