import numpy as np
import pytest

from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.data.exploring import pooling
from tests.data.files_on_disk import DIMENSION, arrays_for, four_videos, write_annotations, write_features


@pytest.fixture
def arrays(tmp_path, home):
    database = four_videos()
    values = arrays_for(database)
    add_dataset(
        home,
        "four",
        annotations=write_annotations(tmp_path / "four.json", database),
        features=write_features(tmp_path / "features", values),
        snippet_seconds=0.5,
    )
    return values


def reads(monkeypatch) -> list[str]:
    """The videos that are read from here on."""
    seen, real = [], pooling._mean
    monkeypatch.setattr(
        pooling, "_mean", lambda data, video, n: (seen.append(video), real(data, video, n))[1]
    )
    return seen


def test_means_are_those_of_the_snippets(monkeypatch, home, arrays):
    monkeypatch.setattr(pooling, "_AT_ONCE", 7)  # so that videos come in several pieces
    pooled = pooling.pool_features(home, open_dataset(home, "four"))
    assert pooled.videos == list("abcd") and pooled.missing == 0 and pooled.directions.dtype == np.float16
    for video_id, direction, norm in zip(pooled.videos, pooled.directions, pooled.norms, strict=True):
        mean = arrays[video_id].mean(axis=0)
        assert norm == pytest.approx(np.linalg.norm(mean), rel=1e-5)
        assert direction * norm == pytest.approx(mean, abs=2e-3)


def test_only_changed_files_are_read_again(monkeypatch, tmp_path, home, arrays):
    pooling.pool_features(home, open_dataset(home, "four"))
    seen = reads(monkeypatch)
    assert pooling.pool_features(home, open_dataset(home, "four")).missing == 0 and not seen
    np.save(tmp_path / "features" / "b.npy", np.ones((48, DIMENSION), np.float64))
    data = open_dataset(home, "four")
    assert pooling.load_pooled(home, data).missing == 1
    pooled = pooling.pool_features(home, data)
    assert seen == ["b"] and pooled.norms[1] == pytest.approx(np.sqrt(DIMENSION))


def test_an_interrupted_call_goes_on_where_it_stopped(monkeypatch, home, arrays):
    def stop(done, _total, _message):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pooling.pool_features(home, open_dataset(home, "four"), stop)
    seen = reads(monkeypatch)
    pooling.pool_features(home, open_dataset(home, "four"))
    assert seen == ["c", "d"]


def test_a_file_that_vanishes_is_named_and_the_others_are_kept(tmp_path, home, arrays):
    data = open_dataset(home, "four")
    (tmp_path / "features" / "c.npy").unlink()
    pooled = pooling.pool_features(home, data)
    assert list(pooled.unread) == ["c"] and pooled.missing == 0
    assert pooled.complete().videos == ["a", "b", "d"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04half", b"nonsense"])
def test_a_damaged_cache_is_made_anew(home, arrays, content):
    data = open_dataset(home, "four")
    pooling.pooled_path(home, "four").write_bytes(content)
    assert pooling.load_pooled(home, data).missing == 4
    assert pooling.pool_features(home, data).missing == 0
