"""``serve``: detections and live streams over HTTP and WebSocket."""

from __future__ import annotations

import argparse
import os

from tal_core.commands.parsing import Commands, add_device, command
from tal_core.schema import add_flags, given
from tal_core.streaming.server.limits import Limits
from tal_core.types import InputError
from tal_core.workspace import home


def add(commands: Commands) -> None:
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
    add_device(parser)
    parser.add_argument(
        "--delay", type=float, metavar="S", help="seconds a stream's detector waits (default: the run's own)"
    )
    limits = parser.add_argument_group("limits")
    add_flags(limits, Limits)


def run_serve(options: argparse.Namespace) -> None:
    """Serve until stopped."""
    from tal_core.streaming.server.service import Service, open_served
    from tal_core.streaming.server.uvicorn_server import make_server

    token = options.token or os.environ.get("TAL_TOKEN") or None
    if token is not None and len(token) < 16:
        hint = 'Make one: python -c "import secrets; print(secrets.token_urlsafe())".'
        raise InputError("is shorter than 16 characters", where="the token", hint=hint)
    service = Service({}, Limits(**given(options, Limits)), token)
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
