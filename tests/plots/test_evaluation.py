import numpy as np
import pandas as pd
import pytest

from tal_core.evaluation.average_precision import evaluate, parse_tiou, precision_recall
from tal_core.evaluation.result import thresholds_text
from tal_core.plots import evaluation as plots


@pytest.fixture(scope="module")
def tables():
    random = np.random.default_rng(0)
    start = random.uniform(0, 90, 60)
    truth = pd.DataFrame({"video_id": random.choice(["a", "b"], 60), "start": start, "end": start + 5})
    truth["label"] = random.choice(["jump", "run <b>"], 60)
    found = truth.assign(start=truth["start"] + random.normal(0, 1.5, 60), score=random.random(60))
    return truth, found


@pytest.fixture(scope="module")
def evaluations(tables):
    truth, found = tables
    tiou = parse_tiou("0.3:0.7:0.1")
    return {"one": evaluate(truth, found, tiou), "two": evaluate(truth, found.iloc[:30], tiou)}


def test_map_curves_show_percent_and_average(evaluations):
    lines = plots.map_curves(evaluations).data
    assert [line.name.split(" ")[0] for line in lines] == ["one", "two"]
    np.testing.assert_allclose(lines[0].y, 100 * evaluations["one"].mAP)
    assert f"{100 * evaluations['one'].average_mAP:.2f}" in lines[0].name
    assert lines[0].line.dash != lines[1].line.dash, "runs are told apart without colour"


def test_map_table(evaluations):
    table = plots.map_table(evaluations)
    assert table.columns.tolist() == [
        "run",
        *(f"mAP@{t}" for t in ("0.3", "0.4", "0.5", "0.6", "0.7")),
        "average",
    ]
    np.testing.assert_allclose(table["average"], [100 * e.average_mAP for e in evaluations.values()])


def test_class_map_has_the_best_class_on_top_and_no_markup(evaluations):
    heat = plots.class_map(evaluations["one"]).data[0]
    assert heat.z[-1][-1] >= heat.z[0][-1]
    assert heat.x[-1] == "average" and "run &lt;b&gt;" in heat.y
    np.testing.assert_allclose(np.mean(np.array(heat.z)[:, -1]), 100 * evaluations["one"].average_mAP)


def test_area_of_the_curve_is_the_ap(tables, evaluations):
    truth, found = tables
    curve = precision_recall(truth, found, [0.5], labels=["jump"])
    figure = plots.precision_recall_figure({"one": curve})
    ap = evaluations["one"].per_class().loc["jump"].iloc[2]
    assert f"AP {100 * ap:.1f} %" in figure.data[1].name


def test_precision_recall_of_a_class_without_detections(tables):
    truth, found = tables
    empty = precision_recall(truth, found.iloc[:0], [0.5], labels=["jump"])
    assert "AP 0.0 %" in plots.precision_recall_figure({"one": empty}).data[1].name


def test_tables_for_download(evaluations):
    per_class = plots.class_table(evaluations)
    assert per_class.columns.tolist()[:2] == ["run", "label"] and len(per_class) == 4
    counts = plots.count_table(evaluations).set_index("what")
    assert counts.loc["detections handed in"].tolist() == [60, 30]
    assert counts.loc["annotations counted", "one"] == 60


@pytest.mark.parametrize("text", ["0.3:0.7:0.1", "0.5:0.95:0.05", "0.5", "0.5,0.75", "0.1,0.5,0.6"])
def test_thresholds_are_written_as_they_are_read(text):
    assert thresholds_text(parse_tiou(text)) == text
