"""Adding, opening, shrinking and removing datasets."""

import os
import shutil
import threading
import time

import numpy as np
import pandas as pd
import pytest

from tal_core import workspace
from tal_core.data.dataset import entry as entries
from tal_core.data.dataset import inventory
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import (
    Split,
    faulty_datasets,
    list_datasets,
    load_entry,
    read_entry,
    remove_dataset,
    save_entry,
)
from tal_core.data.dataset.health import counts, health_report, summary
from tal_core.data.dataset.index import index_path
from tal_core.data.dataset.registry import add_dataset, make_subset
from tal_core.types import FINDING_COLUMNS, InputError, TimeGrid
from tests.data.files_on_disk import (
    DIMENSION,
    arrays_for,
    four_videos,
    video,
    write_annotations,
    write_features,
)

INDEX_COLUMNS = {
    "video_id", "subset", "duration", "fps", "length", "dimension", "dtype", "path", "snippet_seconds",
    "offset_seconds", "usable", "reason", "num_segments", "video_path",
}  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Arguments of ``add_dataset`` for the four videos, two snippets a second."""
    annotations = write_annotations(tmp_path / "a.json", four_videos())
    features = write_features(tmp_path / "f", arrays_for(four_videos()))
    return {"annotations": annotations, "features": features}


@pytest.fixture
def no_demo(monkeypatch, tmp_path):
    """A house without the built-in demo."""
    monkeypatch.setattr(entries, "DEMO", tmp_path / "none")


@pytest.fixture
def counted(monkeypatch):
    """Paths whose header was read."""
    read, original = [], inventory.read_header
    monkeypatch.setattr(
        inventory, "read_header", lambda source: read.append(source.path.name) or original(source)
    )
    return read


# --- adding and opening -------------------------------------------------------------------------------


def test_add_and_open(home, files):
    entry = add_dataset(home, "small", **files, snippet_seconds=0.5)
    data = open_dataset(home, "small")
    assert data.entry == entry == load_entry(home, "small")
    assert (data.training_subset, data.evaluation_subset) == ("training", "testing")
    assert data.labels == ["jump", "run"]
    assert data.tiou == [0.3, 0.39999999999999997, 0.5, 0.6, 0.7]
    assert data.num_features == DIMENSION
    assert data.videos() == ["a", "b", "c", "d"]
    assert data.videos("TESTING") == ["c", "d"]
    assert data.ground_truth("testing")["video_id"].tolist() == ["c", "d", "d"]
    assert data.ground_truth("testing", videos=["d", "a"])["video_id"].tolist() == ["d", "d"]
    assert len(data.ground_truth()) == 6
    assert data.duration("b") == 24
    assert data.grid("b") == TimeGrid(0.5, 0.25)
    np.testing.assert_array_equal(data.features("b"), arrays_for(four_videos())["b"])
    np.testing.assert_array_equal(data.features("b", 3, 5), arrays_for(four_videos())["b"][3:5])
    assert data.video_path("b") is None
    assert set(data.index) >= INDEX_COLUMNS
    assert data.index["num_segments"].tolist() == [2, 1, 1, 2]
    assert data.index["usable"].all() and (data.index["reason"] == "").all()
    assert data.findings.empty
    assert (
        summary(data)
        == "4 videos (4 usable, 0 without features, 0 broken), 6 annotations of 2 classes, 0.0 hours"
    )


def test_opening_again_reads_no_feature_file(home, files, counted):
    add_dataset(home, "small", **files)
    assert sorted(counted) == ["a.npy", "b.npy", "c.npy", "d.npy"]
    counted.clear()
    before = index_path(home, "small").stat().st_mtime_ns
    open_dataset(home, "small")
    assert not counted
    assert index_path(home, "small").stat().st_mtime_ns == before


def test_only_changed_files_are_read_again(home, files, counted):
    add_dataset(home, "small", **files)
    counted.clear()
    arrays = arrays_for(four_videos())
    np.save(files["features"] / "b.npy", arrays["b"].astype(np.float16))
    (files["features"] / "c.npy").unlink()
    data = open_dataset(home, "small")
    assert counted == ["b.npy"]
    assert data.index["dtype"].tolist() == ["float32", "float16", "", "float32"]
    assert data.index["usable"].tolist() == [True, True, False, True]
    assert data.videos("testing") == ["d"]
    write_features(files["features"], {"c": arrays["c"]})
    assert open_dataset(home, "small").videos("testing") == ["c", "d"]


def test_the_index_file_has_one_row_per_video(home, files):
    add_dataset(home, "small", **files)
    table = pd.read_parquet(index_path(home, "small"))
    assert table["video_id"].tolist() == ["a", "b", "c", "d"]
    assert set(table) >= INDEX_COLUMNS | {"feature0_path", "feature0_mtime"}


@pytest.mark.parametrize("damage", [b"", b"PAR1 not a table"])
def test_a_damaged_index_is_made_anew(home, files, damage):
    add_dataset(home, "small", **files)
    index_path(home, "small").write_bytes(damage)
    assert len(open_dataset(home, "small").videos()) == 4
    assert len(pd.read_parquet(index_path(home, "small"))) == 4


def test_an_index_of_another_shape_is_made_anew(home, files):
    add_dataset(home, "small", **files)
    pd.DataFrame({"video_id": ["a"], "feature0_path": ["x"]}).to_parquet(index_path(home, "small"))
    assert len(open_dataset(home, "small").videos()) == 4


def test_changed_annotations_are_seen(home, files):
    add_dataset(home, "small", **files)
    database = four_videos() | {"e": video("testing", 10.0, (1, 2, "sit"))}
    write_annotations(files["annotations"], database)
    data = open_dataset(home, "small")
    assert data.labels == ["jump", "run", "sit"]
    assert data.index["reason"].tolist()[-1] == "no feature file"


def test_two_openings_at_once(home, files):
    add_dataset(home, "small", **files)
    index_path(home, "small").unlink()
    found, threads = [], []
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: found.append(open_dataset(home, "small").videos())))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert found == [["a", "b", "c", "d"]] * 4


def test_progress_is_told(home, files):
    told = []
    add_dataset(
        home, "small", **files, progress=lambda done, total, message: told.append((done, total, message))
    )
    assert (4, 4, "Reading feature headers of f") in told
    assert (4, 4, "Checking feature values") in told


def test_fingerprint_follows_what_matters(home, files, tmp_path):
    first = open_dataset(home, add_dataset(home, "one", **files).name).fingerprint()
    assert open_dataset(home, "one").fingerprint() == first
    os.utime(files["features"] / "a.npy")
    assert open_dataset(home, "one").fingerprint() == first
    assert open_dataset(home, add_dataset(home, "two", **files, offset_seconds=0).name).fingerprint() != first
    database = four_videos()
    database["a"]["annotations"].pop()
    write_annotations(tmp_path / "a.json", database)
    assert open_dataset(home, "one").fingerprint() != first


def test_video_files_beside(home, files, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "v_b.webm", "c.txt"):
        (folder / name).write_bytes(b"")
    add_dataset(home, "small", **files, videos=folder)
    data = open_dataset(home, "small")
    assert data.video_path("a") == folder / "a.mp4"
    assert data.video_path("b") == folder / "v_b.webm"
    assert data.video_path("c") is None
    assert "2 of 4 videos can be watched" in set(data.findings["detail"])


def test_ids_with_paths_stay_inside(home, tmp_path):
    database = four_videos() | {
        "../secret": video("testing", 10.0, (1, 2, "run")),
        "/etc/x": video("testing", 10.0),
    }
    features = write_features(tmp_path / "f", arrays_for(four_videos()))
    write_features(tmp_path, {"secret": np.ones((20, DIMENSION), np.float32)})
    (tmp_path / "secret.mp4").write_bytes(b"")
    (tmp_path / "videos").mkdir()
    add_dataset(
        home,
        "small",
        annotations=write_annotations(tmp_path / "a.json", database),
        features=features,
        videos=tmp_path / "videos",
    )
    data = open_dataset(home, "small")
    for video_id in ("../secret", "/etc/x"):
        assert data.video_path(video_id) is None
        with pytest.raises(InputError, match="no feature file"):
            data.features(video_id)
    assert data.videos("testing") == ["c", "d"]


def test_a_file_that_vanishes_after_opening(home, files):
    add_dataset(home, "small", **files)
    data = open_dataset(home, "small")
    (files["features"] / "a.npy").unlink()
    with pytest.raises(InputError, match=r"a\.npy: no such file"):
        data.features("a")


def test_unknown_names(home, files):
    add_dataset(home, "small", **files)
    data = open_dataset(home, "small")
    with pytest.raises(InputError, match="no video 'x'"):
        data.features("x")
    with pytest.raises(InputError, match=r"no subset 'dev'.*training, testing"):
        data.videos("dev")
    with pytest.raises(InputError, match=r"no dataset 'other'.*small"):
        open_dataset(home, "other")
    with pytest.raises(InputError, match="can't be the name"):
        open_dataset(home, "../small")


# --- time ---------------------------------------------------------------------------------------------


def test_stride_with_fps(home, files):
    add_dataset(home, "small", **files, stride=15, fps=30)
    assert open_dataset(home, "small").grid("a") == TimeGrid(0.5, 0.25)


def test_stride_takes_each_videos_fps(home, tmp_path):
    database = {
        "a": video("training", 20.0, (1, 2, "x"), fps=30),
        "b": video("testing", 20.0, (1, 2, "x"), fps=24),
    }
    random = np.ones
    features = write_features(tmp_path / "f", {"a": random((40, 3)), "b": random((32, 3))})
    annotations = write_annotations(tmp_path / "a.json", database)
    add_dataset(home, "own", annotations=annotations, features=features, stride=15)
    data = open_dataset(home, "own")
    assert (data.grid("a").stride, data.grid("b").stride) == (0.5, 0.625)
    add_dataset(home, "given", annotations=annotations, features=features, stride=15, fps=30)
    assert open_dataset(home, "given").grid("b").stride == 0.5


def test_step_from_durations(home, files):
    entry = add_dataset(home, "small", **files)
    assert entry.snippet_seconds == 0.5
    report = health_report(open_dataset(home, "small"))
    assert report["detail"].tolist() == ["snippet_seconds = 0.5 is the median of duration / snippets"]


@pytest.mark.parametrize("given", [{"timing": "stretched"}, {}])
def test_stretched_features(home, files, given):
    arrays = {name: np.ones((32, DIMENSION), np.float32) for name in four_videos()}
    write_features(files["features"], arrays)
    entry = add_dataset(home, "small", **files, layout="TD", **given)
    data = open_dataset(home, "small")
    assert entry.timing == "stretched"
    assert data.grid("a") == TimeGrid(20 / 32, 10 / 32)
    assert data.grid("c") == TimeGrid(30 / 32, 15 / 32)
    assert len(data.videos()) == 4


def test_duration_from_the_features(home, files):
    database = four_videos()
    del database["b"]["duration"]
    write_annotations(files["annotations"], database)
    add_dataset(home, "small", **files, snippet_seconds=0.5)
    assert open_dataset(home, "small").duration("b") == 24


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stride": 15}, "--fps"),
        ({"fps": 30}, "--stride"),
        ({"snippet_seconds": 0.5, "stride": 15}, "one or the other"),
        ({"timing": "stretched", "stride": 15, "fps": 30}, "stretched"),
        ({"stride": 0, "fps": 30}, "stride can't be 0. Allowed: a number above 0"),
        ({"snippet_seconds": -1}, "snippet_seconds"),
        ({"layout": "XY"}, "layout can't be .*auto, TD, DT"),
        ({"evaluation_subset": "dev"}, "'dev'"),
    ],
)
def test_arguments_that_make_no_sense(home, files, given, words):
    with pytest.raises(InputError, match=words):
        add_dataset(home, "small", **files, **given)
    assert not (home / "datasets" / "small.toml").exists()


def test_no_durations_and_no_step(home, files):
    database = {name: {**entry, "duration": None} for name, entry in four_videos().items()}
    write_annotations(files["annotations"], database)
    with pytest.raises(InputError, match="--snippet-seconds"):
        add_dataset(home, "small", **files)


# --- subsets ------------------------------------------------------------------------------------------


def test_split(home, files):
    add_dataset(home, "small", **files, split=Split(seed=1, fraction=0.25))
    data = open_dataset(home, "small")
    assert len(data.videos("training")) == 3
    assert len(data.videos("testing")) == 1
    assert open_dataset(home, "small").videos("testing") == data.videos("testing")


@pytest.fixture
def thirty(home, tmp_path):
    """30 videos, 20 for training, 3 classes, registered as ``big``."""
    random = np.random.default_rng(0)
    database = {}
    for i in range(30):
        segments = [(k, k + 1, f"c{c}") for k, c in enumerate(random.choice(3, 4))]
        database[f"v{i:02d}"] = video("training" if i % 3 else "testing", 20.0, *segments)
    database["v00"]["annotations"].append({"segment": [7, 8], "label": "Ambiguous"})
    add_dataset(
        home,
        "big",
        annotations=write_annotations(tmp_path / "big.json", database),
        features=write_features(tmp_path / "big", arrays_for(database)),
        snippet_seconds=0.5,
    )
    return open_dataset(home, "big")


@pytest.mark.parametrize("videos", [2, 7, 12, 30])
def test_a_smaller_dataset(home, thirty, videos):
    entry = make_subset(home, "big", "small", videos=videos, seed=1)
    data = open_dataset(home, "small")
    assert entry.annotations.parent == home / "datasets"
    assert len(data.videos()) == len(data.index) == videos
    assert abs(len(data.videos("training")) - videos * 2 / 3) <= 1
    assert data.ground_truth().equals(thirty.ground_truth(videos=data.videos()))
    name = data.videos()[0]
    np.testing.assert_array_equal(data.features(name), thirty.features(name))
    again = make_subset(home, "big", "again", videos=videos, seed=1)
    assert open_dataset(home, again.name).videos() == data.videos()


def test_fewer_classes(home, thirty):
    make_subset(home, "big", "small", classes=["c2", "c0"])
    data = open_dataset(home, "small")
    assert data.labels == ["c0", "c2"]
    truth = thirty.ground_truth()
    assert len(data.ground_truth()) == truth["label"].isin(["c0", "c2"]).sum()
    assert set(data.videos()) == set(truth.loc[truth["label"] != "c1", "video_id"])
    assert len(data.annotations.ambiguous) == 1


def test_a_subset_of_a_split_dataset_keeps_the_split(home, files):
    add_dataset(home, "small", **files, split=Split(seed=1, fraction=0.5))
    make_subset(home, "small", "less", classes=["run"])
    before, after = open_dataset(home, "small"), open_dataset(home, "less")
    assert after.entry.split is None
    assert set(after.videos("testing")) <= set(before.videos("testing"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"videos": 99}, "from 2 to 30"),
        ({"videos": 0}, "from 2 to 30"),
        ({"classes": ["c9"]}, "no class 'c9'.*c0, c1"),
    ],
)
def test_subsets_that_cannot_be(home, thirty, given, words):
    with pytest.raises(InputError, match=words):
        make_subset(home, "big", "small", **given)
    assert not list((home / "datasets").glob("small*"))


# --- the registry -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_demo")
def test_list_and_remove(home, files):
    assert list_datasets(home) == []
    for name in ("two", "one"):
        add_dataset(home, name, **files)
    assert [entry.name for entry in list_datasets(home)] == ["one", "two"]
    make_subset(home, "one", "less", classes=["run"])
    for name in ("less", "one", "two"):
        remove_dataset(home, name)
    assert list_datasets(home) == []
    assert not list((home / "datasets").iterdir())
    assert files["annotations"].exists() and (files["features"] / "a.npy").exists()
    with pytest.raises(InputError, match=r"no dataset 'one'"):
        remove_dataset(home, "one")


def test_a_taken_name(home, files):
    add_dataset(home, "small", **files)
    with pytest.raises(InputError, match="'small' already"):
        add_dataset(home, "small", **files)
    with pytest.raises(InputError, match="'small' already"):
        make_subset(home, "small", "small", classes=["run"])
    assert add_dataset(home, "small", **files, replace=True, offset_seconds=0).offset_seconds == 0


def test_a_failed_replacement_changes_nothing(home, files, tmp_path):
    add_dataset(home, "small", **files)
    with pytest.raises(InputError):
        add_dataset(
            home, "small", annotations=tmp_path / "none.json", features=files["features"], replace=True
        )
    assert len(open_dataset(home, "small").videos()) == 4


@pytest.mark.usefixtures("no_demo")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("annotations = ", "not TOML"),
        ("annotations = 'a.json'", "features is missing"),
        ("annotations = 'a.json'\nfeatures = ['f']\nwidth = 3", "no setting 'width'"),
        ("annotations = 'a.json'\nfeatures = ['f']\nstride = 'x'", "stride"),
    ],
)
def test_faulty_registry_files(home, text, words):
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=rf"bad\.toml: .*{words}"):
        load_entry(home, "bad")
    assert list_datasets(home) == []
    assert len(faulty_datasets(home)) == 1
    remove_dataset(home, "bad")
    assert faulty_datasets(home) == []


def test_a_dataset_folder_can_be_moved(tmp_path, home):
    """Paths beside the entry are written relative to it, as in the built-in demo."""
    folder = tmp_path / "shipped"
    features = write_features(folder / "features", arrays_for(four_videos()))
    annotations = write_annotations(folder / "a.json", four_videos())
    entry = add_dataset(home, "small", annotations=annotations, features=features, snippet_seconds=0.5)
    save_entry(entry, folder / "dataset.toml")
    shutil.move(folder, tmp_path / "moved")
    moved = read_entry(tmp_path / "moved" / "dataset.toml")
    assert moved.features == [tmp_path / "moved" / "features"]
    assert moved.annotations == tmp_path / "moved" / "a.json"


def test_the_built_in_demo(tmp_path, home, files, monkeypatch):
    shipped = tmp_path / "assets"
    shipped.mkdir()
    monkeypatch.setattr(entries, "DEMO", shipped)
    entry = add_dataset(home, "demo", **files)
    save_entry(entry, shipped / "dataset.toml")
    shutil.rmtree(home)
    assert [entry.name for entry in list_datasets(home)] == ["demo"]
    assert len(open_dataset(home, "demo").videos()) == 4
    assert sorted(path.name for path in shipped.iterdir()) == ["dataset.toml"]
    with pytest.raises(InputError, match="can't be removed"):
        remove_dataset(home, "demo")


def test_an_unwritable_workspace(tmp_path, files):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(InputError, match=r"can't be written.*TAL_HOME"):
        add_dataset(blocked, "small", **files)


def test_a_full_disk(home, files, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tal_core.workspace.os.fsync", full)
    with pytest.raises(InputError, match=r"No space left on device.*Free some space"):
        add_dataset(home, "small", **files)
    assert not list((home / "datasets").glob("*small*.parquet*"))
    monkeypatch.undo()
    assert workspace.check_name("small", "dataset") == "small"


# --- health -------------------------------------------------------------------------------------------


def test_health_report_puts_the_worst_first(home, files):
    database = four_videos()
    database["a"]["annotations"].append({"segment": [4, 4], "label": "run"})
    write_annotations(files["annotations"], database)
    (files["features"] / "b.npy").unlink()
    np.save(files["features"] / "c.npy", np.full((60, DIMENSION), np.nan, np.float32))
    add_dataset(home, "small", **files)
    data = open_dataset(home, "small")
    report = health_report(data)
    assert tuple(report) == FINDING_COLUMNS
    assert report[["level", "kind", "video_id"]].values.tolist() == [
        ["error", "missing features", "b"],
        ["error", "broken features", "c"],
        ["warning", "zero length", "a"],
        ["info", "derived", ""],
    ]
    assert counts(data) == pytest.approx(
        {
            "videos": 4,
            "usable": 2,
            "missing": 1,
            "broken": 1,
            "annotations": 7,
            "classes": 2,
            "hours": 90 / 3600,
        }
    )


def test_many_missing_videos_are_counted_not_listed(home, tmp_path):
    database = four_videos() | {f"x{i}": video("testing", 10.0, (1, 2, "run")) for i in range(99)}
    features = write_features(tmp_path / "f", arrays_for(four_videos()) | {"spare": np.ones((9, DIMENSION))})
    annotations = write_annotations(tmp_path / "a.json", database)
    start = time.monotonic()
    add_dataset(home, "small", annotations=annotations, features=features)
    assert time.monotonic() - start < 30
    report = health_report(open_dataset(home, "small")).set_index("kind")["detail"]
    assert report["missing features"] == "99 videos, first x0: no feature file"
    assert report["spare features"].startswith("1 files of f belong to no annotated video (first: spare)")


def test_nothing_matches(home, tmp_path):
    features = write_features(tmp_path / "f", {"other": np.ones((9, 3), np.float32)})
    annotations = write_annotations(tmp_path / "a.json", four_videos())
    with pytest.raises(
        InputError, match=r"none of 4 annotated videos .*a: no feature file.*named after the videos"
    ):
        add_dataset(home, "small", annotations=annotations, features=features)
