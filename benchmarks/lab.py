"""Times one move of a slider in the post-processing lab: NMS, evaluation, tables and figures, each apart.

    python benchmarks/lab.py

213 videos x 2 000 candidates x 20 classes, as a detector of THUMOS14 leaves them: around the annotations, a
third background, a tenth of a wrong class, few of them sure. With ``--flat`` nearly half are sure, the worst
case for soft-NMS. Times are the least of several calls; the limit is 0.5 s for a move, everything counted.
What is prepared once, when the run is opened, is printed first.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from common import least, parser_of
from evaluation import synthetic

from tal_core.evaluation.average_precision import evaluate, parse_tiou
from tal_core.models.method import Candidates
from tal_core.plots import evaluation as plots
from tal_core.plots import postprocessing_lab
from tal_core.postprocessing.candidates import thin
from tal_core.postprocessing.fusion import Fusion, fuse_class_scores
from tal_core.postprocessing.lab import Bench, search_grid
from tal_core.postprocessing.nms import Suppression

VIDEOS, PER_VIDEO, CLASSES, LIMIT = 213, 2000, 20, 0.5
SOFT = Suppression()
MOVES = {
    "soft, per class (as it is)": SOFT,
    "soft, sigma 0.1": replace(SOFT, nms_sigma=0.1),
    "soft, over all classes": replace(SOFT, nms_per_class=False),
    "soft, over all classes, voting 0.75": replace(SOFT, nms_per_class=False, voting_threshold=0.75),
    "soft, over all classes, voting 0.5": replace(SOFT, nms_per_class=False, voting_threshold=0.5),
    "soft, 2 000 a video kept": replace(SOFT, max_detections=2000),
    "soft, over all classes, 2 000 kept": replace(SOFT, nms_per_class=False, max_detections=2000),
    "hard, per class": replace(SOFT, nms="hard"),
    "hard, over all classes": replace(SOFT, nms="hard", nms_per_class=False),
    "linear, per class": replace(SOFT, nms="linear"),
    "linear, over all classes": replace(SOFT, nms="linear", nms_per_class=False),
    "none": replace(SOFT, nms="none"),
    "none, 2 000 a video kept": replace(SOFT, nms="none", max_detections=2000),
}


def make_candidates(flat: bool, seed: int) -> tuple[pd.DataFrame, dict[str, Candidates], list[str]]:
    """Ground truth, candidates by video, and the class names."""
    truth, table = synthetic(VIDEOS, CLASSES, 3358, VIDEOS * PER_VIDEO, seed)
    labels = sorted(truth["label"].unique())
    scores = table["score"].to_numpy() ** (1 if flat else 4)
    classes = pd.Index(labels).get_indexer(table["label"])
    segments = table[["start", "end"]].to_numpy(np.float32)
    found = {}
    for video, rows in table.groupby("video_id").indices.items():
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        found[str(video)] = Candidates(segments[rows], scores[rows].astype(np.float32), classes[rows], 250.0)
    return truth, found, labels


def draw(present: Any, changed: Any) -> int:
    """Everything that is drawn after a move, as the page sends it; its length."""
    changes = postprocessing_lab.class_changes(present, changed)
    figures = (
        plots.map_curves({"as it is": present, "lab": changed}),
        postprocessing_lab.change_bars(changes),
    )
    tables = (postprocessing_lab.compare_table(present, changed), changes)
    return sum(len(figure.to_json()) for figure in figures) + sum(len(table.to_csv()) for table in tables)


def main() -> int:
    """Prints the table; 1 if a move takes longer than the limit."""
    parser = parser_of(__doc__)
    parser.add_argument("--flat", action="store_true", help="candidates of which nearly half are sure")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    truth, found, labels = make_candidates(options.flat, options.seed)
    tiou = parse_tiou("0.3:0.7:0.1")
    begin = time.perf_counter()
    bench = Bench(found, labels, truth, tiou)
    present = bench.evaluate(SOFT)
    print(f"opening: {time.perf_counter() - begin:.2f} s, {len(bench.joined.scores)} candidates")

    rng = np.random.default_rng(options.seed)
    vectors = {video: rng.random(CLASSES, dtype=np.float32) for video in found}
    for mode in ("weigh", "classes"):
        fusion = Fusion(mode, top_k=2)
        fused, seconds = least(lambda f=fusion: fuse_class_scores(found, vectors, f), 2)
        print(f"class scores, {mode}: {1000 * seconds:.0f} ms")
    moves = {name: (bench, settings) for name, settings in MOVES.items()}
    moves["soft, classes from class scores"] = (Bench(fused, labels, truth, tiou), SOFT)

    print(f"\n{'move (ms)':38s}{'NMS':>8s}{'mAP':>8s}{'drawing':>9s}{'all':>8s}{'detections':>12s}")
    slowest = 0.0
    for name, (which, settings) in moves.items():
        _, nms = least(lambda b=which, s=settings: thin(b.joined, s), options.repeats)
        changed, answer = least(lambda b=which, s=settings: b.evaluate(s), options.repeats)
        _, drawing = least(lambda e=changed: draw(present, e), options.repeats)
        table = which.detections(settings)
        if abs(evaluate(truth, table, tiou).average_mAP - changed.average_mAP) > 1e-9:
            sys.exit(f"{name}: the lab's mAP isn't that of its detections")
        cells = "".join(
            f"{1000 * t:{w}.0f}"
            for t, w in ((nms, 8), (answer - nms, 8), (drawing, 9), (answer + drawing, 8))
        )
        print(f"{name:38s}{cells}{len(table):12d}", flush=True)
        slowest = max(slowest, answer + drawing)
    print(f"\nslowest {slowest:.2f} s of {LIMIT} s; a search tries {len(search_grid(SOFT))} settings")
    return int(slowest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
