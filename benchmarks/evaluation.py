"""Times mAP at the size of THUMOS14 and of ActivityNet, on synthetic detections made from a seed.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --reference CHECKOUT

CHECKOUT is a clone of github.com/happyharrycn/actionformer_release, whose evaluation is widely used. It then
runs on the same tables, and both the times and the mAPs are compared. Its numpy alias ``np.float``, which
numpy has dropped, is replaced in a temporary copy; it needs joblib.
"""

import importlib
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from common import parser_of, timed

from tal_core.evaluation.average_precision import evaluate, parse_tiou
from tal_core.evaluation.outcomes import label_detections

SCALES = {
    "thumos": {
        "videos": 212,
        "classes": 20,
        "instances": 3358,
        "detections": 42_000,
        "tiou": "0.3:0.7:0.1",
        "limit": 0.2,
    },
    "activitynet": {
        "videos": 4800,
        "classes": 200,
        "instances": 7600,
        "detections": 360_000,
        "tiou": "0.5:0.95:0.05",
        "limit": 2.0,
    },
}
WARM_RUNS = 7


def synthetic(
    videos: int, classes: int, instances: int, detections: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ground truth and detections: each video shows mostly one class, detections scatter around instances.

    A third are background, a tenth carry a wrong label, scores follow the overlap with noise.
    """
    rng = np.random.default_rng(seed)
    names = np.array([f"video_{i:05d}" for i in range(videos)])
    labels = np.array([f"class {i:03d}" for i in range(classes)])

    in_video = np.sort(np.concatenate([np.arange(videos), rng.integers(0, videos, instances - videos)]))
    start = rng.uniform(0, 220, instances)
    length = rng.gamma(1.5, 3, instances) + 0.2
    main_class = rng.permutation(np.arange(videos) % classes)[in_video]
    instance_class = np.where(rng.random(instances) < 0.95, main_class, rng.integers(0, classes, instances))
    truth = pd.DataFrame(
        {
            "video_id": names[in_video],
            "start": start,
            "end": start + length,
            "label": labels[instance_class],
        }
    )

    # every video gets its share of detections, around its own instances
    video = np.sort(np.arange(detections) % videos)
    first, count = np.searchsorted(in_video, np.arange(videos)), np.bincount(in_video, minlength=videos)
    of = first[video] + rng.integers(0, 1 << 30, detections) % count[video]
    shift, stretch = rng.normal(0, 0.35, detections), np.exp(rng.normal(0, 0.35, detections))
    middle, size = start[of] + length[of] * (0.5 + shift), length[of] * stretch
    background = rng.random(detections) < 1 / 3
    middle = np.where(background, rng.uniform(0, 220, detections), middle)
    wrong = rng.random(detections) < 0.1
    overlap = np.where(background, 0, np.exp(-(shift**2) * 6 - np.log(stretch) ** 2 * 3))
    table = pd.DataFrame(
        {
            "video_id": names[video],
            "start": middle - size / 2,
            "end": middle + size / 2,
            "label": labels[np.where(wrong, rng.integers(0, classes, detections), instance_class[of])],
            "score": 1 / (1 + np.exp(-3 * overlap - rng.normal(-1, 1, detections))),
        }
    )
    return truth, table


def load_reference(checkout: Path, folder: Path) -> ModuleType:
    """ActionFormer's metrics module, from a copy that its worker processes can import as well."""
    path = checkout / "libs" / "utils" / "metrics.py"
    if not path.is_file() or importlib.util.find_spec("joblib") is None:
        sys.exit(f"--reference needs {path} and the package joblib (pip install joblib)")
    source = path.read_text(encoding="utf-8")
    (folder / "reference_metrics.py").write_text(source.replace("np.float)", "float)"), encoding="utf-8")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(folder))
    return importlib.import_module("reference_metrics")


def time_reference(
    metrics: ModuleType, truth: pd.DataFrame, table: pd.DataFrame, tiou: list[float], workers: int
) -> tuple[np.ndarray, float]:
    """mAP per threshold by the reference program, and the seconds of its average precision alone.

    Reading files and its further figure (top-kx recall) are left out of the time.
    """
    labels = sorted(truth["label"].unique())
    number = {label: i for i, label in enumerate(labels)}
    database = {
        video: {
            "subset": "test",
            "annotations": [
                {"segment": [row.start, row.end], "label_id": number[row.label]} for row in rows.itertuples()
            ],
        }
        for video, rows in truth.groupby("video_id", sort=False)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps({"database": database}), encoding="utf-8")
        reference = metrics.ANETdetection(
            str(path), split="test", tiou_thresholds=np.array(tiou), num_workers=workers
        )
    predictions = pd.DataFrame(
        {
            "video-id": table["video_id"],
            "t-start": table["start"],
            "t-end": table["end"],
            "label": table["label"].map(number),
            "score": table["score"],
        }
    )
    ap, seconds = timed(reference.wrapper_compute_average_precision, predictions)
    return ap.mean(axis=1), seconds


def main() -> int:
    """Prints one block per scale; 1 if a limit is missed or the mAPs differ."""
    parser = parser_of(__doc__)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="clone of actionformer_release")
    parser.add_argument("--workers", type=int, default=8, help="reference's processes (its own default: 8)")
    parser.add_argument("--scale", choices=SCALES, action="append", help="only this size (repeatable)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        metrics = load_reference(options.reference, Path(folder)) if options.reference else None
        for name in options.scale or SCALES:
            scale = dict(SCALES[name])
            tiou, limit = parse_tiou(scale.pop("tiou")), scale.pop("limit")
            truth, table = synthetic(**scale, seed=options.seed)
            print(f"{name}: {len(table)} detections x {len(tiou)} tIoU, {len(truth)} annotations, "
                  f"{scale['videos']} videos, {scale['classes']} classes")  # fmt: skip
            result, cold = timed(evaluate, truth, table, tiou, protocol="toolbox")
            warm = np.median(
                [timed(evaluate, truth, table, tiou, protocol="toolbox")[1] for _ in range(WARM_RUNS)]
            )
            _, outcomes = timed(label_detections, truth, table, 0.5)
            print(f"  ours       first call {cold:.3f} s, warm {warm:.3f} s (median of {WARM_RUNS}; "
                  f"limit {limit} s), average mAP {100 * result.average_mAP:.4f} %")  # fmt: skip
            print(f"  outcomes   {outcomes:.3f} s (error type of every detection at tIoU 0.5)")
            failed |= bool(warm > limit)
            if metrics:
                reference, seconds = time_reference(metrics, truth, table, tiou, options.workers)
                gap = float(np.abs(reference - result.mAP).max())
                print(f"  reference  {seconds:.1f} s with {options.workers} processes, average mAP "
                      f"{100 * reference.mean():.4f} %")  # fmt: skip
                print(f"  ratio      {seconds / warm:.0f}x, largest difference of mAP {gap:.1e}")
                failed |= gap > 1e-9
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
