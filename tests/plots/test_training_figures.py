import numpy as np
import pandas as pd
import pytest

from tal_core.plots import training


@pytest.fixture
def metrics() -> pd.DataFrame:
    steps = [
        {
            "kind": "step",
            "time": float(i),
            "epoch": 1,
            "step": i,
            "loss": 2.0 - i / 1000,
            "boundary_loss": 1.0,
            "learning_rate": 1e-4,
            "samples_per_second": 10.0,
            "memory_mb": 300.0,
        }
        for i in range(1000)
    ]
    validation = {
        "kind": "validation",
        "epoch": 1,
        "tiou": [0.3, 0.5],
        "mAP": [0.4, 0.2],
        "average_mAP": 0.3,
    }
    return pd.DataFrame([*steps, validation])


def test_loss_terms_are_found_without_a_list_of_methods(metrics):
    assert training.loss_terms(metrics) == ["loss", "boundary_loss"]


def test_long_series_are_averaged_down_and_keep_their_mean(metrics):
    short = training.downsample(training.steps(metrics), "step")
    assert len(short) == training.MOST_POINTS
    assert short["loss"].mean() == pytest.approx(training.steps(metrics)["loss"].mean(), abs=1e-3)


def test_loss_chart_holds_few_points(metrics):
    spec = training.loss_chart(metrics).to_dict()
    assert sum(len(rows) for rows in spec["datasets"].values()) <= 4 * training.MOST_POINTS


def test_validation_is_in_percent(metrics):
    average, lines = training.validation_tables(metrics)
    assert average["mAP"].tolist() == pytest.approx([30.0])
    assert lines["mAP"].tolist() == pytest.approx([40.0, 20.0])
    training.validation_chart(metrics).to_dict()


def test_curve_of_one_column(metrics):
    training.curve_chart(metrics, "learning_rate", "learning rate").to_dict()


def test_nothing_logged_yet():
    assert not training.has_rows(pd.DataFrame(), "step", ["loss"])
    assert not training.has_rows(pd.DataFrame({"kind": ["step"], "loss": [np.nan]}), "step", ["loss"])
