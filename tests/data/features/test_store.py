import h5py
import numpy as np
import pytest

from tal_core.data.features.store import decide_layout, list_stream, open_features, read_feature_file
from tal_core.types import InputError
from tests.data.files_on_disk import write_features


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        name: random.normal(size=(length, 4)).astype(np.float32)
        for name, length in (("a", 5), ("b", 7), ("c", 9))
    }


def test_one_folder(tmp_path, arrays):
    store = open_features([write_features(tmp_path / "f", arrays)])
    assert store.video_ids() == ["a", "b", "c"]
    assert store.header("b")[:2] == (7, 4)
    assert store.header("b").dtype == np.float32
    np.testing.assert_array_equal(store.read("b", 2, 4), arrays["b"][2:4])


def test_channels_first_is_recognised(tmp_path, arrays):
    store = open_features([write_features(tmp_path / "f", {name: a.T for name, a in arrays.items()})])
    assert store.layouts == ["DT"]
    assert store.header("b")[:2] == (7, 4)
    np.testing.assert_array_equal(store.read("b", 2, 4), arrays["b"][2:4])


def test_two_streams_are_joined_and_cropped(tmp_path, arrays):
    rgb = write_features(tmp_path / "rgb", arrays)
    flow = write_features(tmp_path / "flow", {name: -a.T[:2, :-1] for name, a in arrays.items()})
    store = open_features([rgb, flow])
    assert store.layouts == ["TD", "DT"]
    assert store.header("b")[:2] == (6, 6)
    np.testing.assert_array_equal(store.read("b"), np.hstack([arrays["b"], -arrays["b"][:, :2]])[:6])
    assert store.read("b", 4).shape == (2, 6)


def test_one_h5_file_or_a_folder_with_it(tmp_path, arrays):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    for place in (tmp_path / "all.h5", tmp_path):
        store = open_features([place])
        assert store.video_ids() == ["a", "b", "c"]
        np.testing.assert_array_equal(store.read("c", 1), arrays["c"][1:])


def test_files_in_subfolders_and_the_prefix_of_activitynet(tmp_path, arrays):
    write_features(tmp_path / "f" / "train", {"v_a": arrays["a"]})
    write_features(tmp_path / "f" / "val", {"b": arrays["b"]})
    stream = list_stream(tmp_path / "f")
    assert stream.find("a") == "v_a"
    assert stream.find("v_b") == "b"
    assert stream.find("c") is None


def test_the_same_name_twice(tmp_path, arrays):
    write_features(tmp_path / "f" / "one", arrays)
    write_features(tmp_path / "f" / "two", arrays)
    assert len(list_stream(tmp_path / "f").twice) == 3


@pytest.mark.parametrize("video_id", ["../secret", "/etc/passwd", "f/../../secret", ".."])
def test_ids_never_lead_out_of_the_folder(tmp_path, arrays, video_id):
    np.save(tmp_path / "secret.npy", arrays["a"])
    store = open_features([write_features(tmp_path / "f", arrays)])
    with pytest.raises(InputError, match="no features of video"):
        store.read(video_id)


def test_folders_without_features(tmp_path):
    with pytest.raises(InputError, match="no such feature folder"):
        open_features([tmp_path / "none"])
    with pytest.raises(InputError, match=r"no feature files.*\.npy"):
        open_features([tmp_path])


@pytest.mark.parametrize(
    ("shapes", "expected", "layout"),
    [
        ([(5, 4), (7, 4)], None, "TD"),
        ([(4, 5), (4, 7)], None, "DT"),
        ([(5, 4), (7, 4), (4, 9)], None, "TD"),  # one is transposed among others
        ([(100, 40), (100, 40)], [98, 103], "TD"),
        ([(40, 100), (40, 100)], [98, np.nan], "DT"),
        ([(40, 100)], [90], "DT"),
    ],
)
def test_layouts(tmp_path, shapes, expected, layout):
    expected = None if expected is None else np.array(expected, float)
    assert decide_layout(np.array(shapes), tmp_path, expected) == layout


@pytest.mark.parametrize("expected", [None, [np.nan]])
def test_layout_that_cannot_be_told(tmp_path, expected):
    expected = None if expected is None else np.array(expected)
    with pytest.raises(InputError, match=r"\(100, 40\).*--layout TD"):
        decide_layout(np.array([(100, 40)]), tmp_path, expected)


def test_a_single_file(tmp_path, arrays):
    path = tmp_path / "x.npy"
    np.save(path, arrays["b"].T)
    np.testing.assert_array_equal(read_feature_file(path, dimension=4), arrays["b"])
    np.testing.assert_array_equal(read_feature_file(path, "dt"), arrays["b"])
    with pytest.raises(InputError, match="--layout"):
        read_feature_file(path)
    with pytest.raises(InputError, match="no 99 channels"):
        read_feature_file(path, dimension=99)
    with pytest.raises(InputError, match="unknown layout 'XY'"):
        read_feature_file(path, "XY")
    with pytest.raises(InputError, match="no such file"):
        read_feature_file(tmp_path / "y.npy")
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(InputError, match="unknown ending"):
        read_feature_file(tmp_path / "x.txt")


@pytest.mark.parametrize("shape", [(5,), (1, 5, 4), (0, 4), (5, 0), ()])
def test_a_single_file_of_another_shape(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=r"x\.npy"):
        read_feature_file(tmp_path / "x.npy", dimension=4)
