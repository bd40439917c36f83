"""What the index says about broken features."""

import h5py
import numpy as np
import pytest

from tal_core.data.dataset import dataset as datasets
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.registry import add_dataset
from tal_core.types import InputError
from tests.data.files_on_disk import DIMENSION, arrays_for, four_videos, write_annotations, write_features


@pytest.fixture
def add(home, tmp_path):
    """Register the four videos, after ``change(arrays, folder)``, and open them."""

    def add(change=lambda arrays, folder: None, **fields):
        arrays, folder = arrays_for(four_videos()), tmp_path / "f"
        write_features(folder, arrays)
        change(arrays, folder)
        annotations = write_annotations(tmp_path / "a.json", four_videos())
        fields = {"features": folder, "snippet_seconds": 0.5, **fields}
        add_dataset(home, "small", annotations=annotations, **fields)
        return open_dataset(home, "small")

    return add


def broken(write):
    """A change that spoils the file of video ``b``."""
    return lambda arrays, folder: write(folder / "b.npy", arrays["b"])


def with_value(array, value):
    array = array.copy()
    array[7, 2] = value
    return array


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path, _: path.unlink(), "no feature file"),
        (lambda path, _: path.write_bytes(b""), "empty file (0 bytes)"),
        (lambda path, _: path.write_bytes(b"x" * 99), "can't be read"),
        (lambda path, _: path.write_bytes(path.read_bytes()[:-40]), "40 bytes are missing"),
        (lambda path, array: np.save(path, array[:, 0]), "1-D array of shape (48,)"),
        (lambda path, array: np.save(path, array[None]), "3-D array of shape (1, 48, 6)"),
        (lambda path, array: np.save(path, array[:0]), "empty array of shape (0, 6)"),
        (lambda path, array: np.save(path, array.astype(str)), "not a real number"),
        (lambda path, array: np.save(path, array.astype(complex)), "complex128 is not a real number"),
        (lambda path, array: np.save(path, array.astype(object), allow_pickle=True), "pickle"),
        (lambda path, array: np.save(path, with_value(array, np.nan)), "1 NaN or infinite values"),
        (lambda path, array: np.save(path, with_value(array, -np.inf)), "1 NaN or infinite values"),
        (lambda path, array: np.save(path, with_value(array.astype(np.float64), 1e300)), "1 NaN or infinite"),
        (lambda path, array: np.save(path, array.T), "looks transposed: 6 x 48, the others are T x 6"),
        (lambda path, array: np.save(path, array[:, :4]), "4 channels, the other videos have 6"),
        (lambda path, array: np.save(path, array[:20]), "20 snippets, its duration says 48"),
        (lambda path, array: np.save(path, np.tile(array, (2, 1))), "96 snippets, its duration says 48"),
    ],
)
def test_a_broken_video_is_left_out_and_named(add, write, reason):
    data = add(broken(write))
    row = data.index.set_index("video_id").loc["b"]
    assert not row["usable"]
    assert reason in row["reason"]
    assert data.videos() == ["a", "c", "d"]
    errors = data.findings[data.findings["level"] == "error"]
    assert errors["video_id"].tolist() == ["b"]
    assert "Left out of training" in errors["advice"].iloc[0]
    assert data.num_features == DIMENSION


@pytest.mark.parametrize("snippets", [39, 57])
def test_a_slightly_different_length_is_only_reported(add, snippets):
    data = add(broken(lambda path, array: np.save(path, np.resize(array, (snippets, DIMENSION)))))
    assert data.videos() == ["a", "b", "c", "d"]
    assert data.findings[["level", "kind", "video_id"]].values.tolist() == [["warning", "length", "b"]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16])
def test_whole_numbers_are_converted_and_reported(add, dtype):
    data = add(broken(lambda path, array: np.save(path, np.abs(array * 9).astype(dtype))))
    assert data.features("b").dtype == np.float32
    assert data.findings["kind"].tolist() == ["dtype"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_fine(add, dtype):
    data = add(broken(lambda path, array: np.save(path, array.astype(dtype))))
    assert data.findings.empty
    assert data.index["dtype"].tolist()[1] == np.dtype(dtype).name


def transpose_all(arrays, folder):
    write_features(folder, {name: array.T for name, array in arrays.items()})


def test_a_transposed_dataset_is_read_in_time_order(add):
    data = add(transpose_all)
    assert data.entry.layout == ["DT"]
    np.testing.assert_array_equal(data.features("b", 2, 5), arrays_for(four_videos())["b"][2:5])


def test_a_given_layout_goes_first(add):
    data = add(transpose_all, layout="DT")
    assert data.index["length"].tolist() == [40, 48, 60, 32]


def test_two_streams(add, tmp_path):
    flow = {name: array[:-1, :2] for name, array in arrays_for(four_videos()).items()}
    flow["c"] = flow["c"][:-20]
    del flow["d"]
    write_features(tmp_path / "flow", flow)
    data = add(features=[tmp_path / "f", tmp_path / "flow"])
    assert data.index["dimension"].tolist() == [8, 8, 8, 6]
    assert data.index["length"].tolist()[:2] == [39, 47]
    assert data.index["reason"].tolist() == [
        "",
        "",
        "its streams have 60, 39 snippets",
        "flow: no feature file",
    ]
    assert data.features("a").shape == (39, 8)
    assert data.num_features == 8
    assert "streams" in set(data.findings["kind"])


def test_one_h5_of_all(add, tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name, array in arrays_for(four_videos()).items():
            file[f"v_{name}"] = array
    data = add(features=tmp_path / "all.h5")
    np.testing.assert_array_equal(data.features("c", 5, 9), arrays_for(four_videos())["c"][5:9])
    assert (data.index["path"] == str(tmp_path / "all.h5")).all()


def test_prefix_of_activitynet_is_matched_and_reported(add):
    def rename(_, folder):
        (folder / "b.npy").rename(folder / "v_b.npy")

    data = add(rename)
    assert data.videos() == ["a", "b", "c", "d"]
    assert data.findings["kind"].tolist() == ["file names"]


def test_big_datasets_are_scanned_only_on_request(add, home, monkeypatch):
    monkeypatch.setattr(datasets, "SCAN_AT_ONCE", 1000)
    data = add(broken(lambda path, array: np.save(path, with_value(array, np.nan))))
    assert data.videos() == ["a", "b", "c", "d"]
    assert data.findings["kind"].tolist() == ["not scanned"]
    data = open_dataset(home, "small", scan_all=True)
    assert data.videos() == ["a", "c", "d"]
    assert open_dataset(home, "small").videos() == ["a", "c", "d"]  # remembered


def test_all_videos_broken(add):
    def spoil(arrays, folder):
        write_features(folder, {name: np.full_like(array, np.nan) for name, array in arrays.items()})

    data = add(spoil)
    assert data.videos() == []
    with pytest.raises(InputError, match="no video has usable features"):
        _ = data.num_features
