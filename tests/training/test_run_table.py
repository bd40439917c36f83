import json

import pytest

from tal_core.runs.run import list_runs
from tal_core.training import run_table as tables
from tal_core.training.profile import Cost
from tests.training.synthetic import make_dataset, make_run

COST = Cost(1234, 2.5, 100.0, 4, 0.01, 0.1, 20.0, 20, 100, 30.0, "cpu", "float32")


@pytest.fixture
def runs(home):
    make_dataset(home)
    return make_run(home, run_id="a"), make_run(home, run_id="b", batch_size=16)


def test_figures_come_from_what_runs_recorded(runs):
    lines = [{"kind": "epoch", "epoch": e, "step": e, "seconds": 1.5} for e in (1, 2, 2)]
    (runs[0].folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (runs[0].folder / "train.log").write_text("2026-01-01 10:00:00 777 weights, on cpu (1 threads)\n")
    table = tables.run_table(runs).set_index("run")
    assert table.loc["a", ["training_seconds", "parameters"]].tolist() == [3.0, 777]
    assert table.loc["b", ["training_seconds", "parameters", "average_mAP"]].isna().all()
    assert table["method"].tolist() == ["baseline"] * 2


def test_only_settings_that_differ_are_listed(runs):
    table = tables.setting_differences(runs)
    assert table.columns.tolist() == ["run", "batch_size"] and table["batch_size"].tolist() == ["32", "16"]
    assert tables.setting_differences(runs[:1]).columns.tolist() == ["run"]


def test_a_measurement_is_kept_and_a_faulty_file_is_none(runs, home, monkeypatch):
    asked = []
    monkeypatch.setattr(tables, "measure_apart", lambda *question: asked.append(question) or COST)
    assert tables.recorded_cost(runs[1]) is None and tables.measure_run(home, runs[1]) == COST
    assert asked[0][1:3] == ("tiny", "baseline") and asked[0][3].batch_size == 16
    assert tables.recorded_cost(runs[1]) == COST
    assert tables.run_table(runs).set_index("run").loc["b", "times_real_time"] == pytest.approx(200)
    runs[1].cost_file.write_text('{"parameters": 1}')
    assert tables.recorded_cost(runs[1]) is None


def test_shipped_runs_cannot_be_measured(runs, home):
    assert tables.can_measure(runs[0])
    assert not tables.can_measure(next(run for run in list_runs(home) if run.shipped))
