"""``predict``: detections of a trained run."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import command, progress_bar
from tal_core.types import InputError
from tal_core.workspace import home


def add(commands) -> None:
    """Its arguments."""
    parser = command(
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
        "--video",
        type=Path,
        metavar="FILE",
        help="detect in one video, by the extractor of the features it was trained on",
    )
    parser.add_argument(
        "--class-scores",
        type=Path,
        metavar="F",
        help="video-level class scores, for runs whose proposals need them; a dataset brings its own",
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
        features, grid = _read_features(options, model.info)
        scores = None
        if options.class_scores:
            from tal_core.data.class_scores import read_class_scores

            scores = read_class_scores(options.class_scores, model.info.labels).of(path.stem)
        table, _ = predict_features(model, features, grid, video_id=path.stem, class_scores=scores)
    write_detections(table, options.out)
    print(f"{len(table)} detections in {table['video_id'].nunique()} videos: {options.out}")


def _read_features(options: argparse.Namespace, info):
    """Features of the one file asked for, and their time grid (None: as the run was trained)."""
    if options.features:
        from tal_core.data.features import read_feature_file

        return read_feature_file(options.features, options.layout, info.num_features), None
    from tal_core.video.extractor import extract, spec_of

    return extract(options.video, spec_of(info))
