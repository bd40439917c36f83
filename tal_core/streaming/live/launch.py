"""Runs a stream in a process of its own, which outlives the browser and the app.

    python -m tal_core.streaming.live.launch STREAM_FOLDER

is that process. It reads the source from its standard input, since an address may hold a password that
belongs neither into a file nor into the list of processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tal_core.background.processes import stop_signals, this_process
from tal_core.runs.run import open_run
from tal_core.streaming.live.addresses import read_address, registered_folders
from tal_core.streaming.live.folder import StreamFolder, create_stream
from tal_core.streaming.online.events import check_delay
from tal_core.types import InputError


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
    from tal_core.streaming.live.webhook import check_webhook  # loads requests

    open_run(home, run).config()
    address = read_address(source, registered_folders(home))
    check_delay(delay)
    shown_webhook = check_webhook(webhook) if webhook else None
    request = {
        "run": run,
        "source": address.shown,
        "paced": paced,
        "delay": delay,
        "device": device,
        "webhook": shown_webhook,
    }
    stream = create_stream(home, request, stream_id)
    process = stream.launch(
        home, "tal_core.streaming.live.launch", stdin=subprocess.PIPE, state="starting", error=None
    )
    # It begins when it is told the source.
    assert process.stdin is not None
    with process.stdin as pipe:
        target = address.target if address.kind == "file" else source.strip()
        pipe.write(json.dumps({"source": target, "webhook": webhook}).encode())
    return stream


def main(folder: str) -> int:
    """The background process."""
    from tal_core.streaming.live.opening import detect_in_folder  # loads torch

    stream = StreamFolder(Path(folder))
    secrets = json.load(sys.stdin)

    def ask_to_stop() -> None:
        with suppress(OSError):
            stream.stop_file.touch()

    with stop_signals(ask_to_stop):
        try:
            detect_in_folder(Path(os.environ["TAL_HOME"]), stream, **secrets)
        except InputError as error:
            print(error, file=sys.stderr)
            with suppress(InputError):  # the folder may be gone
                if stream.status()["state"] in ("starting", "stopping"):
                    failed = {"state": "failed", "error": str(error), "heartbeat": time.time()}
                    stream.write_status({**failed, **this_process()})
            return 2
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    CODE = main(sys.argv[1])
    sys.stdout.flush()
    # A thread may still hang in the network, in code that Python can't end; the process need not wait for it.
    os._exit(CODE)
