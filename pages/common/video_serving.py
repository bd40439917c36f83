"""Video files for the browser in the parts that it asks for: none is read whole, so length doesn't matter.

A page registers the file that it shows and gets an address for it; nothing else can be had here.
"""

from __future__ import annotations

import hashlib
import mimetypes
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

MOST_FILES = 1000
"""Addresses kept; the oldest is forgotten first, and given again when its page is shown again."""

_key = secrets.token_bytes(16)
_files: dict[str, Path] = {}


def address(path: Path) -> str | None:
    """Where the browser finds the video, for this server's lifetime; None where there is no browser."""
    page = st.context.url
    if not page:
        return None
    return urlsplit(page)._replace(path=_base() + f"/videos/{register(path)}", query="", fragment="").geturl()


def register(path: Path) -> str:
    """The name under which a file is served; always the same for the same file."""
    name = hashlib.blake2b(str(path.resolve()).encode(), key=_key, digest_size=16).hexdigest()
    _files.pop(name, None)
    _files[name] = path.resolve()
    for old in list(_files)[:-MOST_FILES]:
        _files.pop(old, None)
    return name


def _base() -> str:
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


async def _answer(request: Request) -> Response:
    # Looked up anew: Streamlit loads modules again when their files change, and pages then fill another list.
    files = getattr(sys.modules.get(__name__), "_files", _files)
    path = files.get(request.path_params["name"])
    if path is None or not path.is_file():
        return Response("no such video", status_code=404, media_type="text/plain")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})


ROUTES = [Route(_base() + "/videos/{name}", _answer, methods=["GET"])]
"""What the server answers beside Streamlit's own routes."""
