"""``datasets``: the registry."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import command, print_findings, progress_bar
from tal_core.types import InputError
from tal_core.workspace import home


def add(commands) -> None:
    """Its arguments."""
    parser = command(
        commands, "datasets", run_datasets_list, "add, list, check and shrink datasets", "datasets list"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    new = command(
        actions,
        "add",
        run_datasets_add,
        "register annotations and features as a dataset, or make one of videos",
        "datasets add salads --annotations annotations.json --features features --snippet-seconds 1\n"
        "         python -m tal_core datasets add kitchen --annotations labels.csv --videos films --extract",
    )
    new.add_argument("name")
    new.add_argument(
        "--preset",
        default="",
        metavar="P",
        help="a benchmark: subsets, thresholds and time where nothing else is said (see: datasets presets)",
    )
    new.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="F",
        help="ActivityNet JSON, CSV, THUMOS14 folder, ELAN .eaf or a folder of them, VIA, Label Studio",
    )
    new.add_argument(
        "--features", type=Path, nargs="+", metavar="DIR", help="a folder or .h5 file per stream"
    )
    new.add_argument("--videos", type=Path, metavar="DIR", help="folder of the videos, to play or to extract")
    new.add_argument(
        "--extract", action="store_true", help="extract the features of --videos, instead of --features"
    )
    new.add_argument(
        "--extractor", default="motion", metavar="NAME", help="the extractor (default: %(default)s)"
    )
    new.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the extractor"
    )
    new.add_argument("--video-info", type=Path, metavar="F", help="table of subset and duration per video")
    new.add_argument(
        "--tiers",
        nargs="+",
        default=[],
        metavar="T",
        help="ELAN tiers, VIA attributes or Label Studio controls that hold the labels (default: all)",
    )
    new.add_argument(
        "--class-scores",
        type=Path,
        metavar="F",
        help="video-level class scores (.json, .npz, .npy), for proposal methods",
    )
    new.add_argument(
        "--blocked",
        type=Path,
        metavar="F",
        help="videos to leave out: a JSON list, or text with one id a line",
    )
    new.add_argument("--stride", type=float, metavar="S", help="frames between snippets")
    new.add_argument(
        "--fps", type=float, metavar="F", help="frames per second of what the features were made from"
    )
    new.add_argument("--snippet-seconds", type=float, metavar="S", help="seconds between snippets")
    new.add_argument(
        "--offset-seconds", type=float, metavar="S", help="centre of the first snippet (half a step)"
    )
    new.add_argument("--offset-frames", type=float, metavar="F", help="the same in frames, with --stride")
    new.add_argument(
        "--timing",
        choices=("fixed", "stretched"),
        default="fixed",
        help="stretched: each video's snippets are spread over its duration",
    )
    new.add_argument(
        "--layout", choices=("auto", "TD", "DT"), default="auto", help="(time, channels) or reverse"
    )
    new.add_argument("--training-subset", default="", metavar="S", help="subset that trains")
    new.add_argument("--evaluation-subset", default="", metavar="S", help="subset that evaluates")
    new.add_argument("--tiou", metavar="T", help="usual thresholds, e.g. 0.3:0.7:0.1")
    new.add_argument(
        "--split", type=float, metavar="SHARE", help="hold out this share of videos for evaluation"
    )
    new.add_argument("--split-seed", type=int, default=0, metavar="N", help="start of the random split")
    new.add_argument("--replace", action="store_true", help="overwrite a dataset of this name")

    command(actions, "list", run_datasets_list, "list all datasets", "datasets list")

    command(
        actions,
        "presets",
        run_datasets_presets,
        "list the benchmarks: subsets, thresholds, features, published settings",
        "datasets presets",
    )

    check = command(
        actions, "check", run_datasets_check, "report what is odd or broken", "datasets check salads"
    )
    check.add_argument("name")

    subset = command(
        actions,
        "subset",
        run_datasets_subset,
        "make a smaller dataset from a bigger one",
        "datasets subset demo demo-mini --videos 12",
    )
    subset.add_argument("source")
    subset.add_argument("name")
    subset.add_argument("--videos", type=int, metavar="N", help="number of videos to draw")
    subset.add_argument("--classes", nargs="+", metavar="C", help="classes to keep")
    subset.add_argument("--seed", type=int, default=0, metavar="N", help="start of the random draw")

    remove = command(
        actions, "remove", run_datasets_remove, "forget a dataset; its files stay", "datasets remove salads"
    )
    remove.add_argument("name")


def run_datasets_add(options: argparse.Namespace) -> None:
    """Register a dataset and say what is in it."""
    from tal_core.data.dataset.entry import Split
    from tal_core.data.dataset.registry import add_dataset
    from tal_core.evaluation.result import parse_tiou

    if options.split is not None and not 0 < options.split < 1:
        raise InputError(f"--split {options.split:g} is no share", hint="Give one between 0 and 1, e.g. 0.2.")
    split = Split(seed=options.split_seed, fraction=options.split) if options.split is not None else None
    if options.extract:
        from tal_core.commands.dataset_of_videos import make_of_videos

        make_of_videos(options, split)
        print_health(options.name, details=False)
        return
    if not options.features:
        hint = "Give --features DIR, or --videos DIR with --extract."
        raise InputError("there are no features", hint=hint)
    if options.set or options.extractor != "motion":
        raise InputError(
            "--extractor and --set belong to --extract", hint="Add --extract, or leave them out."
        )
    add_dataset(
        home(),
        options.name,
        annotations=options.annotations,
        features=options.features,
        preset=options.preset,
        videos=options.videos,
        video_info=options.video_info,
        tiers=options.tiers,
        blocked=options.blocked,
        class_scores=options.class_scores,
        layout=options.layout,
        stride=options.stride,
        fps=options.fps,
        snippet_seconds=options.snippet_seconds,
        timing=options.timing,
        offset_seconds=options.offset_seconds,
        offset_frames=options.offset_frames,
        training_subset=options.training_subset,
        evaluation_subset=options.evaluation_subset,
        tiou=parse_tiou(options.tiou) if options.tiou else None,
        split=split,
        replace=options.replace,
        progress=progress_bar(),
    )
    print_health(options.name, details=False)
    if options.preset:
        from tal_core.data.benchmarks.presets import find_preset

        for method, preset in find_preset(options.preset)[1].settings:
            print(f"published settings: train --dataset {options.name} --model {method} --preset {preset}")


def run_datasets_presets(_options: argparse.Namespace) -> None:
    """Every benchmark with its features; the first of them is what its name alone means."""
    from tal_core.data.benchmarks.presets import benchmarks, describe
    from tal_core.evaluation.result import thresholds_text

    for name, benchmark in benchmarks().items():
        subsets = " or ".join("/".join(pair) for pair in benchmark.subsets)
        print(f"{name}\t{benchmark.title}: tIoU {thresholds_text(benchmark.tiou)}; subsets {subsets}")
        print(f"    source: {benchmark.source}")
        if benchmark.note:
            print(f"    note: {benchmark.note}")
        for key, convention in benchmark.features.items():
            print(f"  {name}-{key}\t{convention.title}; {describe(convention)}")
            settings = ", ".join(f"{method} {preset}" for method, preset in convention.settings)
            print(f"    settings: {settings or 'none published, --preset auto'}; source: {convention.source}")


def run_datasets_list(_options: argparse.Namespace) -> None:
    """One line per dataset."""
    from tal_core.data.dataset.entry import list_datasets

    for entry in list_datasets(home()):
        print(f"{entry.name}\t{entry.description or entry.annotations}")


def run_datasets_check(options: argparse.Namespace) -> None:
    """The whole health report."""
    print_health(options.name, details=True)


def print_health(name: str, details: bool) -> None:
    """A dataset in a line, and what is odd: of the whole dataset, or with ``details`` of every video."""
    from tal_core.data.dataset.dataset import open_dataset
    from tal_core.data.dataset.health import health_report, summary

    dataset = open_dataset(home(), name, progress_bar(), scan_all=details)
    print(f"{name}: {summary(dataset)}")
    report = health_report(dataset)
    if not details:
        serious = report[report["level"] != "info"]
        if len(serious):
            print(f"{len(serious)} findings; see: python -m tal_core datasets check {name}")
        report = report[report["video_id"] == ""]
    print_findings(report)


def run_datasets_subset(options: argparse.Namespace) -> None:
    """Register a smaller dataset on the same features."""
    from tal_core.data.dataset.registry import make_subset

    if options.videos is None and not options.classes:
        raise InputError("nothing to choose by", hint="Give --videos N or --classes NAME ..., or both.")
    make_subset(
        home(),
        options.source,
        options.name,
        videos=options.videos,
        classes=options.classes,
        seed=options.seed,
        progress=progress_bar(),
    )
    print_health(options.name, details=False)


def run_datasets_remove(options: argparse.Namespace) -> None:
    """Forget a dataset."""
    from tal_core.data.dataset.entry import remove_dataset

    remove_dataset(home(), options.name)
    print(f"{options.name} is forgotten; its annotations and features were not touched")
