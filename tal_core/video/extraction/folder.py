"""Features of a folder of videos, one file each, in a run that can be stopped and goes on where it was.

    extract_folder(videos, out, spec, progress=..., stop=...) -> Outcome
    read_manifest(out) -> Manifest | None

``out`` holds ``<video>.npy`` (T, D) per video and ``extraction.json``, the manifest: which extractor made
them, and for every video its state, source, snippets and damage. A file appears under its name only when it
is whole. ``tal_core.video.extraction.process`` runs this in the background.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from tal_core.background.processes import StopRequested
from tal_core.data.dataset.dataset import VIDEO_SUFFIXES
from tal_core.data.features.extraction_manifest import MANIFEST
from tal_core.types import InputError, TimeGrid
from tal_core.video.extraction.workers import VideoFeatures, extract_all
from tal_core.video.extractors.spec import ExtractorSpec, read_spec
from tal_core.video.frames import duration_of
from tal_core.workspace import write_bytes, write_json, writing

_LOCK = ".extraction.lock"
_SAVE_SECONDS = 2.0  # between writes of the manifest; what a crash forgets is made again


@dataclass(frozen=True)
class Step:
    """How far an extraction is: videos and seconds of video, done of all; ``eta_seconds`` None at first.

    ``done`` counts videos that are finished, ``failed`` those of them that couldn't be used.
    """

    done: int
    total: int
    failed: int
    seconds_done: float
    seconds_total: float
    eta_seconds: float | None
    message: str


@dataclass
class VideoState:
    """One video in the manifest; ``state`` is ``waiting``, ``done`` or ``failed``.

    ``size`` and ``mtime_ns`` are of the source when its features were made; ``seconds`` its length,
    ``took`` the seconds of work; ``damage`` what was wrong with a video that could be used all the same,
    ``error`` why one could not.
    """

    features: str
    state: str = "waiting"
    size: int = 0
    mtime_ns: int = 0
    snippets: int = 0
    seconds: float = 0.0
    took: float = 0.0
    damage: str = ""
    error: str = ""


@dataclass
class Manifest:
    """What a folder of extracted features says about itself; ``videos`` by path relative to their folder."""

    spec: ExtractorSpec
    num_features: int | None = None
    videos: dict[str, VideoState] = field(default_factory=dict)

    @property
    def grid(self) -> TimeGrid:
        return self.spec.grid

    @property
    def failed(self) -> dict[str, str]:
        """Why each video that can't be used can't."""
        return {name: video.error for name, video in self.videos.items() if video.state == "failed"}


@dataclass(frozen=True)
class Outcome:
    """What an extraction did: ``made`` and ``skipped`` (done before) videos, ``failed`` ones with the reason,
    ``damaged`` ones with what was wrong, and whether it was ``stopped`` before the end."""

    made: int
    skipped: int
    failed: dict[str, str]
    damaged: dict[str, str]
    stopped: bool


def extract_folder(
    videos: Path,
    out: Path,
    spec: ExtractorSpec,
    *,
    device: str = "auto",
    processes: int | None = None,
    progress: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Extract the features of every video under ``videos`` into ``out``.

    Videos that are done and haven't changed since are skipped, those that failed are tried again. One that
    can't be read doesn't stop the others. ``processes`` share the work of the built-in extractor (default:
    one per core). ``stop()`` is asked a few times a second.

    Raises:
        InputError: if there are no videos; if ``out`` can't be written (a full disk: what is done stays, and
            the next call goes on), holds features of other settings or another maker, or is being written
            by another extraction; as ``make_extractor``.
    """
    sources = find_videos(videos)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        job = _Job(Path(videos), out, _open_manifest(out, spec), progress or (lambda step: None))
        return job.run(sources, device, processes, stop or (lambda: False))


def find_videos(folder: Path) -> list[Path]:
    """Videos in a folder and its subfolders, by name.

    Raises:
        InputError: if there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("there is no such folder", where=folder, hint="Give the folder of the videos.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        hint = f"Known endings: {' '.join(VIDEO_SUFFIXES)}."
        raise InputError("there are no videos in this folder", where=folder, hint=hint)
    return found


def read_manifest(out: Path) -> Manifest | None:
    """The manifest of a folder of features; None if it has none.

    Raises:
        InputError: if it is faulty.
    """
    path = Path(out) / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        states = {name: VideoState(**state) for name, state in content["videos"].items()}
        return Manifest(read_spec(content["spec"], where=path), content["num_features"], states)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        hint = "Extract into another folder."
        raise InputError("is not a manifest of extracted features", where=path, hint=hint) from None


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the folder for one extraction. Raises InputError if another one does."""
    lock = FileLock(Path(out) / _LOCK)
    with writing(out):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            hint = "Wait for it, stop it, or choose another folder."
            raise InputError("another extraction is writing to this folder", where=out, hint=hint) from None
    try:
        yield
    finally:
        lock.release()


def _open_manifest(out: Path, spec: ExtractorSpec) -> Manifest:
    """The folder's manifest, or a new one for a folder without features."""
    known = read_manifest(out)
    if known is None:
        if any(out.glob("*.npy")):
            what = "holds features that were not made here"
            raise InputError(what, where=out, hint="Choose an empty folder.")
        return Manifest(spec)
    asked, held = spec.table(), known.spec.table()
    odd = [name for name in {**held, **asked} if held.get(name) != asked.get(name)]
    if odd:
        said = ", ".join(f"{name} {held.get(name)} (asked for: {asked.get(name)})" for name in odd)
        hint = "Choose another folder, the same settings, or delete these features."
        raise InputError(f"holds features made with {said}", where=out, hint=hint)
    return known


class _Job:
    """One call of ``extract_folder``: what there is to do, what has been done."""

    def __init__(self, root: Path, out: Path, manifest: Manifest, progress: Callable[[Step], None]):
        self.root, self.out, self.manifest, self.progress = root, out, manifest, progress
        self.total = self.finished = 0
        self.last = ""
        self.saved = 0.0

    def run(
        self, sources: list[Path], device: str, processes: int | None, stop: Callable[[], bool]
    ) -> Outcome:
        """Extract what isn't done yet."""
        self.total = len(sources)
        pending, skipped = self._plan(sources)
        self.finished = self.total - len(pending)
        self._save()
        durations = {name: duration_of(path) for name, path in pending.items()}
        pace = _Pace(sum(durations.values()))

        def tick(seconds: float) -> None:
            self._tell(pace, seconds)

        stopped = False
        try:
            tick(0.0)
            work = extract_all(pending, self.manifest.spec, device, processes, tick, stop)
            with closing(work) as results:
                for name, result in results:
                    self._keep(name, result)
                    pace.correct(durations[name] - result.seconds)
                    self.finished, self.last = self.finished + 1, name
                    if time.monotonic() - self.saved > _SAVE_SECONDS:
                        self._save()
            self._tell(pace, pace.total)
        except StopRequested:
            stopped = True
        finally:
            with suppress(InputError):  # on a full disk the error under way says so
                self._save()
        chosen = [self.manifest.videos[self._name(path)] for path in sources]
        names = {self._name(path) for path in sources}
        return Outcome(
            made=sum(video.state == "done" for video in chosen) - skipped,
            skipped=skipped,
            failed={name: why for name, why in self.manifest.failed.items() if name in names},
            damaged={n: v.damage for n, v in self.manifest.videos.items() if n in names and v.damage},
            stopped=stopped,
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _plan(self, sources: list[Path]) -> tuple[dict[str, Path], int]:
        """Videos to extract by name, and how many are done already; others are marked as failed."""
        videos, pending, skipped = self.manifest.videos, {}, 0
        owner: dict[str, str] = {}
        for path in sources:
            name, target = self._name(path), f"{path.stem}.npy"
            stat = path.stat()
            known = videos.get(name)
            first = owner.setdefault(target, name)
            there = (self.out / target).exists()
            fresh = VideoState(target, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
            if first != name:
                fresh.state, fresh.error = "failed", f"has the same name as {first}; rename one of them"
            elif known is None and there:
                fresh.state = "failed"
                fresh.error = f"there is a file {target} already that was not made from it; move it away"
            elif known and there and known.state == "done" and _stamp(known) == _stamp(fresh):
                skipped += 1
                continue
            else:
                pending[name] = path
            videos[name] = fresh
        return pending, skipped

    def _keep(self, name: str, result: VideoFeatures) -> None:
        """Write a video's features, or note why there are none."""
        video = self.manifest.videos[name]
        target = self.out / video.features
        video.took, video.seconds, video.damage = (
            round(result.took, 2),
            round(result.seconds, 3),
            result.damage,
        )
        error, features = result.error, result.features
        if features is not None:
            with np.errstate(over="ignore"):
                features = features.astype(self.manifest.spec.dtype)
            if not np.isfinite(features).all():
                error = f"its features don't fit {features.dtype}: some are infinite or no numbers"
        if features is None or error:
            video.state, video.error = "failed", error
            with writing(target):
                target.unlink(missing_ok=True)  # those of what the video was before
            return
        content = io.BytesIO()
        np.save(content, features)
        write_bytes(target, content.getvalue())
        video.state, video.snippets = "done", len(features)
        self.manifest.num_features = features.shape[1]

    def _save(self) -> None:
        self.saved = time.monotonic()
        manifest = self.manifest
        content = {
            "spec": manifest.spec.table(),
            "stride_seconds": manifest.grid.stride,
            "offset_seconds": manifest.grid.offset,
            "num_features": manifest.num_features,
            "videos": {name: asdict(video) for name, video in sorted(manifest.videos.items())},
        }
        write_json(self.out / MANIFEST, content)

    def _tell(self, pace: _Pace, seconds: float) -> None:
        done = pace.reached(seconds)
        failed = len(self.manifest.failed)
        self.progress(Step(self.finished, self.total, failed, done, pace.total, pace.eta(), self.last))


def _stamp(video: VideoState) -> tuple[int, int]:
    return video.size, video.mtime_ns


class _Pace:
    """Seconds of video done so far, of ``total``, and how long the rest will take."""

    def __init__(self, total: float):
        self.total, self.done = total, 0.0
        self._correction = 0.0
        self._started = time.monotonic()

    def correct(self, seconds: float) -> None:
        """Count a finished video as long as its header said, so that the sum comes out right."""
        self._correction += seconds

    def reached(self, seconds: float) -> float:
        """Note how many seconds have been decoded; the seconds done, which never fall."""
        self.done = min(self.total, max(self.done, seconds + self._correction))
        return self.done

    def eta(self) -> float | None:
        """Seconds to go; None as long as nothing tells."""
        spent = time.monotonic() - self._started
        return spent * (self.total - self.done) / self.done if self.done > 0 and spent > 1 else None
