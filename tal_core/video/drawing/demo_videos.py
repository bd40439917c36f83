"""Makes the demo dataset: draws the videos of ``tal_core.data.demo``, encodes them, extracts features."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from filelock import FileLock

from tal_core.data.dataset.entry import DEMO_NAME, DatasetEntry, save_entry
from tal_core.data.demo.drawing import HEIGHT, WIDTH, draw_frames
from tal_core.data.demo.script import NUM_VIDEOS, Script, write_script
from tal_core.types import InputError, Progress
from tal_core.video.extractors.extractor import extract
from tal_core.video.extractors.motion import STRIDE
from tal_core.video.extractors.spec import ExtractorSpec
from tal_core.workspace import write_json, writing

VERSION = 1
"""Raise it when the drawing, the encoding or the extractor changes: older demo folders are then made anew."""

SHIPPED_VIDEOS = {"testing": 18, "training": 2}
_STAMP = "made.json"
# One thread, and no macroblock tree: with it x264 encodes the same small frames differently each time.
_ENCODER = {"preset": "medium", "crf": "27", "threads": "1", "x264-params": "mbtree=0"}


@dataclass(frozen=True)
class _Files:
    """Where things lie in a demo folder."""

    folder: Path

    def video(self, video_id: str) -> Path:
        return self.folder / "videos" / f"{video_id}.mp4"

    def features(self, video_id: str) -> Path:
        return self.folder / "features" / f"{video_id}.npy"

    def complete(self, video_id: str) -> bool:
        return self.video(video_id).exists() and self.features(video_id).exists()


def make_demo(
    folder: Path, *, seed: int = 0, progress: Progress | None = None, num_videos: int = NUM_VIDEOS
) -> Path:
    """Draw the demo dataset into ``folder`` and return the path of its ``dataset.toml``.

    The same seed gives the same annotations and frames. A finished folder is left as it is; an interrupted
    one is finished, video by video; one made from another seed or version is made anew.

    Raises:
        InputError: if the folder can't be written to.
    """
    folder = Path(folder)
    with writing(folder):
        for name in ("videos", "features"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _make(_Files(folder), seed, num_videos, progress or (lambda done, total, message: None))
    return folder / "dataset.toml"


def ship_demo(full_folder: Path, assets_folder: Path) -> Path:
    """Copy what the app ships from a finished demo folder; return the path of its ``dataset.toml``.

    That is all features and annotations and a few videos of each subset, the ones with most classes.
    Files in ``assets_folder`` that the demo does not make (a run) are left alone.

    Raises:
        InputError: if ``full_folder`` is not a finished demo, or ``assets_folder`` can't be written to.
    """
    full, assets = _Files(Path(full_folder)), _Files(Path(assets_folder))
    stamp = _read_stamp(full.folder / _STAMP)
    if stamp is None or not (full.folder / "dataset.toml").exists():
        raise InputError(
            "is not a finished demo", where=full_folder, hint="Make it with: python -m tal_core demo."
        )
    scripts = [write_script(stamp["seed"], index) for index in range(stamp["num_videos"])]
    with writing(assets.folder):
        for name in ("videos", "features"):
            shutil.rmtree(assets.folder / name, ignore_errors=True)
            (assets.folder / name).mkdir(parents=True)
        for script in scripts:
            shutil.copyfile(full.features(script.video_id), assets.features(script.video_id))
        for subset, count in SHIPPED_VIDEOS.items():
            members = [script for script in scripts if script.subset == subset]
            members.sort(key=lambda script: (-len(script.labels), script.index))
            for script in members[:count]:
                shutil.copyfile(full.video(script.video_id), assets.video(script.video_id))
    _write_tables(assets.folder, scripts)
    return assets.folder / "dataset.toml"


def encode(script: Script, seed: int, path: Path) -> None:
    """Draw a video and write it to ``path`` as H.264 MP4 that plays while it loads."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=script.fps, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in draw_frames(script, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _make(files: _Files, seed: int, num_videos: int, progress: Progress) -> None:
    """Bring a locked demo folder to its finished state."""
    stamp = {"seed": seed, "version": VERSION, "num_videos": num_videos}
    stamp_file = files.folder / _STAMP
    known = _read_stamp(stamp_file)
    scripts = [write_script(seed, index) for index in range(num_videos)]
    missing = [script for script in scripts if not files.complete(script.video_id)]
    if known != stamp:
        # What another seed or version made must not be taken for ours if this run is interrupted.
        (files.folder / "dataset.toml").unlink(missing_ok=True)
        for script in scripts:
            files.features(script.video_id).unlink(missing_ok=True)
        missing = scripts
        write_json(stamp_file, stamp)
    elif not missing and (files.folder / "dataset.toml").exists():
        progress(num_videos, num_videos, "the demo is there already")
        return
    done = num_videos - len(missing)
    progress(done, num_videos, "drawing demo videos")
    for video_id in _draw_all(files, seed, missing):
        done += 1
        progress(done, num_videos, f"drew {video_id}")
    _write_tables(files.folder, scripts)


def _read_stamp(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _draw_all(files: _Files, seed: int, scripts: list[Script]) -> Iterator[str]:
    """Yield the id of each video as it is finished; several processes share the work."""
    workers = min(len(scripts), os.cpu_count() or 1)
    if workers < 2:
        for script in scripts:
            yield _draw_one(files, seed, script)
        return
    # A forked child of a process that has used OpenCV's or torch's threads may hang. One OpenCV thread each,
    # since the processes already share the cores.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        jobs = [pool.submit(_draw_one, files, seed, script) for script in scripts]
        try:
            for job in as_completed(jobs):
                yield job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _draw_one(files: _Files, seed: int, script: Script) -> str:
    """Make one video and its features. Each file appears under its name only when it is whole."""
    video, features = files.video(script.video_id), files.features(script.video_id)
    part = video.with_suffix(".part")
    encode(script, seed, part)
    part.replace(video)
    found, _ = extract(video)
    part = features.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, found.astype(np.float16))
    part.replace(features)
    return script.video_id


def _write_tables(folder: Path, scripts: list[Script]) -> None:
    """Write the annotations and, last, the registry entry."""
    annotations = folder / "annotations.json"
    write_json(
        annotations, {"version": f"demo {VERSION}", "database": {s.video_id: s.annotation() for s in scripts}}
    )
    entry = DatasetEntry(
        name=DEMO_NAME,
        description="Figures drawn by code do ten actions in untrimmed videos; built-in motion features.",
        annotations=annotations,
        features=[folder / "features"],
        videos=folder / "videos",
        layout=["TD"],
        snippet_seconds=STRIDE,
        extractor=ExtractorSpec().table(),
        training_subset="training",
        evaluation_subset="testing",
    )
    save_entry(entry, folder / "dataset.toml")
