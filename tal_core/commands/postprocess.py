"""``postprocess``: a run with other post-processing settings, made of another run's candidates."""

from __future__ import annotations

import argparse
from pathlib import Path

from tal_core.commands.parsing import Commands, add_run, add_settings, command, open_run_and_dataset
from tal_core.workspace import home


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "postprocess",
        run_postprocess,
        "make a new run of a run's stored candidates, with other NMS settings or video class scores",
        "postprocess --run first --set nms=soft --set nms_sigma=0.3 --run-id first-sharp",
    )
    add_run(parser, "the run that keeps its candidates")
    add_settings(
        parser,
        "nms, nms_sigma, nms_threshold, nms_per_class, voting_threshold, voting_weights, min_score or"
        " max_detections (repeatable)",
    )
    parser.add_argument(
        "--class-scores", metavar="F", help="video-level class scores; 'dataset' for the registered ones"
    )
    parser.add_argument(
        "--fusion",
        choices=("weigh", "classes"),
        default="weigh",
        help="weigh the candidates by them, or take the classes from them (%(default)s)",
    )
    parser.add_argument(
        "--top-k", type=int, default=2, help="best classes of a video, 0 for all (%(default)s)"
    )
    parser.add_argument("--power", type=float, default=1.0, help="exponent of the class score (%(default)s)")
    parser.add_argument("--run-id", metavar="NEW", help="name of the new run (default: ID-lab1, -lab2, ...)")


def run_postprocess(options: argparse.Namespace) -> None:
    """Write the new run; print both figures."""
    from tal_core.data.formats.class_scores import read_class_scores
    from tal_core.postprocessing.fusion import Fusion
    from tal_core.postprocessing.lab import open_candidates
    from tal_core.schema import parse_settings
    from tal_core.training.postprocessed_run import changed_config, derive_run, provenance_of

    run, data = open_run_and_dataset(options.run)
    config = changed_config(run, parse_settings(options.set))
    videos = data.videos(data.evaluation_subset, usable=False)
    stored = open_candidates(run.candidates_file, data.labels, videos, data.blocked)
    fusion = scores = None
    if options.class_scores:
        fusion = Fusion(options.fusion, options.top_k, options.power)
        if options.class_scores == "dataset":
            scores = data.class_scores(list(stored.candidates), stored.labels)
        else:
            scores = read_class_scores(Path(options.class_scores), stored.labels)
    made = derive_run(
        home(), run, data, stored, config, fusion=fusion, class_scores=scores, run_id=options.run_id
    )
    for note in stored.notes:
        print(f"  {note}")
    figures = (provenance_of(made) or {})["average_mAP"]
    before, after = (f"{100 * figures[k]:.2f} %" if figures[k] is not None else "none" for k in figures)
    print(f"{made.run_id}: average mAP {after}; {run.run_id}, as it was: {before}")
