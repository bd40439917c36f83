"""Extraction in a process of its own, which outlives the browser and the app.

    job = start(home, videos, out, spec)        # or resume(home, job)
    job.status()                                # state, videos and seconds done, ETA; for a page to poll
    job.request_stop()
    list_jobs(home), open_job(home, job_id)

<home>/jobs/<job_id>/
  job.json      the request: videos, out, spec, device, processes
  status.json   state, process, heartbeat, progress; replaced atomically
  extract.log   what the process says
  stop          there when someone asked it to stop

The process itself is ``tal_core.video.extraction.process``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from tal_core.background.job_folder import ACTIVE, JobFolder, Status
from tal_core.types import InputError
from tal_core.video.extraction.folder import find_videos, sole_writer
from tal_core.video.extractors.spec import ExtractorSpec, read_spec
from tal_core.workspace import writing

__all__ = ["ACTIVE", "ExtractionJob", "list_jobs", "open_job", "resume", "start"]


class ExtractionStatus(Status):
    """``done``, ``total`` and ``failed`` count videos, ``seconds_done`` and ``seconds_total`` are of video;
    ``problems``: what was wrong with each odd video, at the end."""

    failed: int = 0
    seconds_done: float | None = None
    seconds_total: float | None = None
    problems: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class ExtractionJob(JobFolder):
    """One extraction in the workspace. Its request: ``videos``, ``out``, ``spec`` and so on as given to
    ``start``, and ``created``."""

    kind = "job"
    request_name = "job.json"
    log_name = "extract.log"
    required = ("videos", "out")
    lasting = ("done", "total", "failed")
    status_type = ExtractionStatus
    when_killed = "Resume goes on with the next video."

    @property
    def spec(self) -> ExtractorSpec:
        return read_spec(self.request().get("spec"), where=self.folder / self.request_name)

    @property
    def out(self) -> Path:
        return Path(self.request()["out"])


def start(
    home: Path,
    videos: Path,
    out: Path,
    spec: ExtractorSpec,
    *,
    device: str = "auto",
    processes: int | None = None,
    dataset: dict[str, Any] | None = None,
) -> ExtractionJob:
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
        request: dict[str, Any] = {
            "videos": str(videos),
            "out": str(out),
            "spec": spec.table(),
            "dataset": dataset,
        }
        request |= {"device": device, "processes": processes, "created": time.time()}
        status = {"state": "stopped", "done": 0, "total": total, "failed": 0}
        first = f"extract-{datetime.now():%Y%m%d-%H%M%S}"
        job = ExtractionJob.create(home / "jobs", request, status, first=first)
    with job.removed_on_failure():
        resume(home, job)
    return job


def resume(home: Path, job: ExtractionJob) -> int:
    """Go on with a job that stopped, failed or was killed; a finished one looks for new videos. The pid.

    Raises:
        InputError: if it, or another job, is writing to the folder.
    """
    others = [other for other in list_jobs(home) if other != job and other.running and other.out == job.out]
    for rival in others:
        hint = "Wait for it, stop it, or choose another folder."
        raise InputError(f"the job {rival.name} is writing to it", where=job.out, hint=hint)
    return job.launch(home, "tal_core.video.extraction.process").pid


def list_jobs(home: Path) -> list[ExtractionJob]:
    """All extractions of the workspace, newest first."""
    return ExtractionJob.list_in(home / "jobs")


def open_job(home: Path, job_id: str) -> ExtractionJob:
    """The job ``job_id``. Raises InputError if there is none."""
    return ExtractionJob.open_in(home / "jobs", job_id)
