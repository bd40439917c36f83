"""``online``: what a run gives on streams, for several delays."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import (
    Commands,
    add_device,
    add_json,
    add_run,
    command,
    open_run_and_dataset,
    progress_bar,
)
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "online",
        run_online,
        "measure a run on streams: delay in seconds against mAP",
        "online --run first --delays 0 1 2 4",
    )
    add_run(parser)
    parser.add_argument(
        "--delays",
        type=float,
        nargs="+",
        default=[0, 0.5, 1, 2, 4, 8],
        metavar="S",
        help="seconds to wait before a decision (default 0 0.5 1 2 4 8)",
    )
    add_device(parser)
    add_json(parser)


def run_online(options: argparse.Namespace) -> None:
    """Print a row for each delay; keep all in the run's ``online.json``."""
    from tal_core.streaming.online.delay_tradeoff import measure_online
    from tal_core.streaming.online.events import check_delay

    for delay in options.delays:
        check_delay(delay, "--delays")
    run, data = open_run_and_dataset(options.run)
    delays = sorted(set(options.delays))
    measured = measure_online(run, data, delays, device=options.device, progress=progress_bar())
    print(f"{run.run_id} as a stream, subset {measured['subset']}")
    print("delay  average mAP  F1@0.5  frame mAP  end known after  start known after  segments  cost")
    for row in measured["tradeoff"]:
        print(
            f"{row['delay']:5g}  {100 * row['average_mAP']:11.2f}  {100 * row['f1']:6.2f}"
            f"  {_number(row['frame_mAP'], 100):>9}  {_number(row['end_latency']):>13} s"
            f"  {_number(row['start_latency']):>15} s  {row['segments']:8d}  {row['cost']:.4f}"
        )
    rule, offline = measured["rule"], measured["offline"]
    if offline:
        print(f"with whole videos: average mAP {100 * offline['average_mAP']:.2f}", end="")
        cut = offline.get("average_mAP_from_threshold")
        print("" if cut is None else f"; of detections with the score that streams ask for {100 * cut:.2f}")
    print(f"reported from a score of {rule['threshold']:.3g}; cost: seconds of computing a second of stream")
    if not run.shipped:
        write_json(run.online_file, measured)
    if options.json:
        write_json(options.json, measured)


def _number(value: float | None, factor: float = 1.0) -> str:
    return "-" if value is None else f"{factor * value:.2f}"
