"""Times recall of proposals and figures of labelled frames, on synthetic detections made from a seed.

    python benchmarks/proposals.py
    python benchmarks/proposals.py --reference CHECKOUT

CHECKOUT is a clone of github.com/JJBOY/BMN-Boundary-Matching-Network, whose Evaluation/eval_proposal.py is
the ActivityNet challenge's script in Python 3. It then measures the same proposals at ActivityNet's size, and
curves and times are compared. Its numpy alias ``np.int``, which numpy has dropped, is replaced in a temporary
copy. Labelled frames have no reference here.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser_of, timed
from evaluation import synthetic

from tal_core.evaluation.proposal_recall import ProposalRecall, proposal_recall
from tal_core.evaluation.segmentation import segmentation_scores

ACTIVITYNET = {"videos": 4728, "classes": 200, "instances": 7654, "detections": 472_800}
THUMOS = {"videos": 212, "classes": 20, "instances": 3358, "detections": 42_000}
DURATION = 240.0  # seconds
STEP = 0.1  # seconds between frames
REPEATS = 5


def time_reference(
    checkout: Path, truth: pd.DataFrame, proposals: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, float]:
    """Average recall and proposals per video by the script, each ``(100,)``, and its seconds."""
    source = checkout / "Evaluation" / "eval_proposal.py"
    if not source.is_file():
        sys.exit(f"--reference needs {source}")
    columns = {"video_id": "video-id", "start": "t-start", "end": "t-end"}
    with tempfile.TemporaryDirectory() as folder:
        text = source.read_text(encoding="utf-8").replace("np.int)", "int)")
        (Path(folder) / "reference_proposals.py").write_text(text, encoding="utf-8")
        sys.path.insert(0, folder)
        module = importlib.import_module("reference_proposals")
    (_, recall, number), seconds = timed(
        module.average_recall_vs_avg_nr_proposals,
        truth.rename(columns=columns),
        proposals.rename(columns=columns),
        max_avg_nr_proposals=100,
    )
    return recall, number, seconds


def compare(
    ours: ProposalRecall, fastest: float, recall: np.ndarray, number: np.ndarray, seconds: float
) -> float:
    """Prints times and the largest difference of the two curves; returns the latter."""
    gap = max(np.abs(recall - ours.average_recall).max(), np.abs(number - ours.proposals_per_video).max())
    area = np.trapezoid(recall, number) / number[-1]
    print(f"  reference {seconds:.1f} s, AUC {100 * area:.4f} %")
    print(f"  ratio     {seconds / fastest:.0f}x, largest difference of the curves {gap:.1e}")
    return float(gap)


def main() -> int:
    """Prints a block per measurement; 1 if the curves differ."""
    parser = parser_of(__doc__)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="clone of BMN")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gap = 0.0

    truth, table = synthetic(**ACTIVITYNET, seed=options.seed)
    print(
        f"recall: {len(table)} proposals x 10 tIoU, {len(truth)} annotations, {ACTIVITYNET['videos']} videos"
    )
    runs = [timed(proposal_recall, truth, table) for _ in range(REPEATS)]
    ours, fastest = runs[0][0], min(seconds for _, seconds in runs)
    print(f"  ours      {fastest:.3f} s (least of {REPEATS}), AUC {100 * ours.auc:.4f} %")
    if options.reference:
        gap = compare(ours, fastest, *time_reference(options.reference, truth, table))

    for name, scale in (("THUMOS14", THUMOS), ("ActivityNet", ACTIVITYNET)):
        truth, table = synthetic(**scale, seed=options.seed)
        durations = dict.fromkeys(truth["video_id"], DURATION)
        runs = [timed(segmentation_scores, truth, table, durations, STEP) for _ in range(REPEATS)]
        found, fastest = runs[0][0], min(seconds for _, seconds in runs)
        frames = round(len(durations) * DURATION / STEP)
        print(f"frames: {name}'s size, {len(table)} detections, {frames} frames")
        print(f"  ours      {fastest:.3f} s (least of {REPEATS}), F1@50 {found.means()['F1@50']:.4f} %")
    return int(gap > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
