"""A web server whose answers a test chooses: path -> function(handler)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(content: bytes, kind: str = "video/mp4", status: int = 200, **headers: str):
    """One whole answer, in parts if the client asks for a range."""

    def respond(handler):
        first, last = 0, len(content) - 1
        code = status
        if (asked := handler.headers.get("Range")) and status == 200:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last, code = int(begin or 0), min(int(end or last), last), 206
        handler.send_response(code)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(last + 1 - first))
        if code == 206:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content[first : last + 1])

    return respond


@contextmanager
def web_server(pages: dict):
    """Yields the server, which has ``url(path)`` and ``asked`` (the paths so far)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.asked.append(self.path)
            page = pages.get(self.path.split("?")[0], answer(b"no such page", "text/plain", 404))
            try:
                page(self)
            except OSError:
                self.close_connection = True  # the client has left

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
    server.url = lambda path: f"http://127.0.0.1:{server.server_port}{path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
