"""``stream``: detect on a live stream, a camera or a file."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tal_core.background.processes import stop_signals
from tal_core.commands.parsing import Commands, add_device, add_run, command
from tal_core.workspace import home

STATUS_SECONDS = 0.25
CLOSE_SECONDS = 5.0


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "stream",
        run_stream,
        "detect actions on a live stream, a camera or a file as they happen",
        "stream --run demo-miniroad --source rtmp://127.0.0.1/live/demo --out events.jsonl",
    )
    add_run(parser)
    parser.add_argument(
        "--source",
        required=True,
        metavar="S",
        help="a video file, camera:0, or an rtmp://, rtsp://, http:// or https:// address (HLS, MJPEG, file)",
    )
    parser.add_argument("--out", type=Path, metavar="F", help="append events to this .jsonl file, one a line")
    parser.add_argument(
        "--delay",
        type=float,
        metavar="S",
        help="seconds the detector waits before it decides (default: the run's own)",
    )
    parser.add_argument("--paced", action="store_true", help="play a file in real time, as if it were live")
    parser.add_argument("--webhook", metavar="URL", help="post every event there as JSON")
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="S", help="for the first picture (%(default)s)"
    )
    parser.add_argument(
        "--give-up",
        type=float,
        metavar="S",
        help="seconds after which a live source that broke off is given up (default: never)",
    )
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no status line")


def run_stream(options: argparse.Namespace) -> None:
    """Detect until the source ends or Ctrl-C."""
    from tal_core.runs.run import open_run
    from tal_core.streaming.live.opening import make_session, open_detector
    from tal_core.streaming.live.sinks import JsonLines, Lines, Sink
    from tal_core.streaming.live.sources import Patience, open_source
    from tal_core.streaming.live.webhook import Webhook
    from tal_core.streaming.online.events import check_delay

    check_delay(options.delay, "--delay")
    source = open_source(
        options.source,
        paced=options.paced,
        patience=Patience(first=max(0.0, options.wait), lost=options.give_up),
    )
    run = open_run(home(), options.run)
    status = StatusLine(sys.stderr.isatty() and not options.quiet)
    sinks: list[Sink] = [Lines(status.say)]
    webhook = Webhook(options.webhook) if options.webhook else None
    if webhook is not None:
        sinks.append(webhook)
    model, extractor = open_detector(run, delay=options.delay, device=options.device)
    if options.out:
        sinks.append(JsonLines(options.out))
    session = make_session(model, source, extractor, sinks, run.run_id)
    stopping = threading.Event()
    with stop_signals(stopping.set):
        session.start()
        while not stopping.is_set() and not session.wait(STATUS_SECONDS):
            status.show(session.stats())
        session.stop()
        session.wait(CLOSE_SECONDS)  # a webhook is given a little time for what it still has to send
    status.clear()
    print(summary(session.stats()), file=sys.stderr)
    if session.error is not None:
        raise session.error
    if webhook is not None and (lost := webhook.failed + webhook.dropped):
        print(f"webhook: {webhook.sent} sent, {lost} lost ({webhook.error})", file=sys.stderr)
    if any(thread.name == "stream-read" for thread in threading.enumerate()):
        sys.stdout.flush()
        # It hangs in the network, in code that Python can't end; the process need not wait for it.
        os._exit(0)


class StatusLine:
    """One line at the bottom of a terminal, under what is printed."""

    def __init__(self, shown: bool):
        self._shown, self._lock = shown, threading.Lock()

    def say(self, line: str) -> None:
        """Print a line above the status."""
        with self._lock:
            self._erase()
            print(line, flush=True)

    def show(self, stats: dict[str, Any]) -> None:
        """Replace the line."""
        if self._shown:
            with self._lock:
                self._erase()
                print(summary(stats), end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        with self._lock:
            self._erase()

    def _erase(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def summary(stats: dict[str, Any]) -> str:
    """Figures of a session in one line."""
    latency = stats["latency_ms"]["p95"]
    parts = [
        f"{stats['state']}",
        f"{stats['seconds']:.1f} s",
        f"{stats['frames']} frames ({stats['fps']:.1f} a second, {stats['dropped']} dropped)",
        f"{stats['events']} events",
    ]
    if latency is not None:
        parts.append(f"p95 {latency:.0f} ms")
    parts += [f"{stats[name]} {name}" for name in ("broken", "gaps", "reconnects") if stats.get(name)]
    return " | ".join(parts)
