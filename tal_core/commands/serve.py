"""``serve``: detections and live streams over HTTP and WebSocket."""

# pylint: disable=import-outside-toplevel

from __future__ import annotations

import argparse
import os

from tal_core.commands.parsing import command
from tal_core.types import InputError
from tal_core.workspace import home


def add(commands) -> None:
    """Its arguments."""
    parser = command(
        commands,
        "serve",
        run_serve,
        "serve trained runs over HTTP and WebSocket",
        "serve --run demo-baseline",
    )
    parser.add_argument(
        "--run", required=True, action="append", metavar="ID", help="a run to serve; more by repeating"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8600, help="port; 0 takes a free one (%(default)s)")
    parser.add_argument(
        "--token",
        metavar="T",
        help="what clients must send as bearer token; better in the environment as TAL_TOKEN, where other"
        " users of the machine don't see it. Needed to listen beyond this machine",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument(
        "--delay", type=float, metavar="S", help="seconds a stream's detector waits (default: the run's own)"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=_positive, default=256, metavar="MIB", help="of a file (%(default)s)"
    )
    limits.add_argument(
        "--max-message", type=_positive, default=2, metavar="MIB", help="of a stream's message (%(default)s)"
    )
    limits.add_argument("--max-streams", type=int, default=16, metavar="N", help="at once (%(default)s)")
    limits.add_argument(
        "--request-seconds", type=_positive, default=120, metavar="S", help="for a request (%(default)s)"
    )
    limits.add_argument(
        "--idle-seconds", type=_positive, default=30, metavar="S", help="of a silent client (%(default)s)"
    )


def run_serve(options: argparse.Namespace) -> None:
    """Serve until stopped."""
    from tal_core.streaming.server import Limits, Service, make_server
    from tal_core.streaming.server.service import open_served

    token = options.token or os.environ.get("TAL_TOKEN") or None
    if token is not None and len(token) < 16:
        hint = 'Make one: python -c "import secrets; print(secrets.token_urlsafe())".'
        raise InputError("is shorter than 16 characters", where="the token", hint=hint)
    if options.max_streams < 1:
        raise InputError("must be 1 or more", where="--max-streams")
    limits = Limits(
        body_bytes=int(options.max_body * 2**20),
        message_bytes=int(options.max_message * 2**20),
        streams=options.max_streams,
        request_seconds=options.request_seconds,
        idle_seconds=options.idle_seconds,
    )
    service = Service({}, limits, token)
    server, listener = make_server(service, options.host, options.port)
    with listener:
        for run_id in dict.fromkeys(options.run):
            served = open_served(home(), run_id, delay=options.delay, device=options.device)
            service.runs[run_id] = served
            if served.why_not:
                print(f"{run_id} serves files only: {served.why_not}")
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(
            f"serving {', '.join(service.runs)} at http://{shown}:{port} (docs: http://{shown}:{port}/docs)",
            flush=True,
        )
        server.run(sockets=[listener])


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
