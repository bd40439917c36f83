"""What goes wrong with big datasets: files that change while they are used, half copies, mismatched files."""

import multiprocessing
import os

import numpy as np
import pytest

from tal_core.data.dataset import dataset as datasets
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.index import index_path
from tal_core.data.dataset.registry import add_dataset
from tal_core.types import InputError
from tal_core.workspace import write_bytes
from tests.data.files_on_disk import (
    DIMENSION,
    arrays_for,
    four_videos,
    video,
    write_annotations,
    write_features,
)


def many(number: int) -> dict:
    """So many videos of 10 s."""
    return {
        f"v{k:04d}": video("training" if k % 4 else "testing", 10.0, (1, 3, "run")) for k in range(number)
    }


@pytest.fixture
def add(home, tmp_path):
    """Register videos (four by default), all with features unless others are given, and open them."""

    def add(database=None, arrays=None, dtype=np.float32):
        database = database or four_videos()
        arrays = arrays_for(database) if arrays is None else arrays
        write_features(tmp_path / "f", {name: array.astype(dtype) for name, array in arrays.items()})
        annotations = write_annotations(tmp_path / "a.json", database)
        add_dataset(home, "big", annotations=annotations, features=tmp_path / "f", snippet_seconds=0.5)
        return open_dataset(home, "big")

    return add


def cut(path, size):
    with path.open("r+b") as file:
        file.truncate(size)


# --- after opening --------------------------------------------------------------------------------------


def test_vanished_files_are_counted(add, tmp_path):
    data = add()
    for name in "ab":
        (tmp_path / "f" / f"{name}.npy").unlink()
    with pytest.raises(InputError, match=r"a\.npy: no such file; .* 2 of 4 feature files went and 0 changed"):
        data.features("a")
    assert len(data.features("c")) == 60


def test_a_file_cut_off_after_opening_is_named(add, tmp_path):
    data = add()
    path = tmp_path / "f" / "a.npy"
    cut(path, path.stat().st_size - 100)
    assert len(data.features("a", 0, 10)) == 10  # what is still there is right
    with pytest.raises(
        InputError, match=r"a\.npy.*100 bytes are missing.*0 of 4 feature files went and 1 ch"
    ):
        data.features("a", 10)


@pytest.mark.parametrize("shape", [(40, DIMENSION + 1), (30, DIMENSION)])
def test_a_file_of_another_shape_is_named(add, tmp_path, shape):
    data = add()
    np.save(tmp_path / "f" / "a.npy", np.zeros(shape, np.float32))
    with pytest.raises(
        InputError, match=r"features of a: has other snippets or channels than the 40 x 6.*1 cha"
    ):
        data.features("a")


def test_float16_stays_as_stored_where_that_is_wanted(add):
    data, arrays = add(dtype=np.float16), arrays_for(four_videos())
    assert data.features("a", 3, 9).dtype == np.float32
    stored = data.features("a", 3, 9, as_stored=True)
    assert stored.dtype == np.float16 and stored.flags.writeable
    np.testing.assert_array_equal(stored, arrays["a"][3:9].astype(np.float16))


# --- at opening -----------------------------------------------------------------------------------------


def test_a_half_copied_folder_is_counted_by_what_is_wrong(add, tmp_path, home):
    add(many(120))
    for k in range(70):
        path = tmp_path / "f" / f"v{k:04d}.npy"
        if k < 60:
            cut(path, path.stat().st_size - 8 - 4 * k)
        else:
            np.save(path, np.zeros((20, DIMENSION - 2), np.float32))
    data = open_dataset(home, "big")
    errors = data.findings[data.findings["level"] == "error"]["detail"].tolist()
    assert errors[0].startswith("60 videos, first v0000: ") and "bytes are missing" in errors[0]
    assert errors[1] == "10 videos, first v0060: 4 channels, the other videos have 6"
    assert len(data.videos()) == 50


def test_a_finished_copy_is_seen(add, tmp_path, home):
    data = add()
    path, whole = tmp_path / "f" / "a.npy", data.features("a")
    cut(path, 200)
    assert open_dataset(home, "big").videos() == ["b", "c", "d"]
    np.save(path, whole)
    assert open_dataset(home, "big").videos() == ["a", "b", "c", "d"]


def test_annotations_of_many_videos_for_a_folder_of_few(add):
    database = many(200)
    data = add(database, arrays_for({name: database[name] for name in list(database)[:20]}))
    assert len(data.videos()) == 20
    error = data.findings[data.findings["kind"] == "missing features"]
    assert error["detail"].tolist() == ["180 videos, first v0020: no feature file"]
    few = data.findings[data.findings["kind"] == "few features"]["detail"].tolist()
    assert few == ["only 20 of 200 annotated videos have a feature file"]


def test_a_folder_of_many_for_annotations_of_few(add):
    data = add(four_videos(), arrays_for(four_videos()) | arrays_for(many(200)))
    assert len(data.videos()) == 4
    spare = data.findings[data.findings["kind"] == "spare features"]["detail"].tolist()
    assert spare == ["200 files of f belong to no annotated video (first: v0000)"]


# --- the index ------------------------------------------------------------------------------------------


def _open_in_process(home, barrier, queue):
    looked = []
    take = datasets.take_inventory
    datasets.take_inventory = lambda *args: looked.append(1) or take(*args)
    barrier.wait()
    queue.put((open_dataset(home, "big").videos(), len(looked)))


def test_two_processes_index_once(add, home):
    add(many(300))
    index_path(home, "big").unlink()
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_open_in_process, args=(home, barrier, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert results[0][0] == results[1][0] and len(results[0][0]) == 300
    assert sorted(looked for _, looked in results) == [0, 1]


def test_what_is_unchanged_is_not_judged_again(add, home, monkeypatch):
    first = add()
    monkeypatch.setattr(datasets, "build_index", None)  # would fail if it were called
    monkeypatch.setattr(datasets, "take_inventory", None)
    again = open_dataset(home, "big")
    assert again.index.equals(first.index) and again.findings.equals(first.findings)
    assert again.entry == first.entry and again.fingerprint() == first.fingerprint()
    assert again.annotations.ground_truth.equals(first.annotations.ground_truth)


def test_annotations_changed_in_place_are_seen_whatever_their_time(add, home, tmp_path):
    add()
    path = tmp_path / "a.json"
    stamp = path.stat()
    path.write_text(path.read_text().replace('"jump"', '"leap"'))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert open_dataset(home, "big").labels == ["leap", "run"]


@pytest.mark.parametrize("content", [b"", b"no arrow"])
def test_damaged_kept_annotations_are_read_again(add, home, content):
    data = add()
    kept = home / "datasets" / "big.annotations.arrow"
    kept.write_bytes(content or kept.read_bytes()[:-300])
    again = open_dataset(home, "big")
    assert again.annotations.ground_truth.equals(data.annotations.ground_truth)


def test_a_full_disk_leaves_the_former_index(add, home, tmp_path, monkeypatch):
    add()
    before = index_path(home, "big").read_bytes()
    np.save(tmp_path / "f" / "a.npy", np.zeros((40, DIMENSION), np.float32))

    def full(path, content):
        if "index" in path.name:  # half of it is written, then there is no room
            path.with_name(f".{path.name}.part").write_bytes(content[: len(content) // 2])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tal_core.workspace.os.fsync", no_room)
                write_bytes(path, content)
        else:
            write_bytes(path, content)

    def no_room(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tal_core.data.dataset.index.write_bytes", full)
    with pytest.raises(InputError, match=r"big\.index\.parquet.*No space left on device.*Free some space"):
        open_dataset(home, "big")
    assert index_path(home, "big").read_bytes() == before
    monkeypatch.undo()
    assert not open_dataset(home, "big").features("a").any()
