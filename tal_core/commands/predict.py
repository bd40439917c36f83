"""``predict``: detections of a trained run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tal_core.commands.parsing import Commands, add_run, command, progress_bar
from tal_core.types import InputError, TimeGrid
from tal_core.workspace import home

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tal_core.models.shared.weights import WeightsInfo


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "predict",
        run_predict,
        "detect actions with a trained run",
        "predict --run first --features video.npy --out detections.json",
    )
    add_run(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="detect in a registered dataset")
    source.add_argument("--features", type=Path, metavar="FILE", help="detect in one feature file")
    source.add_argument(
        "--video", type=Path, metavar="FILE", help="detect in one video, by the extractor of the run"
    )
    parser.add_argument(
        "--class-scores",
        type=Path,
        metavar="F",
        help="video-level class scores, for runs whose proposals need them; a dataset brings its own",
    )
    parser.add_argument("--layout", choices=("auto", "TD", "DT"), default="auto", help="axes of --features")
    parser.add_argument("--subset", metavar="S", help="subset of --dataset (default: its evaluation subset)")
    parser.add_argument("--out", type=Path, metavar="F", help="detections as .json or .csv")
    parser.add_argument(
        "--burn-in",
        type=Path,
        metavar="F",
        help="also, or instead, --video as .mp4 with the detections drawn in",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.3,
        metavar="X",
        help="lowest score drawn in (default: %(default)s)",
    )


def run_predict(options: argparse.Namespace) -> None:
    """Write the detections of a dataset, a feature file or a video."""
    from tal_core.data.formats.detections import write_detections
    from tal_core.inference.predict import load_model, predict_dataset, predict_features
    from tal_core.runs.run import open_run

    run = open_run(home(), options.run)
    _check_outputs(options)
    if options.subset and not options.dataset:
        raise InputError("--subset belongs to --dataset", hint="Leave it out.")
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
            from tal_core.data.formats.class_scores import read_class_scores

            scores = read_class_scores(options.class_scores, model.info.labels).of(path.stem)
        table, _ = predict_features(model, features, grid, video_id=path.stem, class_scores=scores)
    if options.out:
        write_detections(table, options.out)
        print(f"{len(table)} detections in {table['video_id'].nunique()} videos: {options.out}")
    if options.burn_in:
        _burn_in(options, table, model.info.labels)


def _check_outputs(options: argparse.Namespace) -> None:
    """Say at once what can't be written after all the work."""
    if not options.out and not options.burn_in:
        raise InputError("nothing to write", hint="Give --out F, --burn-in F.mp4, or both.")
    if options.burn_in:
        from tal_core.video.drawing.burn_in import check_out

        if not options.video:
            raise InputError("--burn-in belongs to --video", hint="Leave it out.")
        check_out(options.burn_in)


def _burn_in(options: argparse.Namespace, table: pd.DataFrame, labels: list[str]) -> None:
    """Draw detections from ``--min-score`` on into the video."""
    from tal_core.plots.colors import class_colors
    from tal_core.video.drawing.burn_in import burn_in

    shown = table[table["score"] >= options.min_score]
    notes = burn_in(options.video, shown, options.burn_in, class_colors(labels), progress=progress_bar())
    print(" ".join([f"{len(shown)} detections drawn into the video: {options.burn_in}", *notes]))


def _read_features(options: argparse.Namespace, info: WeightsInfo) -> tuple[np.ndarray, TimeGrid | None]:
    """Features of the one file given, and their time grid (None: as the run was trained)."""
    if options.features:
        from tal_core.data.features.store import read_feature_file

        return read_feature_file(options.features, options.layout, info.num_features), None
    from tal_core.inference.detection_input import features_of_video
    from tal_core.video.frames import Damage

    damage = Damage()
    result = features_of_video(options.video, info, progress_bar(), damage)
    if str(damage):
        print(f"warning: {options.video}: {damage}", file=sys.stderr)
    return result
