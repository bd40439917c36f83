import numpy as np
import pandas as pd
import pytest

from tal_core.data.benchmarks.published import published_maps, read_published
from tal_core.evaluation.result import Evaluation
from tal_core.plots import comparison as plots
from tal_core.plots.evaluation import map_curves

TIOU = [0.3, 0.39999999999999997, 0.5]


def differences(values) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"c<{k}>" for k in range(len(values))], "first": 0.5})
    table["second"] = 0.5 + np.array(values)
    return table.assign(difference=values).sort_values("difference", ascending=False, ignore_index=True)


def test_bars_go_to_the_right_where_the_second_is_better():
    figure = plots.difference_bars(differences([0.2, 0.0, -0.1]), "label", ("a", "b"), "AP")
    assert [bar.name for bar in figure.data] == ["a is better (1)", "b is better (1)"]
    assert figure.data[0].x[0] == pytest.approx(-10) and figure.data[1].x[0] == pytest.approx(20)
    assert list(figure.layout.yaxis.categoryarray)[::-1] == ["c&lt;0&gt;", "c&lt;1&gt;", "c&lt;2&gt;"]


def test_of_many_those_that_differ_most_are_drawn():
    table = differences([0.3, 0.01, -0.4, 0.0, 0.2])
    assert plots.most_different(table, 3)["difference"].tolist() == [0.3, 0.2, -0.4]


def test_published_lines_stand_at_the_thresholds_evaluated_here_and_say_what_they_are():
    evaluation = Evaluation(TIOU, ["a"], np.array([[0.2, 0.1, 0.1]]), 1, 1, 1)
    results = published_maps(read_published(), "THUMOS14")
    chosen = results[results["method"].isin(["TriDet", "seed project's 1-D CNN"])]
    figure = plots.with_published(map_curves({"mine": evaluation}), chosen, TIOU)
    tridet, seed = figure.data[1:]
    assert list(tridet.x) == [0.3, 0.4, 0.5] and list(tridet.y) == [83.62, 80.07, 72.94]
    assert list(seed.x) == [0.5] and list(seed.y) == [0.05]
    assert all(plots.NOT_OURS in line.name for line in (tridet, seed))
    assert "TriDet" in tridet.hovertemplate and figure.layout.yaxis.range[1] > 83.62
    other = plots.with_published(map_curves({"mine": evaluation}), chosen, [0.75])
    assert len(other.data) == 1, "nothing is drawn between thresholds"


def test_training_curves_share_the_epoch_axis():
    rows = [{"kind": "step", "epoch": 1 + i // 50, "step": i, "loss": 1 / (i + 1)} for i in range(100)]
    rows.append({"kind": "validation", "epoch": 2, "step": 100, "average_mAP": 0.4})
    metrics = {"a": pd.DataFrame(rows), "imported": pd.DataFrame(columns=["kind", "epoch", "step"])}
    loss, validation = plots.loss_curves(metrics), plots.validation_curves(metrics)
    assert [line.name for line in loss.data] == [line.name for line in validation.data] == ["a"]
    assert loss.data[0].x[0] == 0 and loss.data[0].x[-1] == 2
    assert list(validation.data[0].y) == pytest.approx([40.0])
