import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.proposal_recall import ProposalRecall
from tal_core.evaluation.segmentation import segmentation_scores
from tal_core.plots import proposals as plots


def recall(level):
    return ProposalRecall([0.5, 0.7], np.full((2, 100), level), np.arange(1.0, 101), 3, 9, 700)


def test_one_curve_a_run_named_as_plain_text():
    found = {"a<b": recall(0.5), "c": recall(0.25)}
    figure = plots.recall_curves(found)
    assert [line.name for line in figure.data] == ["a&lt;b (AUC 49.50)", "c (AUC 24.75)"]
    assert figure.data[0].y[0] == 50 and figure.data[0].x[-1] == 100
    assert plots.recall_by_threshold(found).data[1].y.tolist() == [25, 25]


def test_figures_in_percent():
    table = plots.recall_table({"a": recall(0.5)})
    assert table.iloc[0].to_dict() == pytest.approx(
        {"run": "a", "AR@1": 50, "AR@5": 50, "AR@10": 50, "AR@100": 50, "AUC": 49.5, "proposals": 700}
    )


def test_no_threshold_is_left_empty():
    truth = pd.DataFrame([("v", 0.0, 1.0, "x")], columns=["video_id", "start", "end", "label"])
    found = {name: segmentation_scores(truth, truth.assign(score=1.0), {"v": 2.0}, 0.5) for name in "ab"}
    table = plots.segmentation_table(found, {"a": -np.inf, "b": 0.5})
    assert table["score at least"].isna().tolist() == [True, False]
    assert table["edit"].tolist() == [100, 100]
