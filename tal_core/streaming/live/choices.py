"""What a person can choose from to start a stream: runs, videos, cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tal_core.data.dataset.entry import list_datasets
from tal_core.data.formats.video_ids import VIDEO_SUFFIXES
from tal_core.inference.detection_input import trained_weights
from tal_core.runs.run import Run, list_runs
from tal_core.streaming.online.thresholds import is_online
from tal_core.types import InputError
from tal_core.video.extractors.extractor import spec_of

MOST_VIDEOS = 2000


@dataclass(frozen=True)
class RunChoice:
    """A run with weights. ``online``: made for streams; others run over a sliding buffer, with a delay."""

    run: Run
    method: str
    online: bool

    @property
    def title(self) -> str:
        return f"{self.run.run_id} · {self.method} · {'online' if self.online else 'over a sliding buffer'}"


def stream_runs(home: Path) -> list[RunChoice]:
    """Runs that have weights, those of online methods first, else newest first."""
    choices = []
    for run in list_runs(home):
        try:
            method = run.config()["model"]
        except InputError:
            continue
        if any(run.checkpoints.glob("*.safetensors")):
            choices.append(RunChoice(run, method, is_online(run)))
    return sorted(choices, key=lambda choice: not choice.online)


def stream_videos(home: Path) -> dict[str, Path]:
    """Video files of the registered datasets, by ``dataset / file``."""
    videos: dict[str, Path] = {}
    for entry in list_datasets(home):
        if not entry.videos or not Path(entry.videos).is_dir():
            continue
        for path in sorted(Path(entry.videos).iterdir()):
            if path.suffix.lower() in VIDEO_SUFFIXES and len(videos) < MOST_VIDEOS:
                videos[f"{entry.name} / {path.name}"] = path
    return videos


def cameras() -> list[str]:
    """Cameras of this machine, as a source names them."""
    numbers = (path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
    return [f"camera:{number}" for number in sorted(filter(str.isdecimal, numbers), key=int)]


def check_run(run: Run) -> None:
    """Raise InputError if a run can't detect in a stream of pictures; its weights are not loaded."""
    _, config = run.method_config()
    if config.needs_class_scores:
        what = "the run's proposals need class scores of whole videos, which a stream doesn't have"
        raise InputError(what, where=run.run_id, hint="Choose a run that learned the classes itself.")
    spec_of(trained_weights(run))
