"""``proposals``: recall of segments whatever their labels."""

from __future__ import annotations

import argparse

from tal_core.commands.parsing import Commands, add_files, add_json, command, print_findings, read_inputs
from tal_core.workspace import write_json


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "proposals",
        run_proposals,
        "AR@AN and its area of proposals or detections, labels ignored",
        "proposals --ground-truth gt.json --detections proposals.json --subset validation",
    )
    add_files(parser)
    parser.add_argument(
        "--max-proposals",
        type=float,
        default=100,
        metavar="N",
        help="proposals per video on average that count (%(default)s)",
    )
    add_json(parser)


def run_proposals(options: argparse.Namespace) -> None:
    """Print recall and area; optionally write the curve as JSON."""
    from tal_core.data.formats.findings import detection_findings
    from tal_core.evaluation.proposal_recall import SHOWN, proposal_recall
    from tal_core.types import InputError

    if not options.max_proposals > 0:
        raise InputError("it has to be above 0", where="--max-proposals", hint="The usual number is 100.")
    annotations, _, truth, _, proposals = read_inputs(options)
    findings = detection_findings(proposals.assign(label=""), truth.assign(label=""), annotations.videos)
    try:
        recall = proposal_recall(truth, proposals, options.max_proposals)
    except InputError as error:
        # Names that differ by a prefix are the usual cause; the findings say which.
        advice = findings.loc[findings["kind"] == "unknown videos", "advice"]
        raise InputError(
            error.what, where=options.detections, hint=advice.iloc[0] if len(advice) else error.hint
        ) from None
    counts = f"{recall.num_ground_truth} annotations in {recall.num_videos} videos"
    print(f"{recall.num_proposals} proposals, {counts}")
    for number in SHOWN:
        if (value := recall.at(number)) is not None:
            print(f"{f'AR@{number}':8s}{100 * value:7.2f} %")
    print(
        f"{'AUC':8s}{100 * recall.auc:7.2f} %   up to {recall.proposals_per_video[-1]:g} proposals per video"
    )
    print_findings(findings)
    if options.json:
        write_json(options.json, recall.to_json())
