"""``app``: the studio in the browser."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from tal_core.commands.parsing import Commands, command
from tal_core.types import InputError
from tal_core.workspace import home

_PACKAGE = Path(__file__).resolve().parents[1]


def add(commands: Commands) -> None:
    parser = command(
        commands, "app", run_app, "open the studio in the browser (streamlit run app.py)", "app --port 8501"
    )
    parser.add_argument("--port", type=int, metavar="N", help="port of its address (default: Streamlit's)")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")


def run_app(options: argparse.Namespace) -> None:
    """Serve the pages until Ctrl-C. Raises ``InputError`` without Streamlit."""
    if importlib.util.find_spec("streamlit") is None:
        raise InputError("the pages need Streamlit", hint="Install it: pip install 'tal-studio[app]'")
    workspace = str(home())
    settings = ["--server.port", str(options.port)] if options.port else []
    if options.no_browser:
        settings += ["--server.headless", "true"]
    os.chdir(studio())  # where Streamlit looks for its settings
    os.execve(  # in this process's stead, so that whoever ends this one ends the server
        sys.executable,
        [sys.executable, "-m", "streamlit", "run", "app.py", *settings],
        {**os.environ, "TAL_HOME": workspace},
    )


def studio() -> Path:
    """The folder of ``app.py``: the checkout, or its copy in an installed package."""
    installed = _PACKAGE / "studio"
    return installed if installed.is_dir() else _PACKAGE.parent
