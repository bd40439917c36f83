"""Stands before the application: who may come in, how much they may bring, how long they may take.

Listening on loopback, no token is needed. A web page open in the user's browser must not use that: names
other than the loopback's are refused (a foreign name may be made to point here, DNS rebinding), and so are
requests that say they come from another origin (browsers let any page open WebSockets and post forms to
anywhere).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from tal_core.streaming.server.errors import Refusal, error_response
from tal_core.streaming.server.service import Service

OPEN = ("/healthz", "/docs", "/openapi.json")
"""Paths that ask for no token: they say nothing of the runs."""
STATIC = "/docs-files"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


class Gate:
    """ASGI middleware. ``names``: hosts that requests may ask for, None for any."""

    def __init__(self, app: ASGIApp, service: Service, names: tuple[str, ...] | None):
        self.app, self.service, self.names = app, service, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, answered = time.monotonic(), None

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Content-Security-Policy"] = _POLICY
                headers["Referrer-Policy"] = "no-referrer"
                if not scope["path"].startswith(STATIC):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        try:
            self._check_origin(scope)
            self._check_token(scope)
            body = _Body(scope, receive, self.service.limits, begin)
            await self.app(scope, body.receive, answer)
        except Refusal as refusal:
            if answered is None:
                await error_response(refusal)(scope, receive, answer)
        finally:
            path = getattr(scope.get("route"), "path", None) or "other"
            numbers = self.service.numbers
            numbers.requests.labels(path, answered or 0).inc()
            numbers.request_seconds.labels(path).observe(time.monotonic() - begin)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_origin(scope)
            # Browsers can't send the header with a WebSocket; then the token is in the first message.
            if "authorization" in Headers(scope=scope):
                self._check_token(scope)
                scope["token_known"] = True
        except Refusal as refusal:
            await WebSocket(scope, receive, send).send_denial_response(error_response(refusal))
            return
        await self.app(scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.names is not None and _name(host) not in self.names:
            hint = f"Use {self.names[0]}."
            raise Refusal(403, f"the host {host[:80]!r} is not served here", where="Host", hint=hint)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            hint = "Only programs and this server's own pages may use it."
            raise Refusal(403, f"pages of {origin[:80]!r} may not use this server", where="Origin", hint=hint)

    def _check_token(self, scope: Scope) -> None:
        if scope["path"] in OPEN or scope["path"].startswith(STATIC + "/"):
            return
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if not self.service.knows(token.strip() if kind.lower() == "bearer" else None):
            hint = "Send the header Authorization: Bearer TOKEN."
            raise Refusal(401, "the token is missing or wrong", where="Authorization", hint=hint)


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class _Body:
    """A request's body, cut off when it grows too long or comes too slowly."""

    def __init__(self, scope: Scope, receive: Receive, limits: Any, begin: float):
        self._receive, self._limits, self._begin, self._size, self._whole = receive, limits, begin, 0, False
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > limits.body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part. Raises Refusal (408, 413)."""
        if self._whole:
            return await self._receive()  # waits for the client's leaving
        left = self._begin + self._limits.request_seconds - time.monotonic()
        try:
            patience = max(0.0, min(left, self._limits.idle_seconds))
            message = await asyncio.wait_for(self._receive(), patience)
        except TimeoutError:
            raise Refusal(408, "the body comes too slowly", where="body", hint="Send it faster.") from None
        self._size += len(message.get("body", b""))
        if self._size > self._limits.body_bytes:
            raise self._too_large()
        self._whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> Refusal:
        most = self._limits.body_bytes / 2**20
        return Refusal(
            413, f"the body is larger than {most:g} MiB", where="body", hint="Send a smaller file."
        )
