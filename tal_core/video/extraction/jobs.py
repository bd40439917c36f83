"""Extraction in a process of its own, which outlives the browser and the app.

    job = start(home, videos, out, spec)        # or resume(home, job)
    job.status()                                # state, videos and seconds done, ETA; for a page to poll
    request_stop(job)
    list_jobs(home), open_job(home, job_id)

<home>/jobs/<job_id>/
  job.json      what was asked for: videos, out, spec, device, processes
  status.json   state, process, heartbeat, progress; replaced atomically
  extract.log   what the process says
  stop          there when someone asked it to stop

    python -m tal_core.video.extraction.jobs JOB_FOLDER

is that process.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from tal_core.background import job as background
from tal_core.background.processes import spawn, this_process
from tal_core.types import InputError
from tal_core.video.extraction.folder import Outcome, extract_folder, find_videos, sole_writer
from tal_core.video.extractors.spec import ExtractorSpec, read_spec
from tal_core.workspace import check_name, write_json, writing

ACTIVE = background.ACTIVE
LOG = "extract.log"


@dataclass(frozen=True)
class Job:
    """One extraction in the workspace."""

    folder: Path

    @property
    def job_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def asked(self) -> dict[str, Any]:
        """``videos``, ``out``, ``spec`` and so on as given to ``start``, and ``created``."""
        return background.read_json(self.folder / "job.json")

    @property
    def spec(self) -> ExtractorSpec:
        """The extractor asked for."""
        return read_spec(self.asked()["spec"], where=self.folder / "job.json")

    @property
    def out(self) -> Path:
        """Where the features go."""
        return Path(self.asked()["out"])

    def status(self) -> dict[str, Any]:
        """What the job is doing.

        ``state``: running, stopping, stopped, finished, failed, or killed (its process is gone); ``done``,
        ``total``, ``failed`` videos; ``seconds_done``, ``seconds_total`` of video; ``eta_seconds``;
        ``message``; ``error`` when failed; ``problems``: what was wrong with each odd video, at the end;
        ``pid``, ``heartbeat``, ``started``.
        """
        status = background.read_status(self.folder)
        if status.get("state") == "killed":
            status["error"] += " Resume goes on with the next video."
        return status

    def log_tail(self, lines: int = 40) -> str:
        """The end of ``extract.log``."""
        return background.log_tail(self.folder, lines, LOG)


def start(
    home: Path,
    videos: Path,
    out: Path,
    spec: ExtractorSpec,
    *,
    device: str = "auto",
    processes: int | None = None,
    dataset: dict[str, Any] | None = None,
) -> Job:
    """Extract features of the folder ``videos`` into ``out`` in the background.

    ``dataset``: the plan of a dataset (``new_dataset.Plan``) that is registered at the end.

    Raises:
        InputError: if there are no videos, ``out`` can't be written or is being written by another job.
    """
    videos, out = Path(videos).expanduser().resolve(), Path(out).expanduser().resolve()
    total = len(find_videos(videos))
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):  # told at once here; the process holds it while it works
        folder = _new_folder(home, out)
    asked = {"videos": str(videos), "out": str(out), "spec": spec.table(), "dataset": dataset}
    write_json(
        folder / "job.json", {**asked, "device": device, "processes": processes, "created": time.time()}
    )
    write_json(folder / "status.json", {"state": "stopped", "done": 0, "total": total, "failed": 0})
    job = Job(folder)
    try:
        resume(home, job)
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)  # it has never run
        raise
    return job


def resume(home: Path, job: Job) -> int:
    """Go on with a job that stopped, failed or was killed; a finished one looks for new videos. The pid.

    Raises:
        InputError: if it, or another job, is writing to the folder.
    """
    asked = job.asked()
    with writing(job.folder), FileLock(job.folder / ".launch.lock"):
        status = job.status()
        if status["state"] in ACTIVE:
            hint = "Stop it first."
            raise InputError(f"is extracting already (pid {status.get('pid')})", where=job.job_id, hint=hint)
        rival = next(
            (j for j in _active(home) if j.folder != job.folder and j.out == Path(asked["out"])), None
        )
        if rival is not None:
            hint = "Wait for it, stop it, or choose another folder."
            raise InputError(f"the job {rival.job_id} is writing to it", where=asked["out"], hint=hint)
        (job.folder / "stop").unlink(missing_ok=True)
        process = spawn("tal_core.video.extraction.jobs", job.folder, home, LOG)
        kept = {name: status[name] for name in ("done", "total", "failed") if name in status}
        starting = {"state": "running", "message": "Starting", "heartbeat": time.time()}
        write_json(job.folder / "status.json", {**kept, **starting, **this_process(process.pid)})
    return process.pid


def request_stop(job: Job) -> None:
    """Ask a running job to stop; returns at once. What is done stays.

    Raises:
        InputError: if it isn't running.
    """
    state = job.status()["state"]
    if state not in ACTIVE:
        raise InputError(f"isn't running (it is {state})", where=job.job_id, hint="There is nothing to stop.")
    background.request_stop(job.folder)


def list_jobs(home: Path) -> list[Job]:
    """All extractions of the workspace, newest first."""
    folders = [path.parent for path in (home / "jobs").glob("[!.]*/job.json")]
    return [Job(folder) for folder in sorted(folders, key=lambda folder: folder.name, reverse=True)]


def open_job(home: Path, job_id: str) -> Job:
    """The job ``job_id``. Raises InputError if there is none."""
    folder = home / "jobs" / check_name(job_id, "job")
    if not (folder / "job.json").is_file():
        known = ", ".join(job.job_id for job in list_jobs(home)[:8]) or "none yet"
        raise InputError(f"there is no job {job_id!r}", hint=f"Known jobs: {known}.")
    return Job(folder)


def _active(home: Path) -> list[Job]:
    jobs = []
    for job in list_jobs(home):
        with suppress(InputError):  # a job with broken files runs no more
            if job.status()["state"] in ACTIVE:
                jobs.append(job)
    return jobs


def _new_folder(home: Path, out: Path) -> Path:
    """``<home>/jobs/extract-<time>``, numbered if there are several in one second."""
    jobs = home / "jobs"
    first = f"extract-{datetime.now():%Y%m%d-%H%M%S}"
    with writing(jobs):
        jobs.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = jobs / (first if number == 1 else f"{first}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    raise InputError("too many jobs were started at once", where=out, hint="Wait a second.")


def main(folder: str) -> int:
    """The background process."""
    job, halted = Job(Path(folder)), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: halted.set())
    with background.Reporter(job.folder) as report:
        try:
            asked = job.asked()
            outcome = extract_folder(
                Path(asked["videos"]),
                Path(asked["out"]),
                job.spec,
                device=asked["device"],
                processes=asked["processes"],
                progress=lambda step: report.note(**asdict(step)),
                stop=lambda: halted.is_set() or report.stopped(),
            )
            if asked.get("dataset") and not outcome.stopped:
                from tal_core.video.extraction.new_dataset import register_once  # pylint: disable=import-outside-toplevel

                register_once(Path(os.environ["TAL_HOME"]), asked["dataset"])
        except InputError as error:
            print(error, file=sys.stderr)
            report.end("failed", "Failed", error=str(error))
            return 2
        except BaseException as error:
            report.end("failed", "Failed", error=f"{type(error).__name__}: {error}")
            raise
        print(outcome)
        problems = {**outcome.damaged, **outcome.failed}
        report.end("stopped" if outcome.stopped else "finished", _summary(outcome), problems=problems)
    return 0


def _summary(outcome: Outcome) -> str:
    said = [f"{outcome.made} videos extracted"]
    said += [f"{outcome.skipped} done before"] if outcome.skipped else []
    said += [f"{len(outcome.failed)} can't be used"] if outcome.failed else []
    said += ["stopped"] if outcome.stopped else []
    return ", ".join(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
