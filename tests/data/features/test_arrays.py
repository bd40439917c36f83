import pickle

import h5py
import numpy as np
import pytest
import torch

from tal_core.data.features.arrays import Source, read_array, read_header
from tal_core.types import InputError

ARRAY = np.arange(20, dtype=np.float32).reshape(5, 4)


def save(path, array):
    """Write ``array`` in the format that the path's ending names."""
    ending = path.suffix
    if ending == ".npy":
        np.save(path, array)
    elif ending == ".npz":
        np.savez_compressed(path, features=array, other=np.zeros(3))
    elif ending == ".pt":
        torch.save(torch.from_numpy(array), path)
    elif ending == ".pth":
        torch.save({"feats": torch.from_numpy(array), "name": "v"}, path)
    elif ending == ".csv":
        np.savetxt(path, array, delimiter=",")
    else:
        with h5py.File(path, "w") as file:
            file["data"] = array
    return Source(str(path))


ENDINGS = [".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5", ".csv"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same(tmp_path, ending):
    source = save(tmp_path / f"v{ending}", ARRAY)
    assert read_header(source).shape == (5, 4)
    assert read_header(source).dtype.kind == "f"
    whole = read_array(source)
    assert whole.dtype == np.float32 and whole.flags.writeable
    np.testing.assert_array_equal(whole, ARRAY)
    np.testing.assert_array_equal(read_array(source, 1, 3), ARRAY[1:3])
    np.testing.assert_array_equal(read_array(source, 1, 3, time_axis=1), ARRAY[:, 1:3].T)
    np.testing.assert_array_equal(read_array(source, 3, 99), ARRAY[3:])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint16, ">f4"])
def test_other_dtypes_become_float32(tmp_path, dtype):
    source = save(tmp_path / "v.npy", ARRAY.astype(dtype))
    assert read_header(source).dtype == np.dtype(dtype)
    whole = read_array(source)
    assert whole.dtype == np.float32 and whole.dtype.isnative
    np.testing.assert_array_equal(whole, ARRAY)


def test_bfloat16_tensor(tmp_path):
    torch.save(torch.from_numpy(ARRAY).bfloat16(), tmp_path / "v.pt")
    source = Source(str(tmp_path / "v.pt"))
    assert read_header(source).dtype == np.float32
    np.testing.assert_array_equal(read_array(source), ARRAY)


def test_tensor_of_the_old_format(tmp_path):
    torch.save(torch.from_numpy(ARRAY), tmp_path / "v.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_array(Source(str(tmp_path / "v.pt"))), ARRAY)


@pytest.mark.parametrize("heading", ["a,b,c,d", "0,1,2,3", "1,2,3,4"])
def test_csv_with_a_heading(tmp_path, heading):
    path = tmp_path / "v.csv"
    rows = "\n".join(",".join(map(str, row)) for row in ARRAY)
    path.write_text(f"{heading}\n{rows}\n")
    assert read_header(Source(str(path))).shape == (5, 4)
    np.testing.assert_array_equal(read_array(Source(str(path))), ARRAY)


def test_one_h5_of_many_videos(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["v1"] = ARRAY
        file["v2/features"] = ARRAY + 1
    np.testing.assert_array_equal(read_array(Source(str(tmp_path / "all.h5"), "v1")), ARRAY)
    np.testing.assert_array_equal(read_array(Source(str(tmp_path / "all.h5"), "v2")), ARRAY + 1)


def test_an_h5_link_to_another_file_is_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["v1"] = ARRAY
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["v1"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "v1")
    with pytest.raises(InputError):
        read_header(Source(str(tmp_path / "all.h5"), "v1"))


class Bomb:
    """Would create the file ``fired`` if it were ever unpickled."""

    def __init__(self, fired):
        self.fired = fired

    def __reduce__(self):
        return (open, (str(self.fired), "w"))


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt"])
def test_pickles_are_refused_and_never_run(tmp_path, ending):
    fired, path = tmp_path / "fired", tmp_path / f"v{ending}"
    objects = np.array([Bomb(fired)], dtype=object)
    if ending == ".npy":
        np.save(path, objects, allow_pickle=True)
    elif ending == ".npz":
        np.savez(path, features=objects)
    else:
        torch.save({"features": Bomb(fired)}, path)
    with pytest.raises(InputError, match="pickle"):
        read_header(Source(str(path)))
    with pytest.raises(InputError):
        read_array(Source(str(path)))
    assert not fired.exists()


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.ones((2, 2), complex), np.ones((2, 2), bool)])
def test_not_real_numbers(tmp_path, array):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(InputError, match="not a real number"):
        read_header(Source(str(tmp_path / "v.npy")))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", ["garbage", "cut"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files(tmp_path, ending, damage):
    path = tmp_path / f"v{ending}"
    save(path, ARRAY)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2] if damage == "cut" else b"\x80garbage\x00" * 9)
    if ending == ".csv" and damage == "cut":
        return  # half a table is a table
    with pytest.raises(InputError) as error:
        read_header(Source(str(path)))
        read_array(Source(str(path)))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_vanished_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_array(Source(str(tmp_path / "v.npy")))


def test_text_in_a_csv(tmp_path):
    (tmp_path / "v.csv").write_text("a,b\n1,2\nx,3\n")
    with pytest.raises(InputError, match="not a real number"):
        read_header(Source(str(tmp_path / "v.csv")))


def test_which_of_several_arrays(tmp_path):
    np.savez(tmp_path / "v.npz", one=ARRAY, two=ARRAY)
    with pytest.raises(InputError, match="one, two"):
        read_header(Source(str(tmp_path / "v.npz")))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_named_pt(tmp_path):
    (tmp_path / "v.pt").write_bytes(pickle.dumps({"features": [1, 2]}))
    with pytest.raises(InputError):
        read_header(Source(str(tmp_path / "v.pt")))


def test_a_checkpoint_without_tensor(tmp_path):
    torch.save([1, 2], tmp_path / "v.pt")
    with pytest.raises(InputError, match="not a tensor"):
        read_header(Source(str(tmp_path / "v.pt")))
