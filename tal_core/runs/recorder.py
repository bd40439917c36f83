"""What the process of a run writes while it trains: status, metrics and log."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import psutil
import torch

from tal_core.background.status_writer import StatusWriter
from tal_core.runs.run import Run
from tal_core.workspace import writing


class RunRecorder(StatusWriter[Run]):
    """Keeps a run's files up to date while it trains. Used as a context; ``RunStatus`` names the fields."""

    def __init__(self, run: Run):
        super().__init__(run, phase="preparing", message="Opening the dataset")
        self.run, self.device = run, torch.device("cpu")

    def __enter__(self) -> Self:
        metrics = self.run.metrics_file
        if metrics.exists() and not metrics.read_bytes().endswith(b"\n"):
            self._append(metrics, "\n")  # a killed process left half a line
        return super().__enter__()

    def metric(self, kind: str, **values: Any) -> None:
        """Append one line to ``metrics.jsonl``."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **values})
        self._append(self.run.metrics_file, line + "\n")

    def log(self, text: str) -> None:
        """Append a line with the time to ``train.log``."""
        self._append(self.run.log_file, f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def memory_mb(self) -> float:
        """Peak memory on a CUDA device, else this process's resident memory."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        return round(psutil.Process().memory_info().rss / 2**20, 1)

    def measured(self) -> dict[str, Any]:
        """The time since the start of this process, and memory."""
        return {"seconds": round(time.time() - self.started, 1), "memory_mb": self.memory_mb()}

    def _append(self, path: Path, text: str) -> None:
        self.run.check_there()
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(text)
