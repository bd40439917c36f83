"""The folder of a job: what a process that outlives the browser and the app tells everyone who looks.

<folder>/
  request.json  what it is to do; runs and streams call the file config.json, extractions job.json
  status.json   state, process, heartbeat, progress; replaced atomically
  log.txt       what the process prints; runs, streams and extractions have names of their own for it
  stop          there when someone asked it to stop

Runs, streams, extractions, detections and burnt-in videos are such jobs and add only what is their own.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from tal_core.background.processes import process_alive, spawn, this_process
from tal_core.types import InputError
from tal_core.workspace import check_name, numbered, write_bytes, write_json, writing

ACTIVE = ("running", "stopping")


class Status(BaseModel):
    """What ``status.json`` may say; each kind of job adds fields. ``state`` alone is always there."""

    model_config = ConfigDict(strict=True, extra="allow")

    state: str
    message: str = ""
    error: str | None = None
    pid: int | None = None
    process_started: float | None = None
    host: str | None = None
    heartbeat: float | None = None
    created: float | None = None
    started: float | None = None
    done: int | None = None
    total: int | None = None
    eta_seconds: float | None = None


class FileOf:
    """A file of a job, as an attribute that is its path."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, job: JobFolder, owner: type | None = None) -> Path:
        return job.folder / self.name


@dataclass(frozen=True)
class JobFolder:
    """One job's folder. All reads raise InputError when it has been deleted or a file in it is faulty."""

    folder: Path

    kind: ClassVar[str] = "job"
    request_name: ClassVar[str] = "request.json"
    log_name: ClassVar[str] = "log.txt"
    active_states: ClassVar[tuple[str, ...]] = ACTIVE
    required: ClassVar[tuple[str, ...]] = ()  # texts of the request
    lasting: ClassVar[tuple[str, ...]] = ("created",)  # fields of the status that a new start keeps
    status_type: ClassVar[type[Status]] = Status
    when_killed: ClassVar[str] = "Start it again."

    status_file = FileOf("status.json")
    stop_file = FileOf("stop")

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def create(
        cls,
        parent: Path,
        request: dict[str, Any],
        status: dict[str, Any],
        *,
        name: str | None = None,
        first: str = "",
        fill: Callable[[Path], object] = lambda folder: None,
    ) -> Self:
        """Make the folder of a job that hasn't started, as ``name``, or as the first free of ``first``,
        ``first-2`` and so on. It appears with its request, its status and what ``fill`` puts there, or not
        at all, however many are made at once.

        Raises:
            InputError: if the name is taken or can't be one, or the workspace can't be written.
        """
        if name is not None:
            check_name(name, cls.kind)
        with writing(parent):
            parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
            try:
                new.chmod(0o755)
                write_json(new / cls.request_name, request)
                write_json(cls(new).status_file, status)
                fill(new)
                for free in [name] if name else numbered(first):
                    if _renamed(new, parent / free):
                        return cls(parent / free)
                hint = "Choose another name."
                raise InputError(f"there is already a {cls.kind} {name!r}", hint=hint)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise

    @classmethod
    def list_in(cls, parent: Path) -> list[Self]:
        """Every job in ``parent``, newest first."""
        jobs = [cls(path.parent) for path in parent.glob(f"[!.]*/{cls.request_name}")]
        return sorted(jobs, key=lambda job: (job.created, job.name), reverse=True)

    @classmethod
    def open_in(cls, parent: Path, name: str) -> Self:
        """The job ``name`` in ``parent``. Raises InputError if there is none."""
        job = cls(parent / check_name(name, cls.kind))
        if not (job.folder / cls.request_name).is_file():
            names = ", ".join(job.name for job in cls.list_in(parent)[:8]) or "none yet"
            raise InputError(f"there is no {cls.kind} {name!r}", hint=f"Known {cls.kind}s: {names}.")
        return job

    def request(self) -> dict[str, Any]:
        """What the job is to do."""
        request = self.read_json(self.request_name)
        for name in self.required:
            if not isinstance(request.get(name), str):
                where = self.folder / self.request_name
                raise InputError(f"{name} is missing", where=where, hint=f"Start a new {self.kind}.")
        return request

    def status(self) -> dict[str, Any]:
        """What the job is doing; ``status_type`` says what may be in it.

        ``state`` is ``killed``, with an ``error``, when the file says active but the process is gone, and
        ``stopping`` when a stop was asked for and not yet done.
        """
        status = self._stated()
        if status["state"] not in self.active_states:
            return status
        if process_alive(status):
            return {**status, "state": "stopping"} if self.stop_file.exists() else status
        status = self._stated()  # it may have ended properly since
        if status["state"] not in self.active_states:
            return status
        error = (
            f"The process {status.get('pid')} is gone: it was killed, ran out of memory, or the machine"
            f" restarted. {self.when_killed}"
        )
        return {**status, "state": "killed", "error": error, "eta_seconds": None}

    def _stated(self) -> dict[str, Any]:
        """The status as its file has it, with defaults for what isn't there."""
        content = self.read_json(self.status_file.name)
        try:
            status = self.status_type.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            hint = f"Start the {self.kind} again."
            raise InputError(what, where=self.status_file, hint=hint) from None
        return {k: v for k, v in status.model_dump().items() if v is not None or k in content}

    @property
    def active(self) -> bool:
        """Whether its process still works."""
        return self.status()["state"] in self.active_states

    @property
    def running(self) -> bool:
        """As ``active``; False for a folder that is gone or faulty."""
        try:
            return self.active
        except InputError:
            return False

    @property
    def created(self) -> float:
        """Unix time of its making, 0 where nothing tells."""
        for name in (self.status_file.name, self.request_name):
            with suppress(InputError, LookupError, TypeError, ValueError):
                return float(self.read_json(name)["created"])
        return 0.0

    def launch(
        self, home: Path, module: str, *, stdin: int = subprocess.DEVNULL, **fields: Any
    ) -> subprocess.Popen[bytes]:
        """Run ``python -m module folder`` in the background; ``fields``: its status until it writes its own.

        Raises:
            InputError: if it is running already, or the folder can't be written.
        """
        with writing(self.folder), FileLock(self.folder / ".launch.lock"):
            status = self.status()
            if status["state"] in self.active_states:
                what = f"is already running (pid {status.get('pid')})"
                raise InputError(what, where=self.name, hint="Stop it first, or wait for it.")
            self.stop_file.unlink(missing_ok=True)
            process = spawn(module, self.folder, home, self.log_name, stdin)
            # Until Python has loaded the process can't speak for itself.
            now = time.time()
            starting = {"state": "running", "message": "Starting", "started": now, "heartbeat": now, **fields}
            self.write_status({**self.lasting_fields(status), **starting, **this_process(process.pid)})
        return process

    def lasting_fields(self, status: dict[str, Any]) -> dict[str, Any]:
        """What a new start keeps of a status, so that the progress of resumed work never starts over."""
        return {name: status[name] for name in self.lasting if name in status}

    def request_stop(self) -> None:
        """Ask the process to stop; returns at once. Raises InputError if it isn't running."""
        state = self.status()["state"]
        if state not in self.active_states:
            what = f"isn't running (it is {state})"
            raise InputError(what, where=self.name, hint="There is nothing to stop.")
        with writing(self.folder):
            self.stop_file.touch()

    def remove(self) -> None:
        """Delete the folder. Raises InputError while the job is active."""
        if self.active:
            raise InputError("is running", where=self.name, hint="Stop it first.")
        with writing(self.folder):
            shutil.rmtree(self.folder)

    @contextmanager
    def removed_on_failure(self) -> Iterator[None]:
        """Delete the folder again if what fills it fails."""
        try:
            yield
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace the status; in its old place if a full disk has no room for a new file.

        Raises:
            InputError: if the folder was deleted or can't be written.
        """
        self.check_there()
        content = (json.dumps(status, indent=2) + "\n").encode()
        try:
            write_bytes(self.status_file, content)
        except InputError:
            with suppress(OSError), self.status_file.open("r+b") as file:
                file.write(content)
                file.truncate()
                return
            raise

    def write_json(self, path: Path, value: object) -> None:
        """Write a file of a folder that must be there, so that a deleted one doesn't come back."""
        self.check_there()
        write_json(path, value)

    def check_there(self) -> None:
        """Raise InputError if the folder was deleted."""
        if not self.folder.is_dir():
            what = f"the {self.kind}'s folder was deleted while it was at work"
            raise InputError(what, where=self.folder, hint=f"Nothing of it is left; start a new {self.kind}.")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.read_text(self.log_name).splitlines()[-lines:])

    def read_text(self, name: str) -> str:
        """The text of a file that need not be there."""
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            if self.folder.is_dir():
                return ""
            raise self._gone() from None
        except OSError as error:
            raise InputError(f"can't be read ({error.strerror})", where=self.folder / name) from None

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file of the folder."""
        path = self.folder / name
        if not self.folder.is_dir():
            raise self._gone()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"can't be read ({error.strerror})", where=path) from None
        except ValueError as error:
            raise InputError(f"is not valid JSON ({error})", where=path) from None
        if not isinstance(content, dict):
            raise InputError("is not a JSON object", where=path, hint=f"Start a new {self.kind}.")
        return content

    def _gone(self) -> InputError:
        hint = f"Choose another {self.kind}."
        return InputError(f"the {self.kind}'s folder is gone", where=self.name, hint=hint)


def _renamed(new: Path, target: Path) -> bool:
    """Move a folder to a name that may be taken; whether it was free."""
    try:
        new.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True
