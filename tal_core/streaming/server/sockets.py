"""``WS /v1/stream``: one client's stream from its hello to its end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tal_core.streaming.live.session import check_extractor
from tal_core.streaming.online.events import Output
from tal_core.streaming.server.batching import Batcher
from tal_core.streaming.server.errors import Refusal, error_body, error_response, refused
from tal_core.streaming.server.messages import (
    Finish,
    Gap,
    Hello,
    Picture,
    output_messages,
    parse_bytes,
    parse_hello,
    parse_text,
)
from tal_core.streaming.server.pushed_frames import PushedPictures, Step
from tal_core.streaming.server.service import Served, Service
from tal_core.types import InputError
from tal_core.video.extractors.extractor import Extractor

QUEUE = 4
"""Messages of one client that wait to be worked on."""


class ClientGone(Exception):
    """The client has closed, or does not read what it is sent."""

    def __init__(self, code: int, *, stuck: bool = False):
        super().__init__(code)
        self.code, self.stuck = code, stuck


_Message = np.ndarray | Picture | Gap | Finish
_Item = _Message | InputError | ClientGone


async def serve_stream(
    socket: WebSocket, service: Service, batchers: dict[str, Batcher], workers: Executor
) -> None:
    """Serve one connection to its end; ``workers`` decode pictures and extract features."""
    line = _Line(socket, service)
    code = 1000
    with ExitStack() as unnamed, ExitStack() as places:
        try:
            unnamed.enter_context(service.places.waiting())
        except Refusal as refusal:
            await socket.send_denial_response(error_response(refusal))
            return
        try:
            await socket.accept()
            hello = await line.hello()
            served = service.run(hello.run)
            served.stream_model()
            places.enter_context(service.places.stream())
            unnamed.close()
            await _ClientStream(line, service, served, hello, batchers[served.run_id], workers).run()
            await line.close(code)
        except InputError as error:
            answer = refused(error)
            code = answer.close_code
            await line.refuse(answer)
        except ClientGone as gone:
            code = gone.code
            line.drop(gone)
    service.numbers.streams_closed.labels(code).inc()


def _extractor(served: Served) -> Extractor:
    """What makes features of pictures for a run. Raises InputError if nothing here does, or not the same."""
    extractor = served.extractor()
    check_extractor(extractor, served.stream_model())
    return extractor


class _Line:
    """The connection: every wait has an end."""

    def __init__(self, socket: WebSocket, service: Service):
        self.socket, self.service, self.limits = socket, service, service.limits

    async def hello(self) -> Hello:
        """The first message. Raises Refusal without the right token, in it or in the handshake's header."""
        content = await self.receive()
        if not isinstance(content, str):
            raise Refusal(400, "the first message must be a hello in JSON", where="hello")
        hello = parse_hello(content)
        if not self.socket.scope.get("token_known") and not self.service.knows(hello.token):
            hint = "Send it as a header, Authorization: Bearer TOKEN, or as token in the hello."
            raise Refusal(401, "the token is missing or wrong", where="hello", hint=hint)
        return hello

    async def receive(self) -> str | bytes:
        """The next message. Raises ClientGone, or Refusal after too long a silence."""
        try:
            message = await asyncio.wait_for(self.socket.receive(), self.limits.idle_seconds)
        except TimeoutError:
            what = f"nothing came for {self.limits.idle_seconds:g} s"
            raise Refusal(408, what, hint="Connect again when there is something to send.") from None
        if message["type"] == "websocket.disconnect":
            raise ClientGone(message.get("code", 1005))
        content = message.get("text")
        return message["bytes"] if content is None else content

    async def send(self, message: dict[str, Any]) -> None:
        """Send one message. Raises ClientGone if the client does not read it in time."""
        text = json.dumps(message, allow_nan=False)
        try:
            await asyncio.wait_for(self.socket.send_text(text), self.limits.send_seconds)
        except TimeoutError:
            raise ClientGone(1008, stuck=True) from None
        except (WebSocketDisconnect, RuntimeError):
            raise ClientGone(1006) from None

    async def refuse(self, refusal: Refusal) -> None:
        """Say why, and close."""
        try:
            await self.send({"type": "error", **error_body(refusal)})
            await self.close(refusal.close_code, refusal.what[:100])
        except ClientGone as gone:
            self.drop(gone)

    def drop(self, gone: ClientGone) -> None:
        """Cut a client off that does not read: a closing handshake would wait for it."""
        if gone.stuck:
            self.socket.scope["extensions"]["abort"]["call"]()

    async def close(self, code: int, reason: str = "") -> None:
        """The closing handshake, if the line still stands."""
        if self.socket.application_state is WebSocketState.CONNECTED:
            try:
                await asyncio.wait_for(self.socket.close(code, reason), self.limits.send_seconds)
            except TimeoutError:
                raise ClientGone(1008, stuck=True) from None
            except (WebSocketDisconnect, RuntimeError):
                raise ClientGone(1006) from None


class _ClientStream:
    """What happens between ``ready`` and ``end``."""

    def __init__(
        self,
        line: _Line,
        service: Service,
        served: Served,
        hello: Hello,
        batcher: Batcher,
        workers: Executor,
    ):
        self.line, self.limits, self.numbers = line, service.limits, service.numbers
        self.served, self.hello, self.batcher, self.workers = served, hello, batcher, workers
        self.pictures = PushedPictures(_extractor(served)) if hello.kind == "frames" else None
        self.inbox: asyncio.Queue[tuple[float, _Item]] = asyncio.Queue(QUEUE)
        self.snippets = self.frames = self.dropped = self.faulty = 0

    async def run(self) -> None:
        """Serve until the client finishes. Raises ClientGone, or InputError for what can't be used."""
        run, kind = self.served.run_id, self.hello.kind
        state = await self.batcher.call(self.served.stream_model().open_stream)
        self.numbers.streams_opened.labels(run, kind).inc()
        with self.numbers.streams.labels(run).track_inprogress():
            await self.line.send({"type": "ready", **self.served.entry().model_dump(), "kind": kind})
            receiver = asyncio.create_task(self._receive())
            try:
                await self._work(state)
            finally:
                receiver.cancel()
                await asyncio.gather(receiver, return_exceptions=True)

    async def _receive(self) -> None:
        """Fill the inbox, up to the last message or the first fault."""
        while True:
            item: _Item
            try:
                item = self._parse(await self.line.receive())
            except (InputError, ClientGone) as error:
                item = error
            await self._put(item)
            if isinstance(item, Finish | Exception):
                return

    async def _put(self, item: _Item) -> None:
        if isinstance(item, Picture):
            self.frames += 1
            self.numbers.frames.labels(self.served.run_id).inc()
            if self.hello.when_slow == "drop" and self.inbox.full():
                self.inbox.get_nowait()  # the oldest: what is shown must be recent
                self.dropped += 1
                self.numbers.dropped.labels(self.served.run_id).inc()
        await self.inbox.put((time.monotonic(), item))

    def _parse(self, content: str | bytes) -> _Message:
        width = self.served.num_features
        if isinstance(content, bytes):
            return parse_bytes(content, self.hello.kind, width)
        item = parse_text(content, width)
        if self.hello.kind == "frames" and not isinstance(item, Finish):
            raise InputError("the hello promised frames", where="message", hint="Send pictures, or finish.")
        return item

    async def _work(self, state: Any) -> None:
        told_dropped = 0
        while True:
            came, item = await self.inbox.get()
            if isinstance(item, Exception):
                raise item
            steps = await self._steps(came, item)
            for interrupted, features in steps:
                if interrupted is not None:
                    await self._tell(await self.batcher.call(state.gap, interrupted))
                if len(features):
                    await self._tell(await self.batcher.push(state, features))
            if isinstance(item, Finish):
                break
            self.numbers.push_seconds.labels(self.served.run_id).observe(time.monotonic() - came)
            if self.dropped > told_dropped:
                told_dropped = self.dropped
                what = f"{told_dropped} pictures dropped so far: they come faster than they can be worked on"
                await self._warn(InputError(what, hint="Send fewer, or say when_slow: wait."))
        await self._tell(await self.batcher.call(state.finish))
        counts = {"frames": self.frames, "dropped": self.dropped, "faulty": self.faulty}
        await self.line.send({"type": "end", "snippets": self.snippets, **counts})

    async def _steps(self, came: float, item: _Message) -> list[Step]:
        """What an item asks of the detector."""
        if isinstance(item, Gap):
            return [(item.seconds, np.empty((0, self.served.num_features), np.float32))]
        if isinstance(item, np.ndarray):
            return [(None, item)]
        if self.pictures is None:
            return []
        if isinstance(item, Finish):
            return await self._apart(self.pictures.finish)
        try:
            seconds = came if item.seconds is None else item.seconds
            return await self._apart(self.pictures.add, seconds, item.jpeg, self.limits.pixels)
        except InputError as error:
            self.faulty += 1
            await self._warn(error)
            return []

    async def _apart(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.workers, function, *arguments)

    async def _tell(self, output: Output) -> None:
        run = self.served.run_id
        self.snippets += len(output.seconds)
        self.numbers.snippets.labels(run).inc(len(output.seconds))
        for event in output.events:
            self.numbers.events.labels(run, event.kind).inc()
        for message in output_messages(output):
            await self.line.send(message)

    async def _warn(self, error: InputError) -> None:
        await self.line.send({"type": "warning", **error_body(error)})
