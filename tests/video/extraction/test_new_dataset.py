"""A folder of films and a label file become a dataset: preview, extraction, registration, the command."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tal_core.background import job_folder
from tal_core.cli import main
from tal_core.data.dataset.dataset import open_dataset
from tal_core.data.dataset.entry import Split, load_entry, remove_dataset
from tal_core.data.formats.video_ids import find_name
from tal_core.types import InputError
from tal_core.video.extraction import jobs, new_dataset, process
from tal_core.video.extraction.new_dataset import Plan, look, make, register_once
from tests.video.films import moving_patch, write_film

HALF = Split(fraction=0.5)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Four films of 2 s, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("films")
    first = write_film(folder / "a.mp4", [moving_patch(k / 10, (0.3, 0)) for k in range(20)], fps=10)
    (folder / "more").mkdir()
    for name in ("b.mp4", "c.mp4", "more/d.mp4"):
        shutil.copy(first, folder / name)
    return folder


@pytest.fixture
def videos(films, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(films, tmp_path / "videos"))


def labels(folder: Path, *more: str, names="abcd", ending=".mp4") -> Path:
    path = folder / "labels.csv"
    rows = [
        f"{name}{ending},0.{place},1.{place},{'run' if place % 2 else 'jump'}"
        for place, name in enumerate(names)
    ]
    path.write_text("\n".join(["video,start,end,label", *rows, *more]) + "\n")
    return path


def kinds(preview) -> dict[str, str]:
    return dict(zip(preview.findings["kind"], preview.findings["detail"], strict=True))


def test_the_preview_matches_and_names_what_is_odd(videos, tmp_path):
    (videos / "broken.mp4").write_bytes((videos / "a.mp4").read_bytes()[:300])
    (videos / "silent.mp4").write_bytes((videos / "a.mp4").read_bytes())
    file = labels(tmp_path, "ghost,1,2,run", "a.mp4,1.5,9,run")
    preview = look(Plan(name="x", videos=videos, annotations=file, split=HALF))
    assert preview.matched == 4
    assert preview.seconds == pytest.approx(10, abs=0.3)
    found = kinds(preview)
    assert "1 (ghost)" in found["unknown videos"]
    assert "1 (silent)" in found["without labels"]
    assert "1 (broken)" in found["unreadable"]
    assert "ending after the video" in found["beyond the end"]
    table = preview.table.set_index("video")
    assert table.loc["d.mp4", "segments"] == 1 and table.loc["ghost", "note"] == "no video file"
    assert not list(tmp_path.glob("workspace/*")), "looking writes nothing"


def test_plans_that_cannot_work_are_refused_before_any_work(videos, tmp_path):
    def refuses(what: str, **changes):
        plan = {"name": "x", "videos": videos, "annotations": labels(tmp_path), **changes}
        with pytest.raises(InputError, match=what):
            look(Plan(**plan))

    (tmp_path / "empty").mkdir()
    refuses("no videos in this folder", videos=tmp_path / "empty")
    refuses("no such folder", videos=tmp_path / "absent")
    refuses("no such file", annotations=tmp_path / "absent.csv")
    refuses("no annotated videos in the subset 'dev'", evaluation_subset="dev")
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("video,start,end,label\nx,0,1,run\ny,0,1,run\n")
    refuses("not one of its 2 videos is in the folder", annotations=strangers)
    stated = tmp_path / "stated.csv"
    stated.write_text("video,start,end,label,duration\na,0,1,run,60\nb,0,1,run,2\n")
    found = kinds(look(Plan(name="x", videos=videos, annotations=stated)))
    assert "lasts 2.0 s, but the labels say 60.0 s" in found["duration"]


def test_a_dataset_is_made_and_can_be_trained_on(videos, tmp_path, home):
    (videos / "broken.mp4").write_bytes(b"nothing")
    plan = Plan(name="own", videos=videos, annotations=labels(tmp_path), split=HALF)
    steps = []
    outcome, entry = make(home, plan, processes=1, progress=steps.append)
    assert outcome.made == 4 and list(outcome.failed) == ["broken.mp4"]
    assert entry.annotations == tmp_path / "labels.csv" and entry.extractor["name"] == "motion"
    data = open_dataset(home, "own")
    assert sorted(data.videos()) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert data.num_features == 306 and data.grid("a.mp4").stride == pytest.approx(0.2)
    assert data.duration("d.mp4") == pytest.approx(2, abs=0.11)
    assert data.video_path("d.mp4") == videos / "more" / "d.mp4"
    assert len(data.videos(data.training_subset)) == len(data.videos(data.evaluation_subset)) == 2
    with pytest.raises(InputError, match="already"):
        make(home, plan)
    remove_dataset(home, "own")
    assert not list((home / "datasets").glob("own*"))
    again, _ = make(home, plan, processes=1)
    assert again.made == 0 and again.skipped == 4, "features are kept and used again"


def test_labels_without_video_are_left_out_of_a_copy(films, tmp_path, home):
    file = labels(tmp_path, "ghost,1,2,run", ending="")
    _, entry = make(home, Plan(name="own", videos=films, annotations=file, split=HALF), processes=1)
    assert entry.annotations.parent == home / "datasets"
    data = open_dataset(home, "own")
    assert sorted(data.index["video_id"]) == ["a", "b", "c", "d"] and "ghost" in file.read_text()


def test_frames_of_a_labelling_count_at_its_own_rate(films, tmp_path):
    regions = [
        {"type": "timelinelabels", "value": {"ranges": [{"start": 1, "end": 10}], "timelinelabels": ["run"]}}
    ]
    tasks = [{"data": {"video": f"{name}.mp4"}, "annotations": [{"result": regions}]} for name in "ab"]
    (tmp_path / "ls.json").write_text(json.dumps(tasks))
    plan = Plan(name="x", videos=films, annotations=tmp_path / "ls.json")
    assert "frame rate" in kinds(look(plan))
    told = look(plan.model_copy(update={"labelling_fps": 10.0}))
    assert "frame rate" not in kinds(told)
    assert told.annotations.ground_truth["end"].tolist() == [1.0, 1.0]


@pytest.fixture
def here(monkeypatch):
    """A job's process is this one: ``process.main`` is called by the test."""
    monkeypatch.setattr(job_folder, "spawn", lambda *_: SimpleNamespace(pid=os.getpid()))


def test_a_background_job_registers_the_dataset_once(films, tmp_path, home, here, monkeypatch):
    plan = Plan(name="own", videos=films, annotations=labels(tmp_path), split=HALF)
    monkeypatch.setenv("TAL_HOME", str(home))
    job = new_dataset.start(home, plan)
    job.request_stop()
    assert process.main(str(job.folder)) == 0
    assert job.status()["state"] == "stopped" and not (home / "datasets" / "own.toml").exists()
    jobs.resume(home, job)
    assert process.main(str(job.folder)) == 0
    assert job.status()["state"] == "finished", job.log_tail()
    assert load_entry(home, "own").videos == films
    register_once(home, job.request()["dataset"])  # a resumed job finds it there
    with pytest.raises(InputError, match="already"):
        new_dataset.start(home, plan)


def test_a_job_whose_labels_went_fails_and_goes_on_when_they_are_back(
    films, tmp_path, home, here, monkeypatch
):
    monkeypatch.setenv("TAL_HOME", str(home))
    file = labels(tmp_path)
    job = new_dataset.start(home, Plan(name="own", videos=films, annotations=file, split=HALF))
    file.rename(tmp_path / "away.csv")
    assert process.main(str(job.folder)) == 2
    assert "no such file" in job.status()["error"] and not list((home / "datasets").glob("own.*"))
    (tmp_path / "away.csv").rename(file)
    jobs.resume(home, job)
    assert process.main(str(job.folder)) == 0
    assert len(open_dataset(home, "own").videos()) == 4


def test_the_command(films, tmp_path, home, capsys):
    arguments = ["datasets", "add", "own", "--annotations", str(labels(tmp_path, "ghost,0,1,run"))]
    assert main(arguments) == 2
    assert "--videos DIR with --extract" in capsys.readouterr().err
    assert main([*arguments, "--extract"]) == 2
    assert "nothing to extract" in capsys.readouterr().err
    arguments += ["--videos", str(films), "--extract"]
    for odd in (["--stride", "4"], ["--set", "frames=3"], ["--extractor", "none"], ["--preset", "thumos14"]):
        assert main([*arguments, *odd]) == 2, odd
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main([*arguments, "--split", "0.5", "--set", "stride_seconds=0.4"]) == 0
    said = capsys.readouterr().out
    assert "4 labelled videos" in said and "ghost" in said and "own: 4 videos (4 usable" in said
    assert load_entry(home, "own").snippet_seconds == pytest.approx(0.4)
    assert main([*arguments, "--split", "0.5"]) == 2
    assert np.load(home / "features" / "own" / "a.npy").shape[1] == 306


def test_names_of_videos_are_found():
    names = {"a", "v_b", "c.d"}
    found = {
        video: find_name(video, names)
        for video in ("a", "a.MP4", "v_a", "b", "c.d", "c.d.webm", "e", "a.txt")
    }
    assert [video for video, name in found.items() if name is None] == ["e", "a.txt"]
    assert found["b"] == "v_b" and found["c.d"] == found["c.d.webm"] == "c.d"
    assert found["a"] == found["a.MP4"] == found["v_a"] == "a"
