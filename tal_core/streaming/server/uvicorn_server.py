"""Runs the application on uvicorn."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tal_core.streaming.server.application import make_application
from tal_core.streaming.server.middleware import LOOPBACK
from tal_core.streaming.server.service import Service
from tal_core.types import InputError

SHUTDOWN_SECONDS = 10


def make_server(service: Service, host: str, port: int) -> tuple[uvicorn.Server, socket.socket]:
    """A server and the socket it will listen on: ``server.run(sockets=[socket])``. Port 0: any free one.

    Raises:
        InputError: if it would listen beyond this machine without a token, or the address can't be had.
    """
    if host not in LOOPBACK and not service.token:
        what = f"listening on {host} is open to other machines, and there is no token"
        raise InputError(what, where="--host", hint="Set TAL_TOKEN or give --token, or listen on 127.0.0.1.")
    listener = _listen(host, port)
    # Behind a token any name is right: who knows the token is no web page that strayed here.
    names = None if service.token else LOOPBACK
    limits = service.limits
    config = uvicorn.Config(
        make_application(service, names),
        http=_protocol(limits.idle_seconds),
        ws=_StreamProtocol,
        ws_max_size=limits.message_bytes,
        # An answer would come behind all that the client has pushed; the silent are closed by idle_seconds.
        ws_ping_interval=None,
        ws_per_message_deflate=False,  # JPEG and features don't shrink, and a bomb could hide in it
        timeout_keep_alive=int(limits.idle_seconds) or 1,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
    )
    return uvicorn.Server(config), listener


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise InputError(f"port {port} can't be listened on", where="--port", hint="Choose 1 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"can't be listened on ({reason})", where=f"{host}:{port}", hint="Choose another with --port."
        ) from None
    return listener


def _protocol(head_seconds: float) -> type[H11Protocol]:
    """HTTP whose clients must send a request's head in time; uvicorn itself would wait for ever."""

    class PunctualProtocol(H11Protocol):
        """Closes connections that stay between two requests for too long."""

        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._late = self.loop.call_later(head_seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            under_way = self.cycle is not None and not self.cycle.response_complete
            upgraded = self.transport.get_protocol() is not self
            if under_way or upgraded:
                self._unset_late()
            elif self._late is None and not self.transport.is_closing():
                self._late = self.loop.call_later(head_seconds, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._unset_late()
            super().connection_lost(exc)

        def _unset_late(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return PunctualProtocol


class _StreamProtocol(WebSocketsSansIOProtocol):
    """Lets the application drop a connection at once, without the closing handshake."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # by a refusal; uvicorn would log an error for each

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"]["abort"] = {"call": self.transport.abort}
