import numpy as np
import pandas as pd
import pytest

from tal_core.data.exploring import similarity
from tal_core.data.exploring.pooling import PooledFeatures
from tal_core.types import InputError


def pooled_from(vectors: np.ndarray) -> PooledFeatures:
    norms = np.linalg.norm(vectors, axis=1)
    directions = vectors / np.where(norms > 0, norms, 1)[:, None]
    names = [f"v{k:04d}" for k in range(len(vectors))]
    return PooledFeatures(names, directions.astype(np.float16), norms.astype(np.float32), {})


@pytest.fixture
def vectors() -> np.ndarray:
    """3000 videos (more than one block); 5 is 4 again, 2500 nearly 7, and 100, 1100, 2100 are one."""
    generator = np.random.default_rng(0)
    values = np.abs(generator.normal(size=(3000, 80))) + 1
    values[5] = values[4]
    values[2500] = values[7] + generator.normal(size=80) * 0.01
    values[1100] = values[2100] = values[100]
    return values


def test_duplicates_are_those_that_comparing_all_pairs_finds(vectors):
    pooled = pooled_from(vectors)
    unit = pooled.directions.astype(np.float64)
    unit -= unit.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for threshold in (0.5, 0.99):
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -1)
        table = similarity.duplicates(pooled, threshold)
        expected = np.flatnonzero((cosines >= threshold).any(axis=1))
        assert sorted(table["video_id"]) == [f"v{k:04d}" for k in expected]
        best = table.set_index("video_id")["similarity"]
        assert best.to_numpy() == pytest.approx(
            [cosines[int(name[1:])].max() for name in best.index], abs=2e-3
        )


def test_groups_hold_what_belongs_together(vectors):
    table = similarity.duplicates(pooled_from(vectors), 0.99)
    groups = {tuple(rows["video_id"]): rows["identical"].all() for _, rows in table.groupby("group")}
    assert groups == {
        ("v0004", "v0005"): True,
        ("v0100", "v1100", "v2100"): True,
        ("v0007", "v2500"): False,
    }
    assert table["group"].is_monotonic_increasing and table["group"].iloc[0] == 1


def test_a_leak_is_a_group_in_both_subsets():
    groups = pd.DataFrame({"group": [1, 1, 2, 2, 3, 3, 3], "video_id": list("abcdefg")})
    subsets = pd.Series(dict(zip("abcdefg", ["t", "e", "t", "t", "e", "e", "t"], strict=True)))
    found = similarity.leaks(groups, subsets, "t", "e")
    assert found["video_id"].tolist() == list("abefg")
    assert similarity.leaks(groups, subsets, "t", "t").empty


def test_similar_videos_come_most_alike_first(vectors):
    pooled = pooled_from(vectors)
    table = similarity.similar_videos(pooled, "v0007", count=5)
    assert table["video_id"].iloc[0] == "v2500" and len(table) == 5
    assert table["similarity"].is_monotonic_decreasing and "v0007" not in set(table["video_id"])
    assert similarity.similar_videos(pooled, "v0004", 1)["similarity"].iloc[0] == pytest.approx(1)
    with pytest.raises(InputError, match="absent"):
        similarity.similar_videos(pooled, "absent")


def test_videos_that_are_all_the_same_are_one_group():
    pooled = pooled_from(np.ones((50, 8)))
    table = similarity.duplicates(pooled)
    assert set(table["group"]) == {1} and len(table) == 50 and table["identical"].all()
    assert similarity.similar_videos(pooled, "v0003", 3)["similarity"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_videos(count):
    pooled = pooled_from(np.eye(3)[:count])
    assert similarity.duplicates(pooled).empty
    assert len(similarity.outliers(pooled.directions, [""] * count, pooled.norms)) == count
    if count:
        assert len(similarity.similar_videos(pooled, "v0000")) == count - 1


def test_too_many_alike_say_so(monkeypatch, vectors):
    monkeypatch.setattr(similarity, "_MOST_PAIRS", 10)
    with pytest.raises(InputError, match="more than 10 pairs"):
        similarity.duplicates(pooled_from(vectors), 0.1)


def test_features_of_zeros_are_outliers_not_duplicates():
    values = np.abs(np.random.default_rng(0).normal(size=(20, 6))) + 1
    values[[3, 9]] = 0
    pooled = pooled_from(values)
    assert similarity.duplicates(pooled).empty
    reasons = similarity.outliers(pooled.directions, ["x"] * 20, pooled.norms)["reason"]
    assert reasons[3] == reasons[9] == "all features are zero"


def test_outliers_by_class_and_by_norm():
    generator = np.random.default_rng(1)
    centres = {"a": generator.normal(size=40), "b": generator.normal(size=40)}
    labels = np.array(["a"] * 60 + ["b"] * 60 + [""] * 5)
    values = np.array([centres[x] if x else centres["a"] * 0 + 1 for x in labels])
    values = values + generator.normal(size=values.shape) * 0.2
    values[10] = centres["b"]  # a wrong label
    values[70] *= 30
    table = similarity.outliers(values, labels)
    assert np.flatnonzero(table["reason"] != "").tolist() == [10, 70]
    assert "“a”" in table["reason"][10] and "norm" in table["reason"][70]
