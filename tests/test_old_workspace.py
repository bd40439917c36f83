"""A workspace that version 0.1.0 made opens in this one. How it was made: its README."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import list_datasets, load_entry
from tal_core.evaluation.average_precision import evaluate
from tal_core.inference import detection_job
from tal_core.inference.predict import predict_dataset
from tal_core.runs.run import list_runs, open_run
from tal_core.streaming.live.folder import list_streams
from tal_core.training.loop import train
from tal_core.training.run_table import run_table
from tal_core.video.extraction import jobs
from tal_core.video.extraction.folder import read_manifest
from tests.pages.page_tools import open_page, selectbox, table, texts

RUNS = ("kitchen-baseline", "kitchen-ssn")
TEXTS = (".json", ".jsonl", ".toml", ".log")


@pytest.fixture(autouse=True)
def old(home, golden) -> Path:
    """The old workspace, as if it had been made where the test runs."""
    shutil.copytree(golden / "workspace_0_1", home)
    for path in home.rglob("*"):
        if path.suffix in TEXTS:
            path.write_text(path.read_text().replace("{WORKSPACE}", str(home)))
    return home


def test_the_datasets_open(old):
    assert {"kitchen", "kitchen-edited"} <= {entry.name for entry in list_datasets(old)}
    data = open_dataset(old, "kitchen")
    assert data.labels == ["cut", "pour"] and data.num_features == 4
    assert data.videos("validation") == ["v3", "v4"] and len(data.ground_truth("training")) == 9


def test_edited_annotations_are_the_datasets(old):
    entry, data = load_entry(old, "kitchen-edited"), open_dataset(old, "kitchen-edited")
    assert entry.annotations == old / "annotations" / "kitchen-edited-2.json"
    assert [source.annotations.name for source in entry.earlier] == ["kitchen.json"]
    assert data.labels == ["chop", "cut", "pour"]
    assert data.ground_truth(videos=["v0"]).values.tolist()[0] == ["v0", 5.5, 11.0, "chop"]


@pytest.mark.parametrize("run_id", RUNS)
def test_a_run_says_what_it_was(old, run_id):
    assert {run.run_id for run in list_runs(old)} >= set(RUNS)
    run = open_run(old, run_id)
    assert run.config()["dataset"] == "kitchen" and run.config()["model"] == run_id.removeprefix("kitchen-")
    status, evaluation = run.status(), run.evaluation()
    assert status["state"] == "finished" and status["average_mAP"] == evaluation.average_mAP
    metrics = run.metrics()
    assert metrics.loc[metrics["kind"] == "epoch", "epoch"].max() == status["epochs"]
    assert "Finished: average mAP" in run.log_tail()
    data = open_dataset(old, "kitchen")
    again = evaluate(data.ground_truth("validation"), run.detections(), data.tiou, videos=["v3", "v4"])
    assert again.average_mAP == pytest.approx(evaluation.average_mAP, abs=1e-9)


@pytest.mark.parametrize("run_id", RUNS)
def test_a_checkpoint_gives_the_detections_that_the_run_holds(old, run_id):
    run = open_run(old, run_id)
    made, _ = predict_dataset(old, run, "kitchen", device="cpu")
    by = ["video_id", "label", "score", "start"]
    made, held = (table.sort_values(by, ignore_index=True) for table in (made, run.detections()))
    columns = ["start", "end", "score"]
    assert len(made) == len(held)
    assert (made["video_id"] + made["label"]).tolist() == (held["video_id"] + held["label"]).tolist()
    np.testing.assert_allclose(made[columns], held[columns], rtol=1e-3, atol=1e-3)


def test_a_run_goes_on_from_its_checkpoint(old):
    run = open_run(old, "kitchen-ssn")
    for name, changes in {"config.json": {"epochs": 5}, "status.json": {"state": "stopped"}}.items():
        path = run.folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert train(old, run, resume=True) == "finished"
    metrics = run.metrics()
    assert metrics.loc[metrics["kind"] == "epoch", "epoch"].tolist() == [1, 2, 3, 4, 5]


def test_runs_are_compared(old):
    runs = run_table([open_run(old, run_id) for run_id in RUNS]).set_index("run")
    assert runs["parameters"].tolist() == [4099.0, 3192.0], "old runs say it in their log alone"
    assert (runs["training_seconds"] > 0).all()


def test_a_stream_can_be_looked_at_and_removed(old):
    (stream,) = list_streams(old)
    assert stream.name == "short-film" and stream.request()["run"] == "demo-baseline"
    assert stream.status()["state"] == "finished" and len(stream.status()["labels"]) == 10
    assert [record["kind"] for record in stream.records()] == ["stream", "end", "over"]
    seconds, scores = stream.scores()
    assert len(seconds) == len(scores) > 10 and scores.shape[1] == 10
    assert stream.picture()[:2] == b"\xff\xd8"
    stream.remove()
    assert list_streams(old) == []


def test_a_detection_can_be_looked_at(old):
    (detection,) = detection_job.list_detections(old)
    request, status, segments = detection.request(), detection.status(), detection.table()
    assert request["name"] == "v3" and Path(request["run"]) == old / "runs" / "kitchen-baseline"
    assert status["state"] == "finished" and status["message"] == f"{len(segments)} detections"
    scores, grid, labels = detection.scores()
    assert scores.shape == (52, 2) and grid.stride == 1 and labels == status["labels"] == ["cut", "pour"]


def test_an_extraction_goes_on(old):
    (job,) = jobs.list_jobs(old)
    assert job.status()["state"] == "finished" and job.status()["done"] == 1
    assert job.out == old / "features" / "films" and job.spec.stride_seconds == 0.5
    manifest = read_manifest(job.out)
    assert manifest.videos["short.mp4"].state == "done" and manifest.num_features > 0


@pytest.mark.parametrize("page", ["overview", "timeline", "evaluate"])
def test_the_pages_show_it(page):
    query = {} if page == "overview" else {"dataset": "kitchen", "run": "kitchen-ssn"}
    app = open_page(page, **query)
    assert not app.exception and not app.error
    if page == "overview":
        frames = pd.concat([frame.value.astype(str) for frame in app.dataframe])
        assert {"kitchen", *RUNS} <= set(frames.to_numpy().ravel())
    elif page == "timeline":
        assert selectbox(app, "Video (most wrong first)").value in ("v3", "v4")
        assert set(table(app, "outcome")["row"]) == {"Ground truth", "kitchen-ssn"}
    else:
        assert "11.3" in texts(app) + str([metric.value for metric in app.metric])
