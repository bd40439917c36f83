import numpy as np
import pytest

from tal_core.models.config import MethodConfig
from tal_core.models.method import Candidates
from tal_core.postprocessing.candidates import (
    load_candidates,
    load_snippet_scores,
    post_process_predictions,
    save_candidates,
    save_snippet_scores,
    suppression,
)
from tal_core.postprocessing.nms import Suppression
from tal_core.types import DETECTION_COLUMNS, InputError, TimeGrid

LABELS = ["jump", "kick"]


def found(*rows) -> Candidates:
    rows = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Candidates(rows[:, :2].astype(np.float32), rows[:, 2].astype(np.float32), rows[:, 3].astype(int))


CANDIDATES = {
    "b": found([0, 4, 0.9, 1], [0.1, 4, 0.8, 1], [0, 4, 0.7, 0], [8, 9, 0.0005, 0]),
    "none": found(),
    "a": found([1, 2, 0.5, 0]),
}


def test_detections_per_video_and_class():
    table = post_process_predictions(CANDIDATES, LABELS, Suppression(nms="hard"))
    assert tuple(table.columns) == DETECTION_COLUMNS
    rows = [tuple(row) for row in table.itertuples(index=False)]
    assert [(v, label) for v, _, _, label, _ in rows] == [("b", "kick"), ("b", "jump"), ("a", "jump")]
    assert rows[2] == ("a", 1.0, 2.0, "jump", 0.5)
    agnostic = post_process_predictions(CANDIDATES, LABELS, Suppression(nms="hard", nms_per_class=False))
    assert len(agnostic) == 2
    few = post_process_predictions(CANDIDATES, LABELS, Suppression(nms="none", max_detections=1))
    assert few["video_id"].tolist() == ["b", "a"]


def test_detections_are_cut_after_nms(tmp_path):
    """The second ends where the first does, but only once it is cut: it overlaps as it is."""
    long = found([4, 6, 0.9, 0], [4, 60, 0.8, 0], [-2, 1, 0.7, 0])
    reaching = Candidates(long.segments, long.scores, long.labels, end=6.0)
    save_candidates(tmp_path / "c.npz", {"v": reaching, "open": long}, LABELS)
    kept, _ = load_candidates(tmp_path / "c.npz")
    assert kept["v"].end == 6.0 and kept["open"].end == np.inf
    table = post_process_predictions(kept, LABELS, Suppression(nms="hard"))
    times = table[["start", "end"]].to_numpy().tolist()
    assert times == [[4, 6], [4, 6], [0, 1], [4, 6], [4, 60], [0, 1]]


@pytest.mark.parametrize("candidates", [{}, {"v": found()}], ids=["no video", "no candidate"])
def test_nothing_gives_an_empty_table(candidates, tmp_path):
    table = post_process_predictions(candidates, LABELS, Suppression())
    assert table.empty and tuple(table.columns) == DETECTION_COLUMNS
    assert table["score"].dtype == np.float64
    save_candidates(tmp_path / "c.npz", candidates, LABELS)
    assert list(load_candidates(tmp_path / "c.npz")[0]) == list(candidates)


def test_settings_follow_the_config():
    config = MethodConfig(nms="hard", nms_threshold=0.3, nms_per_class=False, max_detections=7)
    settings = suppression(config)
    assert (settings.nms, settings.nms_threshold, settings.nms_per_class, settings.max_detections) == (
        "hard",
        0.3,
        False,
        7,
    )


def test_candidates_survive_the_disk(tmp_path):
    path = tmp_path / "candidates.npz"
    save_candidates(path, CANDIDATES, LABELS)
    read, labels = load_candidates(path)
    assert list(read) == list(CANDIDATES) and labels == LABELS
    for video, one in CANDIDATES.items():
        np.testing.assert_array_equal(read[video].segments, one.segments)
        np.testing.assert_array_equal(read[video].scores, one.scores)
        np.testing.assert_array_equal(read[video].labels, one.labels)


def test_one_videos_snippet_scores_are_read_alone(tmp_path):
    path = tmp_path / "snippet_scores.npz"
    random = np.random.default_rng(0)
    scores = {f"v{i}": (random.random((5 + i, 2)), TimeGrid(0.1 * (i + 1), 0.05)) for i in range(4)}
    save_snippet_scores(path, scores, LABELS)
    for video, (table, grid) in scores.items():
        read, read_grid, labels = load_snippet_scores(path, video)
        np.testing.assert_allclose(read, table, atol=1e-3)
        assert read_grid == grid and labels == LABELS and read.dtype == np.float32
    with pytest.raises(InputError, match="no scores of video 'v9'"):
        load_snippet_scores(path, "v9")


def test_snippet_scores_that_lie_column_by_column(tmp_path):
    path = tmp_path / "snippet_scores.npz"
    tables = {f"v{i}": np.random.default_rng(i).random((2, 5 + i)).T for i in range(3)}
    scores = {video: (table, TimeGrid(0.1, 0.05)) for video, table in tables.items()}
    save_snippet_scores(path, scores, LABELS)
    with np.load(path) as file:
        arrays = dict(file)
    assert arrays["scores"].flags.c_contiguous
    for order in ("C", "F"):  # runs were once written in both
        np.savez(path, **{**arrays, "scores": np.array(arrays["scores"], order=order)})
        for video, table in tables.items():
            np.testing.assert_allclose(load_snippet_scores(path, video)[0], table, atol=1e-3)


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "other", "pickled"])
def test_faulty_files(tmp_path, damage):
    path = tmp_path / "candidates.npz"
    save_candidates(path, CANDIDATES, LABELS)
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        np.savez(path, x=np.ones(3))
    elif damage == "pickled":
        np.savez(path, video_ids=np.array([{"a": 1}], dtype=object))
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "truncated" else b"")
    for read in (load_candidates, lambda p: load_snippet_scores(p, "a")):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
