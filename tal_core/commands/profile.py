"""``profile``: what a method costs on this device."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import Commands, add_settings, command, progress_bar
from tal_core.workspace import home


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "profile",
        run_profile,
        "measure what a method costs on this device",
        "profile --model baseline --dataset demo",
    )
    parser.add_argument("--model", required=True, metavar="METHOD", help="the method")
    parser.add_argument(
        "--dataset", metavar="NAME", help="measure on this dataset (default: random data of THUMOS14's sizes)"
    )
    parser.add_argument(
        "--preset", metavar="P", help="as for train (default: auto with --dataset, else defaults)"
    )
    add_settings(parser)
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="about how long to measure (default 60)"
    )


def run_profile(options: argparse.Namespace) -> None:
    """Print size, arithmetic, memory and speed."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.models.data_summary import summarise
    from tal_core.models.registry import get_method
    from tal_core.models.settings import build_config
    from tal_core.models.suggested_settings import AUTO, DEFAULTS, choose, merged
    from tal_core.schema import parse_settings
    from tal_core.training.profile import measure

    method = get_method(options.model)
    dataset = open_dataset(home(), options.dataset, progress_bar()) if options.dataset else None
    preset = options.preset or (AUTO if dataset else DEFAULTS)
    suggestions = choose(options.model, preset, summarise(dataset) if dataset else None)
    config = build_config(options.model, merged(suggestions, parse_settings(options.set)))
    cost = measure(method, config, dataset, options.seconds)
    data = options.dataset or "random data of THUMOS14's sizes"
    print(f"{method.title} ({preset}) on {data}, {cost.device}, {cost.precision}")
    print(f"parameters\t{cost.parameters:,} ({cost.parameters / 1e6:.2f} million)")
    print(f"arithmetic\t{cost.gflops_per_minute:.2f} GFLOPs per minute of video")
    print(f"memory\t{cost.memory_mb:.0f} MB in training, batch of {cost.batch_size}")
    print(f"training\t{cost.steps_per_second:.2f} steps/s ({cost.step_seconds:.4f} s a step)")
    print(
        f"detection\t{cost.detection_seconds:.4f} s for a video of {cost.video_seconds:.0f} s"
        f" ({cost.video_snippets} snippets), {cost.times_real_time:.0f} times real time"
    )
    print(f"whole run\tabout {cost.training_seconds / 60:.1f} min for {cost.steps} steps")
