"""``stream-demo``: a streaming server on this machine that plays a video, to try ``stream`` on."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from tal_core.background.processes import stop_signals
from tal_core.commands.parsing import Commands, command, program
from tal_core.types import InputError
from tal_core.workspace import DEMO


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "stream-demo",
        run_demo,
        "play a video in real time to an RTMP server on this machine, until Ctrl-C",
        "stream-demo --video film.mp4",
    )
    parser.add_argument("--video", type=Path, metavar="F", help="what to play (default: one of the demo's)")
    parser.add_argument("--port", type=int, default=1935, help="the server's (%(default)s; 0: a free one)")
    parser.add_argument("--name", default="demo", help="name of the stream (%(default)s)")
    parser.add_argument("--once", action="store_true", help="play it once instead of over and over")


def run_demo(options: argparse.Namespace) -> None:
    """Run nginx and ffmpeg until the video ends or Ctrl-C."""
    from tal_core.streaming.live.rtmp_demo import Publisher, RtmpServer, check_programs
    from tal_core.workspace import check_name

    check_programs()
    check_name(options.name, "stream")
    if not 0 <= options.port < 2**16:
        raise InputError(f"--port {options.port}", hint="Choose 1 to 65535, or 0 for a free one.")
    video = options.video or demo_video()
    stopping = threading.Event()
    with stop_signals(stopping.set), RtmpServer(options.port) as server:
        address = server.address(options.name)
        with Publisher(video, address, loop=not options.once) as publisher:
            print(f"{video.name} plays at {address}")
            print(f"watch it:  {program()} stream --run RUN --source {address}")
            print("end it:    Ctrl-C", flush=True)
            while not stopping.is_set() and not publisher.wait(0.25):
                pass
    print("The server and the sender have ended.")


def demo_video() -> Path:
    """A video that the app ships with."""
    films = sorted((DEMO / "videos").glob("*.mp4"))
    if not films:
        raise InputError("the demo's videos are missing", where=DEMO, hint="Give --video FILE.")
    return films[0]
