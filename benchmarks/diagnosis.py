"""Times the diagnosis at the size of THUMOS14 and of ActivityNet, on synthetic detections made from a seed.

    python benchmarks/diagnosis.py
    python benchmarks/diagnosis.py --reference CHECKOUT

CHECKOUT is a clone of github.com/HumamAlwassel/DETAD. Its three analyses then run on the same tables; times
(without reading files and drawing) and figures are compared. It needs joblib. What numpy has dropped since
(``np.float`` and the like) is replaced in a temporary copy. DETAD takes about ten minutes at the size of
THUMOS14, and far longer at that of ActivityNet: choose with --scale.
"""

import importlib
import importlib.util
import json
import re
import resource
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from common import parser_of, timed
from evaluation import synthetic

from tal_core.evaluation.diagnosis.characteristics import EDGES, NAMES
from tal_core.evaluation.diagnosis.diagnose import LIMIT, MINIMUM_PRECISION, Diagnosis, diagnose
from tal_core.evaluation.diagnosis.report import KEYS, to_json
from tal_core.evaluation.outcomes import OUTCOMES

SCALES: dict[str, dict[str, Any]] = {
    "thumos14": {
        "tables": {"videos": 212, "classes": 20, "instances": 3358, "detections": 42_000},
        "tiou": [0.5],
        "limit": 1.5,
    },
    "activitynet": {
        "tables": {"videos": 4728, "classes": 200, "instances": 7654, "detections": 472_800},
        "tiou": np.linspace(0.5, 0.95, 10).tolist(),
        "limit": 10.0,
    },
}
MOST_MEMORY = 1536  # MiB
REPEATS = 5
DURATION = 400.0  # seconds; every segment ends before
DETAD_KINDS = (
    "True Positive",
    "Double Detection Err",
    "Wrong Label Err",
    "Localization Err",
    "Confusion Err",
    "Background Err",
)


def load_reference(checkout: Path, folder: Path) -> ModuleType:
    """DETAD's module, from a copy that its worker processes can import as well."""
    source = checkout / "src"
    if not (source / "action_detector_diagnosis.py").is_file() or not importlib.util.find_spec("joblib"):
        sys.exit(f"--reference needs {source}/action_detector_diagnosis.py and joblib (pip install joblib)")
    for name in ("action_detector_diagnosis.py", "utils.py"):
        text = (source / name).read_text(encoding="utf-8")
        (folder / name).write_text(re.sub(r"\bnp\.(float|int)\b(?!_)", r"\1", text), encoding="utf-8")
    sys.path.insert(0, str(folder))
    return importlib.import_module("action_detector_diagnosis")


def write_inputs(truth: pd.DataFrame, table: pd.DataFrame, folder: Path) -> tuple[str, str]:
    """The files that DETAD reads, with the characteristics of the annotations."""
    database = {}
    for video, rows in truth.groupby("video_id", sort=False):
        annotations = [
            {
                "segment": [row.start, row.end],
                "label": row.label,
                "coverage": (row.end - row.start) / DURATION,
                "length": row.end - row.start,
                "num-instances": len(rows),
            }
            for row in rows.itertuples()
        ]
        database[video] = {"subset": "test", "duration": DURATION, "annotations": annotations}
    results = {
        video: [
            {"segment": [row.start, row.end], "label": row.label, "score": row.score}
            for row in rows.itertuples()
        ]
        for video, rows in table.groupby("video_id", sort=False)
    }
    paths = folder / "truth.json", folder / "detections.json"
    paths[0].write_text(json.dumps({"database": database, "taxonomy": [], "version": ""}), encoding="utf-8")
    paths[1].write_text(
        json.dumps({"results": results, "version": "", "external_data": {}}), encoding="utf-8"
    )
    return str(paths[0]), str(paths[1])


def time_reference(
    module: ModuleType, truth: pd.DataFrame, table: pd.DataFrame, tiou: list[float], scheme: str
) -> tuple[dict[str, float], float]:
    """DETAD's false-positive figures and missed shares, and the seconds of its analyses.

    It evaluates three times, with other limits: for false positives, for sensitivity, for false negatives.
    What it computes beside its drawing for the latter two comes on top and is left out.
    """
    bins = {name: (np.array(edges), list(NAMES[: len(edges) - 1])) for name, edges in EDGES[scheme].items()}
    seconds, figures = 0.0, {}
    with tempfile.TemporaryDirectory() as folder:
        files = write_inputs(truth, table, Path(folder))
        for part, limit, minimum in (
            ("false positives", LIMIT, 0.0),
            ("sensitivity", None, 0.0),
            ("false negatives", None, MINIMUM_PRECISION),
        ):
            tool = module.ActionDetectorDiagnosis(
                ground_truth_filename=files[0],
                prediction_filename=files[1],
                tiou_thresholds=np.array(tiou),
                limit_factor=limit,
                subset="test",
                load_extra_annotations=True,
                characteristic_names_to_bins=bins,
                normalize_ap=True,
                minimum_normalized_precision_threshold_for_detection=minimum,
            )
            seconds += timed(tool.evaluate)[1]
            figures[f"{part}: normalised mAP"] = tool.average_mAP
            if limit:
                seconds += timed(tool.diagnose)[1]
                counts = tool.fp_error_types_count_df["avg"]
                for ours, theirs in zip(OUTCOMES, DETAD_KINDS, strict=True):
                    figures[f"count {ours}"] = counts[theirs]
                for ours, theirs in zip(OUTCOMES[1:], DETAD_KINDS[1:], strict=True):
                    figures[f"gain {ours}"] = tool.average_mAP_gain[theirs]
    return figures, seconds


def our_figures(diagnosis: Diagnosis) -> dict[str, float]:
    """What `time_reference` gives, from ours."""
    content = to_json(diagnosis)
    profile = content["false_positives"]
    return {
        "false positives: normalised mAP": profile["average_mAP_N"],
        "sensitivity: normalised mAP": content["sensitivity"]["base_average_mAP_N"],
        "false negatives: normalised mAP": content["false_negatives"]["average_mAP_N"],
        **{f"count {kind}": float(np.mean(profile["error_counts"][KEYS[kind]])) for kind in OUTCOMES},
        **{f"gain {kind}": profile["average_mAP_N_gain_when_removed"][KEYS[kind]] for kind in OUTCOMES[1:]},
    }


def main() -> int:
    """Prints one block per scale; 1 if a limit is missed or the figures differ."""
    parser = parser_of(__doc__)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="clone of DETAD")
    parser.add_argument("--scale", choices=SCALES, action="append", help="only this size (repeatable)")
    parser.add_argument("--detections", type=int, metavar="N", help="another number of detections")
    parser.add_argument("--tiou", type=float, nargs="+", metavar="T", help="other thresholds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        module = load_reference(options.reference, Path(folder)) if options.reference else None
        for name in options.scale or SCALES:
            scale = SCALES[name]
            tiou = options.tiou or scale["tiou"]
            sizes = {**scale["tables"], **({"detections": options.detections} if options.detections else {})}
            truth, table = synthetic(**sizes, seed=options.seed)
            durations = pd.Series(DURATION, index=truth["video_id"].unique())
            print(f"{name}: {len(table)} detections x {len(tiou)} tIoU, {len(truth)} annotations, "
                  f"{sizes['videos']} videos, {sizes['classes']} classes")  # fmt: skip
            runs = [
                timed(diagnose, truth, table, tiou, durations=durations, buckets=name) for _ in range(REPEATS)
            ]
            times = [seconds for _, seconds in runs]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"  ours       first call {times[0]:.3f} s, least of {REPEATS} {min(times):.3f} s "
                  f"(limit {scale['limit']} s)")  # fmt: skip
            print(f"  memory     {memory:.0f} MiB at most so far, tables included (limit {MOST_MEMORY} MiB)")
            failed |= min(times) > scale["limit"] or memory > MOST_MEMORY
            if module:
                reference, seconds = time_reference(module, truth, table, tiou, name)
                ours = our_figures(runs[0][0])
                gap = max(abs(ours[figure] - value) for figure, value in reference.items())
                print(f"  reference  {seconds:.1f} s")
                print(f"  ratio      {seconds / min(times):.0f}x, largest difference {gap:.1e} over "
                      f"{len(reference)} figures")  # fmt: skip
                failed |= gap > 1e-9
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
