"""The tab Frames of Evaluate: per-frame mAP of the engine, for runs that score snippets."""

import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.evaluation.frame_precision import evaluate_dataset_frames
from tal_core.plots.frame_precision import frame_class_map, frame_class_table
from tal_core.postprocessing.candidates import load_all_snippet_scores, save_snippet_scores
from tal_core.types import TimeGrid
from tests.pages.page_tools import finish, open_page, selectbox, small_dataset, small_run, table, texts


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


def scored_run(home, run_id: str, seed: int):
    """A finished run with snippet scores of the two videos of the subset testing."""
    run = small_run(home, "finished", run_id)
    finish(run)
    random = np.random.default_rng(seed)
    scores = {video: (random.random((20, 2)), TimeGrid(1.0, 0.5)) for video in ("v4", "v5")}
    save_snippet_scores(run.folder / "snippet_scores.npz", scores, ["jump", "run"])
    return run


def figures(home, run):
    scores, labels = load_all_snippet_scores(run.folder / "snippet_scores.npz")
    return evaluate_dataset_frames(open_dataset(home, "small"), scores, labels, "testing")


def test_shows_the_per_frame_map_of_the_engine(home):
    runs = [scored_run(home, "first", 0), scored_run(home, "second", 1)]
    found = {run.run_id: figures(home, run) for run in runs}
    app = open_page("evaluate", dataset="small", run=["first", "second"])
    assert not app.exception and not app.error
    shown = table(app, "per-frame mAP").set_index("run")
    for name, one in found.items():
        assert shown.loc[name, "per-frame mAP"] == pytest.approx(100 * one.mean)
        assert shown.loc[name, "calibrated mAP"] == pytest.approx(100 * one.calibrated_mean)
    assert shown["snippets"].tolist() == [40, 40] and shown["videos"].tolist() == [2, 2]
    app.segmented_control(key="frame_precision").set_value("calibrated").run()
    assert not app.exception
    assert "No snippet scores" not in texts(app)


def test_figure_and_table_of_classes_agree(home):
    found = {run.run_id: figures(home, run) for run in (scored_run(home, "b", 2), scored_run(home, "a", 3))}
    classes = frame_class_table(found).set_index(["run", "label"])
    for calibrated, column in ((False, "AP"), (True, "calibrated AP")):
        drawn = frame_class_map(found, calibrated).data[0]
        assert drawn.x == ("b", "a")
        for row, label in zip(drawn.z, drawn.y, strict=True):
            assert row == pytest.approx(classes.loc[[("b", label), ("a", label)], column].to_numpy())


def test_a_run_without_snippet_scores_is_named_beside_one_with(home):
    scored_run(home, "first", 0)
    finish(small_run(home, "finished", "segments"))
    app = open_page("evaluate", dataset="small", run=["first", "segments"])
    assert not app.exception and not app.error
    assert "No snippet scores, so no per-frame AP: **segments**." in texts(app)
    assert table(app, "per-frame mAP")["run"].tolist() == ["first"]


def test_another_subset_than_that_of_the_scores_says_so(home):
    scored_run(home, "first", 0)
    app = open_page("evaluate", dataset="small", run="first", subset="training")
    assert not app.exception
    assert "No snippet scores on this subset: **first**." in texts(app)
    selectbox(app, "Subset").set_value("testing").run()
    assert len(table(app, "per-frame mAP")) == 1


def test_a_faulty_file_of_scores_gets_a_box(home):
    run = scored_run(home, "first", 0)
    (run.folder / "snippet_scores.npz").write_bytes(b"no archive")
    app = open_page("evaluate", dataset="small", run="first")
    assert not app.exception and "snippet_scores.npz" in app.error[0].value
