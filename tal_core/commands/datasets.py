"""``datasets``: the registry."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import Commands, add_extractor, command, print_findings, program, progress_bar
from tal_core.data.dataset.entry import DatasetEntry, Split
from tal_core.schema import add_flags, given
from tal_core.types import InputError
from tal_core.workspace import home


def add(commands: Commands) -> None:
    parser = command(
        commands, "datasets", run_datasets_list, "add, list, check and shrink datasets", "datasets list"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    new = command(
        actions,
        "add",
        run_datasets_add,
        "register annotations and features as a dataset, or make one of videos",
        "datasets add salads --annotations annotations.json --features features --snippet-seconds 1",
        "datasets add kitchen --annotations labels.csv --videos films --extract",
    )
    new.add_argument("name")
    add_flags(new, DatasetEntry, optional=("features",))
    add_flags(new, Split)
    new.add_argument(
        "--extract", action="store_true", help="extract the features of --videos, instead of --features"
    )
    add_extractor(new)
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
    from tal_core.data.benchmarks.presets import find_preset
    from tal_core.data.dataset.registry import add_dataset
    from tal_core.evaluation.result import parse_tiou

    fields = given(options, DatasetEntry)
    if options.tiou:
        fields["tiou"] = parse_tiou(options.tiou)
    if options.fraction is not None:
        fields["split"] = Split(**given(options, Split))
    if options.extract:
        from tal_core.commands.dataset_of_videos import make_of_videos

        make_of_videos(options, fields)
        print_health(options.name, details=False)
        return
    if not options.features:
        hint = "Give --features DIR, or --videos DIR with --extract."
        raise InputError("there are no features", hint=hint)
    if options.set or options.extractor != "motion":
        raise InputError(
            "--extractor and --set belong to --extract", hint="Add --extract, or leave them out."
        )
    add_dataset(home(), options.name, replace=options.replace, progress=progress_bar(), **fields)
    print_health(options.name, details=False)
    if options.benchmark:
        for method, preset in find_preset(options.benchmark)[1].settings:
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
            print(f"{len(serious)} findings; see: {program()} datasets check {name}")
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
