import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tal_core.data.dataset.entry import load_entry
from tal_core.data.dataset.registry import add_dataset
from tal_core.types import InputError
from tal_core.video.extraction import folder as extraction
from tal_core.video.extraction import workers
from tal_core.video.extraction.folder import extract_folder, find_videos, read_manifest, sole_writer
from tal_core.video.extraction.workers import VideoFeatures
from tal_core.video.extractors.extractor import extract
from tal_core.video.extractors.spec import ExtractorSpec
from tests.video.films import moving_patch, write_film

MOTION = ExtractorSpec()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    frames = [moving_patch(k / 12.5, (0.4, 0)) for k in range(20)]
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames, fps=12.5)


@pytest.fixture
def videos(tmp_path, film):
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "more/c.mp4"):
        (folder / name).write_bytes(film.read_bytes())
    return folder


def run(videos, out, spec=MOTION, **how):
    return extract_folder(videos, out, spec, **{"processes": 1, **how})


def test_a_folder_becomes_features_and_is_done_once(videos, tmp_path, film):
    out, steps = tmp_path / "out", []
    outcome = run(videos, out, progress=steps.append)
    assert (outcome.made, outcome.skipped, outcome.failed, outcome.stopped) == (3, 0, {}, False)
    features = np.load(out / "c.npy")
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, extract(film)[0].astype(np.float16))
    manifest = read_manifest(out)
    state = manifest.videos["more/c.mp4"]
    assert manifest.spec == MOTION and manifest.num_features == features.shape[1]
    assert (state.state, state.features, state.snippets) == ("done", "c.npy", len(features))
    assert state.size == film.stat().st_size and state.seconds == pytest.approx(1.52)
    assert steps[0].done == 0 and (steps[-1].done, steps[-1].total, steps[-1].failed) == (3, 3, 0)
    assert steps[-1].seconds_done == steps[-1].seconds_total == pytest.approx(4.8)
    assert [step.seconds_done for step in steps] == sorted(step.seconds_done for step in steps)

    before = {path: path.stat().st_mtime_ns for path in out.glob("*.npy")}
    again = run(videos, out)
    assert (again.made, again.skipped) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.npy")} == before
    assert not list(out.glob(".*.npy*")), "no part of a file stays"


def test_what_changed_is_done_again_and_what_is_new_too(videos, tmp_path, film):
    out = tmp_path / "out"
    run(videos, out)
    shorter = [moving_patch(k / 12.5) for k in range(10)]
    write_film(videos / "a.mp4", shorter, fps=12.5)
    (videos / "d.mp4").write_bytes(film.read_bytes())
    (out / "b.npy").unlink()
    outcome = run(videos, out)
    assert (outcome.made, outcome.skipped) == (3, 1)
    assert len(np.load(out / "a.npy")) == 4 and (out / "b.npy").exists() and (out / "d.npy").exists()


def test_unreadable_videos_are_listed_and_do_not_stop_the_rest(videos, tmp_path, film):
    (videos / "a.mp4").write_bytes(b"no film")
    cut = videos / "b.mp4"
    write_film(cut, [moving_patch(0)])
    out = tmp_path / "out"
    outcome = run(videos, out)
    assert outcome.made == 1 and set(outcome.failed) == {"a.mp4", "b.mp4"}
    assert outcome.failed["a.mp4"].startswith("can't be read as a video")
    assert "too short" in outcome.failed["b.mp4"] and "Use videos of" in outcome.failed["b.mp4"]
    assert sorted(path.name for path in out.glob("*.npy")) == ["c.npy"]
    (videos / "a.mp4").write_bytes(film.read_bytes())
    assert run(videos, out).made == 1, "what failed is tried again"


def test_features_of_a_video_that_broke_since_do_not_stay(videos, tmp_path):
    out = tmp_path / "out"
    run(videos, out)
    (videos / "a.mp4").write_bytes(b"no film any more")
    assert set(run(videos, out).failed) == {"a.mp4"}
    assert not (out / "a.npy").exists()


def test_videos_of_one_name_do_not_overwrite_each_other(videos, tmp_path, film):
    (videos / "more" / "a.mp4").write_bytes(film.read_bytes())
    outcome = run(videos, tmp_path / "out")
    assert outcome.made == 3
    assert outcome.failed == {"more/a.mp4": "has the same name as a.mp4; rename one of them"}


def test_another_extractor_in_the_same_folder_is_refused(videos, tmp_path):
    out = tmp_path / "out"
    run(videos, out)
    content = {path: path.read_bytes() for path in out.glob("*.npy")}
    with pytest.raises(InputError, match=r"stride_seconds 0.2 \(asked for: 0.4\).*another folder"):
        run(videos, out, ExtractorSpec(stride_seconds=0.4))
    assert {path: path.read_bytes() for path in out.glob("*.npy")} == content


def test_features_of_someone_else_are_not_touched(videos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.npy").write_bytes(b"precious")
    with pytest.raises(InputError, match="features that were not made here"):
        run(videos, out)
    (out / "a.npy").unlink()
    run(videos, out)
    (videos / "z.mp4").write_bytes((videos / "a.mp4").read_bytes())
    (out / "z.npy").write_bytes(b"precious")
    assert "not made from it" in run(videos, out).failed["z.mp4"]
    assert (out / "z.npy").read_bytes() == b"precious"


def test_two_extractions_into_one_folder_are_refused(videos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with sole_writer(out), pytest.raises(InputError, match="another extraction is writing to this folder"):
        run(videos, out)
    run(videos, out)


def test_a_full_disk_ends_it_cleanly_and_the_next_call_goes_on(videos, tmp_path, monkeypatch):
    out, real, room = tmp_path / "out", os.fsync, 2

    def full(descriptor):
        nonlocal room
        if ".npy" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            room -= 1
            if room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            run(videos, out)
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".npy") == ["a.npy", "b.npy"]
    outcome = run(videos, out)
    assert (outcome.made, outcome.skipped) == (1, 2)


def test_a_stop_keeps_what_is_done(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_TICK_SECONDS", 0)
    out = tmp_path / "out"
    outcome = run(videos, out, stop=lambda: (out / "a.npy").exists())
    assert outcome.stopped and outcome.made == 1
    assert read_manifest(out).videos["b.mp4"].state == "waiting"
    assert run(videos, out).made == 2


def test_processes_make_what_one_makes(videos, tmp_path):
    alone, shared, steps = tmp_path / "alone", tmp_path / "shared", []
    run(videos, alone)
    outcome = run(videos, shared, processes=2, progress=steps.append)
    assert outcome.made == 3 and steps[-1].seconds_done == pytest.approx(4.8)
    for name in ("a.npy", "b.npy", "c.npy"):
        assert (alone / name).read_bytes() == (shared / name).read_bytes()


def test_a_video_that_kills_its_reader_is_found(monkeypatch):
    tried = []

    def until_one_dies(shared, waiting, number):
        tried.append((list(waiting), number))
        batch = [waiting.pop() for _ in range(min(number, len(waiting)))]
        if any(name == "bad" for name, _ in batch):
            return batch
        for name, _ in batch:
            yield name, VideoFeatures(np.zeros((1, 1)), 1.0, 1.0)
        return []

    monkeypatch.setattr(workers, "_until_one_dies", until_one_dies)
    jobs = [(name, Path(name)) for name in ("good", "bad", "fine", "well")]
    found = dict(workers._in_processes(None, jobs, 2))
    assert set(found) == {"good", "bad", "fine", "well"}
    assert "killed the process" in found["bad"].error and not found["good"].error


def test_numbers_that_do_not_fit_are_an_error_of_that_video(videos, tmp_path, monkeypatch):
    def huge(extractor, path, **how):
        return np.full((3, 4), 1e6, np.float32)

    monkeypatch.setattr(workers, "extract_with", huge)
    outcome = run(videos, tmp_path / "half")
    assert len(outcome.failed) == 3 and "don't fit float16" in outcome.failed["a.mp4"]
    assert run(videos, tmp_path / "full", ExtractorSpec(dtype="float32")).made == 3
    assert np.load(tmp_path / "full" / "a.npy").dtype == np.float32


@pytest.mark.parametrize("content", ["{", "[]", '{"spec": {"name": "motion"}}', '{"spec": {"name": "x"}}'])
def test_a_faulty_manifest_is_named(videos, tmp_path, content):
    (tmp_path / extraction.MANIFEST).write_text(content)
    with pytest.raises(InputError, match=extraction.MANIFEST):
        read_manifest(tmp_path)
    assert read_manifest(videos) is None


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no videos in this folder.*\.mp4"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_videos(tmp_path / "gone")


def test_a_dataset_of_extracted_features_knows_its_time_and_extractor(videos, tmp_path):
    out = tmp_path / "out"
    spec = ExtractorSpec(stride_seconds=0.1)
    run(videos, out, spec)
    labels = tmp_path / "labels.csv"
    rows = ["a,0.2,1.0,wave,training", "b,0.2,1.0,wave,testing", "c,0.2,1.0,wave,training"]
    labels.write_text("\n".join(["video_id,start,end,label,subset", *rows, ""]))
    entry = add_dataset(tmp_path / "home", "waves", annotations=labels, features=out)
    assert (entry.snippet_seconds, entry.offset_seconds) == (0.1, 0.05)
    assert load_entry(tmp_path / "home", "waves").extractor == spec.table()


def test_the_manifest_is_plain_json(videos, tmp_path):
    run(videos, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "extraction.json").read_text())
    assert content["spec"]["name"] == "motion" and content["offset_seconds"] == 0.1
