# pylint: disable=import-outside-toplevel
"""The commands of ``python -m tal_core``: thin wrappers around the package's functions.

Exit code 0 on success, 2 for wrong input with one line on standard error. Heavy modules are imported
by the command that needs them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from tal_core.data.entry import DEMO_NAME, entry_path, read_entry, save_entry
from tal_core.types import InputError, Progress
from tal_core.workspace import home, write_json

METHODS = ("baseline",)


class OneLineParser(argparse.ArgumentParser):
    """Answers wrong arguments with one line instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


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
    """The parser of all commands."""
    parser = OneLineParser(
        prog="python -m tal_core",
        description="Temporal action localization: data, training, prediction and evaluation.",
        epilog="The workspace is the folder TAL_HOME, or ./workspace.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_datasets(commands)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _command(commands, name: str, function: Callable, summary: str, example: str) -> OneLineParser:
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

    bar = None

    def report(done: int, total: int, message: str) -> None:
        nonlocal bar
        if bar is None or bar.desc != message or bar.total != total:
            if bar is not None:
                bar.close()
            bar = tqdm(total=total, desc=message, file=sys.stderr, leave=False, disable=None)
            bar.desc = message
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return report


# ---------------------------------------------------------------- demo


def _add_demo(commands) -> None:
    parser = _command(
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
    """Make the whole demo dataset; with all its videos it takes the place of the shipped part."""
    from tal_core.video.demo import make_demo, ship_demo

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
    from tal_core.training.config import build_config
    from tal_core.training.loop import train
    from tal_core.training.run import create_run
    from tal_core.training.shipping import ship_run

    shutil.rmtree(assets / "runs", ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = create_run(Path(scratch), DEMO_NAME, "baseline", build_config("baseline"), "demo-baseline")
        save_entry(read_entry(assets / "dataset.toml"), Path(scratch) / "datasets" / f"{DEMO_NAME}.toml")
        train(Path(scratch), run, progress=progress_bar())
        return ship_run(run, assets / "runs").folder


# ---------------------------------------------------------------- datasets


def _add_datasets(commands) -> None:
    parser = _command(
        commands, "datasets", run_datasets_list, "add, list, check and shrink datasets", "datasets list"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    add = _command(
        actions,
        "add",
        run_datasets_add,
        "register annotations and features as a dataset",
        "datasets add salads --annotations annotations.json --features features --snippet-seconds 1",
    )
    add.add_argument("name")
    add.add_argument(
        "--annotations", type=Path, required=True, metavar="F", help="JSON, CSV or THUMOS14 text folder"
    )
    add.add_argument(
        "--features",
        type=Path,
        required=True,
        nargs="+",
        metavar="DIR",
        help="a folder or .h5 file per stream",
    )
    add.add_argument("--videos", type=Path, metavar="DIR", help="folder of the videos, for playing")
    add.add_argument("--video-info", type=Path, metavar="F", help="table of subset and duration per video")
    add.add_argument("--stride", type=float, metavar="S", help="frames between snippets")
    add.add_argument(
        "--fps", type=float, metavar="F", help="frames per second of what the features were made from"
    )
    add.add_argument("--snippet-seconds", type=float, metavar="S", help="seconds between snippets")
    add.add_argument(
        "--offset-seconds", type=float, metavar="S", help="centre of the first snippet (half a step)"
    )
    add.add_argument(
        "--timing",
        choices=("fixed", "stretched"),
        default="fixed",
        help="stretched: each video's snippets are spread over its duration",
    )
    add.add_argument(
        "--layout", choices=("auto", "TD", "DT"), default="auto", help="(time, channels) or reverse"
    )
    add.add_argument("--training-subset", default="", metavar="S", help="subset that trains")
    add.add_argument("--evaluation-subset", default="", metavar="S", help="subset that evaluates")
    add.add_argument("--tiou", metavar="T", help="usual thresholds, e.g. 0.3:0.7:0.1")
    add.add_argument(
        "--split", type=float, metavar="SHARE", help="hold out this share of videos for evaluation"
    )
    add.add_argument("--split-seed", type=int, default=0, metavar="N", help="start of the random split")
    add.add_argument("--replace", action="store_true", help="overwrite a dataset of this name")

    _command(actions, "list", run_datasets_list, "list all datasets", "datasets list")

    check = _command(
        actions, "check", run_datasets_check, "report what is odd or broken", "datasets check salads"
    )
    check.add_argument("name")

    subset = _command(
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

    remove = _command(
        actions, "remove", run_datasets_remove, "forget a dataset; its files stay", "datasets remove salads"
    )
    remove.add_argument("name")


def run_datasets_add(options: argparse.Namespace) -> None:
    """Register a dataset and say what is in it."""
    from tal_core.data.entry import Split
    from tal_core.data.registry import add_dataset
    from tal_core.evaluation.result import parse_tiou

    if options.split is not None and not 0 < options.split < 1:
        raise InputError(f"--split {options.split:g} is no share", mend="Give one between 0 and 1, e.g. 0.2.")
    add_dataset(
        home(),
        options.name,
        annotations=options.annotations,
        features=options.features,
        videos=options.videos,
        video_info=options.video_info,
        layout=options.layout,
        stride=options.stride,
        fps=options.fps,
        snippet_seconds=options.snippet_seconds,
        timing=options.timing,
        offset_seconds=options.offset_seconds,
        training_subset=options.training_subset,
        evaluation_subset=options.evaluation_subset,
        tiou=parse_tiou(options.tiou) if options.tiou else None,
        split=Split(seed=options.split_seed, fraction=options.split) if options.split is not None else None,
        replace=options.replace,
        progress=progress_bar(),
    )
    _print_health(options.name, details=False)


def run_datasets_list(_options: argparse.Namespace) -> None:
    """One line per dataset."""
    from tal_core.data.entry import list_datasets

    for entry in list_datasets(home()):
        print(f"{entry.name}\t{entry.description or entry.annotations}")


def run_datasets_check(options: argparse.Namespace) -> None:
    """The whole health report."""
    _print_health(options.name, details=True)


def _print_health(name: str, details: bool) -> None:
    from tal_core.data.dataset import open_dataset
    from tal_core.data.health import health_report, summary

    dataset = open_dataset(home(), name, progress_bar(), scan_all=details)
    print(f"{name}: {summary(dataset)}")
    report = health_report(dataset)
    if not details:
        serious = report[report["level"] != "info"]
        if len(serious):
            print(f"{len(serious)} findings; see: python -m tal_core datasets check {name}")
        report = report[report["video_id"] == ""]
    _print_findings(report)


def _print_findings(findings) -> None:
    for row in findings.itertuples():
        where = f"{row.video_id}: " if row.video_id else ""
        print(f"  {row.level}: {where}{row.detail}" + (f" ({row.advice})" if row.advice else ""))


def run_datasets_subset(options: argparse.Namespace) -> None:
    """Register a smaller dataset on the same features."""
    from tal_core.data.registry import make_subset

    if options.videos is None and not options.classes:
        raise InputError("nothing to choose by", mend="Give --videos N or --classes NAME ..., or both.")
    make_subset(
        home(),
        options.source,
        options.name,
        videos=options.videos,
        classes=options.classes,
        seed=options.seed,
        progress=progress_bar(),
    )
    _print_health(options.name, details=False)


def run_datasets_remove(options: argparse.Namespace) -> None:
    """Forget a dataset."""
    from tal_core.data.entry import remove_dataset

    remove_dataset(home(), options.name)
    print(f"{options.name} is forgotten; its annotations and features were not touched")


# ---------------------------------------------------------------- train and predict


def _add_train(commands) -> None:
    parser = _command(
        commands,
        "train",
        run_train,
        "train a method on a dataset",
        "train --dataset demo --model baseline --set epochs=2 --run-id first",
    )
    parser.add_argument("--dataset", metavar="NAME", help="a registered dataset")
    parser.add_argument("--model", metavar="METHOD", help="the method: " + ", ".join(METHODS))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting; may be repeated"
    )
    parser.add_argument(
        "--run-id", metavar="ID", help="name of the run (default: made of dataset, method and time)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run --run-id from its last checkpoint"
    )
    parser.add_argument(
        "--settings", action="store_true", help="list the settings of --model and their defaults"
    )


def run_train(options: argparse.Namespace) -> None:
    """Train in the foreground; Ctrl-C stops cleanly and leaves a run to resume."""
    from tal_core.evaluation.result import format_table
    from tal_core.training.config import build_config, parse_settings
    from tal_core.training.loop import train
    from tal_core.training.run import create_run, open_run

    if options.settings:
        _print_settings(options.model or "baseline")
        return
    if options.resume:
        if not options.run_id or options.set:
            raise InputError("--resume takes a run as it is", mend="Give --run-id ID and no --set.")
        run = open_run(home(), options.run_id)
    else:
        if not options.dataset or not options.model:
            raise InputError("nothing to train", mend="Give --dataset NAME and --model METHOD.")
        config = build_config(options.model, parse_settings(options.set))
        run = create_run(home(), options.dataset, options.model, config, options.run_id)
    print(f"run {run.run_id}: {run.folder}")
    train(home(), run, resume=options.resume, progress=progress_bar())
    print(run.status()["message"])
    if (evaluation := run.evaluation()) is not None:
        print(format_table(evaluation))


def _print_settings(model: str) -> None:
    from tal_core.models.registry import get_method
    from tal_core.training.config import form_fields

    for field in form_fields(get_method(model).config):
        print(f"{field.name}={field.default}\t{field.help}")


def _add_predict(commands) -> None:
    parser = _command(
        commands,
        "predict",
        run_predict,
        "detect actions with a trained run",
        "predict --run first --features video.npy --out detections.json",
    )
    parser.add_argument("--run", required=True, metavar="ID", help="the trained run")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="detect in a registered dataset")
    source.add_argument("--features", type=Path, metavar="FILE", help="detect in one feature file")
    source.add_argument(
        "--video", type=Path, metavar="FILE", help="detect in one video, by the built-in extractor"
    )
    parser.add_argument("--layout", choices=("auto", "TD", "DT"), default="auto", help="axes of --features")
    parser.add_argument("--subset", metavar="S", help="subset of --dataset (default: its evaluation subset)")
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="detections as .json or .csv")


def run_predict(options: argparse.Namespace) -> None:
    """Write the detections of a dataset, a feature file or a video."""
    from tal_core.data.detections import write_detections
    from tal_core.inference.predict import load_model, predict_dataset, predict_features
    from tal_core.training.run import open_run

    run = open_run(home(), options.run)
    if options.subset and not options.dataset:
        raise InputError("--subset belongs to --dataset", mend="Leave it out.")
    if options.dataset:
        table, _ = predict_dataset(
            home(), run, options.dataset, subset=options.subset, progress=progress_bar()
        )
    else:
        path = options.features or options.video
        model = load_model(run)
        features, grid = _read_features(options, model.info.num_features)
        table, _ = predict_features(model, features, grid, video_id=path.stem)
    write_detections(table, options.out)
    print(f"{len(table)} detections in {table['video_id'].nunique()} videos: {options.out}")


def _read_features(options: argparse.Namespace, dimension: int):
    """Features of the one file asked for, and their time grid (None: as the run was trained)."""
    if options.features:
        from tal_core.data.features import read_feature_file

        return read_feature_file(options.features, options.layout, dimension), None
    from tal_core.video.motion import extract

    return extract(options.video)


# ---------------------------------------------------------------- evaluate


def _add_evaluate(commands) -> None:
    parser = _command(
        commands,
        "evaluate",
        run_evaluate,
        "mAP of a detections file against ground truth",
        "evaluate --ground-truth gt.json --detections detections.json --subset validation",
    )
    parser.add_argument(
        "--ground-truth", type=Path, required=True, metavar="F", help="annotation file or folder"
    )
    parser.add_argument(
        "--detections", type=Path, required=True, metavar="F", help="ActivityNet result JSON or CSV"
    )
    parser.add_argument(
        "--subset", metavar="S", help="subset of the ground truth (default: its evaluation subset)"
    )
    parser.add_argument(
        "--tiou", default="0.3:0.7:0.1", metavar="T", help="first:last:step or a,b,c (%(default)s)"
    )
    parser.add_argument(
        "--protocol",
        choices=("official", "toolbox"),
        default="official",
        help="official: ActivityNet's script; toolbox: ActionFormer's and OpenTAD's",
    )
    parser.add_argument(
        "--excuse-ambiguous",
        action="store_true",
        help="as THUMOS14's own kit: a detection over an Ambiguous segment is no false positive",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers here")


def run_evaluate(options: argparse.Namespace) -> None:
    """Print AP per class and mAP; optionally write them as JSON."""
    from tal_core.data.annotations import read_annotations
    from tal_core.data.detections import read_detections
    from tal_core.data.oddities import detection_findings
    from tal_core.data.subsets import evaluation_subset, in_subset
    from tal_core.evaluation.average_precision import evaluate
    from tal_core.evaluation.result import format_table, parse_tiou

    annotations = read_annotations(options.ground_truth, options.video_info)
    subset = options.subset or evaluation_subset(annotations)
    truth, videos = in_subset(annotations, subset, where=options.ground_truth)
    detections = read_detections(options.detections)
    result = evaluate(
        truth,
        detections,
        parse_tiou(options.tiou),
        protocol=options.protocol,
        videos=videos,
        ambiguous=annotations.ambiguous if options.excuse_ambiguous else None,
    )
    title = f"subset {subset}, {options.protocol} protocol" if subset else f"{options.protocol} protocol"
    print(format_table(result, title=title))
    _print_findings(detection_findings(detections, truth, annotations.videos))
    if options.json:
        write_json(options.json, result.to_json())
