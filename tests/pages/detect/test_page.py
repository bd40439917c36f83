"""The page Detect, its background work done at once in this process."""

import io

import numpy as np
import pytest

from tal_core.background.job_folder import JobFolder
from tal_core.background.processes import this_process
from tal_core.data.dataset.registry import add_dataset
from tal_core.inference import detection_job
from tal_core.workspace import DEMO, write_json
from tests.pages.page_tools import button, open_page, selectbox, small_dataset, small_run, table, texts

FEATURES = DEMO / "features" / "demo_004.npy"


@pytest.fixture
def at_once(monkeypatch):
    """Background work is done before ``launch`` returns."""

    monkeypatch.setattr(JobFolder, "launch", lambda job, *_: detection_job.main(str(job.folder)))


def upload(app, name: str, content: bytes):
    return app.file_uploader(key="detect_file").upload(name, content, "application/octet-stream").run()


def test_an_uploaded_file_becomes_segments(home, at_once):
    app = upload(open_page("detect"), "../my film.npy", FEATURES.read_bytes())
    assert not app.exception and "array of shape" in texts(app)
    button(app, "Detect").click().run()
    assert not app.exception and not app.error
    assert "detections are shown" in texts(app) and "best F1" in texts(app)
    shown = table(app, "score")
    assert len(shown) and shown["start"].is_monotonic_increasing
    assert detection_job.list_detections(home)[0].name in app.query_params["detection"]
    assert detection_job.list_detections(home)[0].request()["name"] == "my_film"
    app.slider[0].set_value(0.0).run()
    everything = table(app, "score")
    assert len(everything) > len(shown)
    label = everything["label"].iloc[0]
    app.multiselect[0].set_value([label]).run()
    assert set(table(app, "score")["label"]) == {label}

    button(app, "Detect").click().run()  # again: the upload has moved, and is taken in once more
    assert not app.error and len(detection_job.list_detections(home)) == 2
    button(app, "Remove").click().run()
    assert not app.exception and len(detection_job.list_detections(home)) == 1


def test_a_file_of_a_folder_and_runs_that_do_not_fit(tmp_path, home, at_once):
    small_dataset(tmp_path, home)
    small_run(home, "finished")
    app = open_page(
        "detect", **{"from": "From a dataset's folders", "dataset": "demo", "file": "demo_004.npy"}
    )
    assert not app.exception and selectbox(app, "Run").options == ["demo-baseline · baseline · finished"]
    assert "no weights" in texts(app)
    app = open_page("detect", **{"from": "From a dataset's folders", "dataset": "small", "file": "v1.npy"})
    assert "No run matches this file yet" in texts(app) and "306 channels" in texts(app)


def bad_files() -> dict[str, tuple[bytes, str]]:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return {
        "pickle.npy": (buffer.getvalue(), "never loaded"),
        "text.mp4": (b"nothing of a video" * 99, "can't be read as a video"),
        "empty.npy": (b"", "empty"),
    }


@pytest.mark.parametrize("name", sorted(bad_files()))
def test_bad_uploads_get_a_box(home, name):
    content, what = bad_files()[name]
    app = upload(open_page("detect"), name, content)
    assert not app.exception and what in app.error[0].value
    assert not [one for one in app.button if one.label == "Detect"]


def test_a_detection_that_failed_says_why(home, at_once):
    values = np.load(FEATURES)
    values[3] = np.nan
    buffer = io.BytesIO()
    np.save(buffer, values)
    app = upload(open_page("detect"), "nan.npy", buffer.getvalue())
    button(app, "Detect").click().run()
    assert not app.exception and "NaN" in app.error[0].value


def test_progress_is_shown_and_can_be_cancelled(home, monkeypatch):
    def launch(job, *_):
        status = {
            "state": "running",
            "message": "extracting features",
            "done": 3,
            "total": 10,
            "eta_seconds": 7,
        }
        job.write_status({**status, **this_process()})

    monkeypatch.setattr(JobFolder, "launch", launch)
    app = upload(open_page("detect"), "film.npy", FEATURES.read_bytes())
    button(app, "Detect").click().run()
    assert not app.exception
    button(app, "Cancel").click().run()
    detection = detection_job.list_detections(home)[0]
    assert detection.status()["state"] == "stopping"
    write_json(detection.folder / "status.json", {"state": "stopped", "message": "Stopped."})
    app.run()
    assert not app.exception and not [one for one in app.button if one.label == "Cancel"]


def test_an_old_link_gets_a_warning(home, at_once):
    app = upload(open_page("detect", detection="20200101-000000-gone"), "film.npy", FEATURES.read_bytes())
    button(app, "Detect").click().run()
    app = open_page("detect", detection="20200101-000000-gone")
    assert not app.exception and "isn't here" in texts(app)


def test_a_dataset_without_files_to_choose(tmp_path, home):
    import h5py

    small_dataset(tmp_path, home)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for number in range(6):
            file[f"v{number}"] = np.zeros((20, 4), np.float32)
    add_dataset(
        home, "packed", annotations=tmp_path / "small.json", features=tmp_path / "all.h5", layout="TD",
        snippet_seconds=1.0,
    )  # fmt: skip
    app = open_page("detect", **{"from": "From a dataset's folders", "dataset": "packed"})
    assert not app.exception and "neither a video folder" in texts(app)
