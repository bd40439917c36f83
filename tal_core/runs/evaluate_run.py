"""What a run's detections are worth on its dataset, as every run is evaluated at its end."""

from __future__ import annotations

import pandas as pd

from tal_core.data.dataset.protocol import FeatureDataset, evaluated_videos
from tal_core.evaluation.average_precision import evaluate
from tal_core.evaluation.result import Evaluation


def evaluate_run(dataset: FeatureDataset, detections: pd.DataFrame) -> Evaluation | None:
    """mAP on the evaluation subset, videos without usable features included; None without ground truth."""
    videos = evaluated_videos(dataset, usable=False)
    if not videos:
        return None
    truth = dataset.ground_truth(dataset.evaluation_subset)
    return evaluate(truth, detections, dataset.tiou, videos=videos)


def average_text(evaluation: Evaluation) -> str:
    """The average mAP and its thresholds, for a message."""
    low, high = min(evaluation.tiou), max(evaluation.tiou)
    return f"average mAP {100 * evaluation.average_mAP:.2f} % (tIoU {low:g} to {high:g})"
