"""Runs a stream in a process of its own, which outlives the browser and the app.

    python -m tal_core.streaming.live.launch STREAM_FOLDER

is that process. It reads the source from its standard input, since an address may hold a password that
belongs neither into a file nor into the list of processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tal_core.background.processes import spawn, this_process
from tal_core.runs.run import open_run
from tal_core.streaming.live.addresses import read_address, registered_folders
from tal_core.streaming.live.folder import StreamFolder, create_stream
from tal_core.streaming.online.events import check_delay
from tal_core.types import InputError
from tal_core.workspace import write_json, writing


def start_stream(
    home: Path,
    run: str,
    source: str,
    *,
    delay: float | None = None,
    paced: bool = True,
    webhook: str | None = None,
    device: str = "auto",
    stream_id: str | None = None,
) -> StreamFolder:
    """Detect on ``source`` in the background by the run ``run``.

    Files must lie in the workspace or in the videos of a registered dataset. ``paced``: play a file in real
    time. ``delay``: seconds that the detector waits; by default the run's own. ``webhook``: an address that
    is posted every record.

    Raises:
        InputError: for an unknown run, a source that may not be opened, or a workspace that can't be written.
    """
    from tal_core.streaming.live.webhook import check_webhook  # pylint: disable=import-outside-toplevel  # loads requests

    open_run(home, run).config()
    address = read_address(source, registered_folders(home))
    check_delay(delay)
    shown_webhook = check_webhook(webhook) if webhook else None
    config = {
        "run": run,
        "source": address.shown,
        "paced": paced,
        "delay": delay,
        "device": device,
        "webhook": shown_webhook,
    }
    stream = create_stream(home, config, stream_id)
    process = spawn(
        "tal_core.streaming.live.launch", stream.folder, home, "stream.log", stdin=subprocess.PIPE
    )
    # Until torch is loaded the process can't speak for itself; it begins when it is told the source.
    with process.stdin as pipe:
        starting = {"state": "starting", "error": None, "heartbeat": time.time(), **this_process(process.pid)}
        write_json(stream.folder / "status.json", starting)
        target = address.target if address.kind == "file" else source.strip()
        pipe.write(json.dumps({"source": target, "webhook": webhook}).encode())
    return stream


def request_stop(stream: StreamFolder) -> None:
    """Ask a stream to stop; returns at once. Raises InputError if it isn't going on."""
    status = stream.status()
    if not stream.active:
        what = f"isn't going on (it is {status['state']})"
        raise InputError(what, where=stream.stream_id, hint="There is nothing to stop.")
    with writing(stream.folder):
        (stream.folder / "stop").touch()


def main(folder: str) -> int:
    """The background process."""
    # pylint: disable=import-outside-toplevel  # they load torch
    from tal_core.streaming.live.opening import detect_in_folder
    from tal_core.streaming.live.recorder import failed

    stream = StreamFolder(Path(folder))
    secrets = json.load(sys.stdin)

    def ask_to_stop(*_: object) -> None:
        with suppress(OSError):
            (stream.folder / "stop").touch()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    try:
        detect_in_folder(Path(os.environ["TAL_HOME"]), stream, **secrets)
    except InputError as error:
        print(error, file=sys.stderr)
        if stream.folder.is_dir() and stream.status()["state"] in ("starting", "stopping"):
            failed(stream, error)
        return 2
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    CODE = main(sys.argv[1])
    sys.stdout.flush()
    # A thread may still hang in the network, in code that Python can't end; the process need not wait for it.
    os._exit(CODE)
