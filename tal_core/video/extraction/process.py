"""The process of an extraction: ``python -m tal_core.video.extraction.process JOB_FOLDER``."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tal_core.background.status_writer import StatusWriter, run_job
from tal_core.video.extraction.folder import Outcome, extract_folder
from tal_core.video.extraction.jobs import ExtractionJob
from tal_core.video.extraction.new_dataset import register_once


def main(folder: str) -> int:
    """The background process."""
    job = ExtractionJob(Path(folder))
    writer = StatusWriter(job)
    return run_job(writer, lambda: _extract(job, writer))


def _extract(job: ExtractionJob, writer: StatusWriter[ExtractionJob]) -> dict[str, Any]:
    request = job.request()
    outcome = extract_folder(
        Path(request["videos"]),
        job.out,
        job.spec,
        device=request["device"],
        processes=request["processes"],
        progress=lambda step: writer.update(**asdict(step)),
        stop=lambda: writer.stop_requested or writer.failure is not None,
    )
    if request.get("dataset") and not outcome.stopped:
        register_once(Path(os.environ["TAL_HOME"]), request["dataset"])
    print(outcome)
    state = "stopped" if outcome.stopped else "finished"
    problems = {**outcome.damaged, **outcome.failed}
    return {"state": state, "message": _summary(outcome), "problems": problems}


def _summary(outcome: Outcome) -> str:
    parts = [f"{outcome.made} videos extracted"]
    parts += [f"{outcome.skipped} done before"] if outcome.skipped else []
    parts += [f"{len(outcome.failed)} can't be used"] if outcome.failed else []
    parts += ["stopped"] if outcome.stopped else []
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
