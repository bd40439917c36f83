"""``demo``: draw the demo dataset."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tal_core.commands.parsing import Commands, command, progress_bar
from tal_core.data.dataset.entry import DEMO_NAME, entry_path, read_entry, save_entry
from tal_core.workspace import home


def add(commands: Commands) -> None:
    parser = command(
        commands, "demo", run_demo, "make the demo dataset: draw its videos, extract their features", "demo"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="only make the files there (default: make and register them)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="start of every random choice (%(default)s)"
    )
    parser.add_argument(
        "--ship", type=Path, metavar="DIR", help="then copy what the app ships to DIR (assets/demo)"
    )


def run_demo(options: argparse.Namespace) -> None:
    """Make the whole demo dataset; with all its videos it replaces the shipped part."""
    from tal_core.video.drawing.demo_videos import make_demo, ship_demo

    made = make_demo(options.out or home() / "demo", seed=options.seed, progress=progress_bar())
    if options.out is None:
        save_entry(read_entry(made), home() / "datasets" / f"{DEMO_NAME}.toml")
        print(f"the dataset {DEMO_NAME} now has all its videos: {entry_path(home(), DEMO_NAME)}")
    else:
        print(f"the demo dataset: {made}")
    if options.ship:
        ship_demo(made.parent, options.ship)
        print(f"shipped: {_ship_demo_run(options.ship)}")


def _ship_demo_run(assets: Path) -> Path:
    """Train the baseline on the demo and put the finished run beside the shipped data."""
    from tal_core.models.settings import build_config
    from tal_core.runs.run import create_run
    from tal_core.training.loop import train
    from tal_core.training.shipping import ship_run

    shutil.rmtree(assets / "runs", ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = create_run(Path(scratch), DEMO_NAME, "baseline", build_config("baseline"), "demo-baseline")
        save_entry(read_entry(assets / "dataset.toml"), Path(scratch) / "datasets" / f"{DEMO_NAME}.toml")
        train(Path(scratch), run, progress=progress_bar())
        return ship_run(run, assets / "runs").folder
