"""What goes over the WebSocket.

From the client, as text (JSON): first ``hello``; then ``features``, ``gap`` and, at the end, ``finish``. As
bytes, after the hello, little-endian:

    a picture    a bare JPEG (its time is when it came), or
                 b"JPEG"  float64 seconds  the JPEG
    features     b"F32 " or b"F16 "  uint32 D  the N x D values, snippet after snippet

From the server, as JSON: ``ready``, ``scores``, ``event``, ``warning``, ``error``, ``end``.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tal_core.streaming.online.events import Output, checked_features
from tal_core.types import InputError

_FEATURES = struct.Struct("<4sI")
_PICTURE = struct.Struct("<4sd")
_DTYPES: dict[bytes, np.dtype[np.floating]] = {b"F32 ": np.dtype("<f4"), b"F16 ": np.dtype("<f2")}
_JPEG_START = b"\xff\xd8\xff"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Hello(_Message):
    """The first message: which run, and what will be pushed.

    ``when_slow``: if pictures come faster than they can be worked on, ``drop`` the oldest that wait (and say
    so), or let the client ``wait``. ``token``: for clients that can't send an ``Authorization`` header.
    """

    type: Literal["hello"]
    run: str | None = None
    kind: Literal["frames", "features"]
    token: str | None = None
    when_slow: Literal["drop", "wait"] = "drop"


class Features(_Message):
    """The next snippets, as rows of numbers."""

    type: Literal["features"]
    values: list[list[float]]


class Gap(_Message):
    """Features are missing: the next snippet is centred at ``seconds`` of the stream."""

    type: Literal["gap"]
    seconds: float = Field(ge=0, le=1e8, allow_inf_nan=False)


class Finish(_Message):
    """The stream is over: say what is left, then close."""

    type: Literal["finish"]


class Picture(BaseModel):
    """A JPEG with the client's own time, if it gave one."""

    jpeg: bytes
    seconds: float | None


_TEXT: TypeAdapter = TypeAdapter(Annotated[Features | Gap | Finish, Field(discriminator="type")])


def parse_hello(text: str) -> Hello:
    """The first message of a client. Raises InputError if it isn't a hello."""
    try:
        return Hello.model_validate_json(text)
    except ValidationError as error:
        raise _faulty(error, "hello") from None


def parse_text(text: str, num_features: int) -> np.ndarray | Gap | Finish:
    """A later message in JSON; features come as (N, ``num_features``) float32. Raises InputError."""
    try:
        message = _TEXT.validate_json(text)
    except ValidationError as error:
        raise _faulty(error, "message") from None
    if not isinstance(message, Features):
        return message
    widths = {len(row) for row in message.values}
    if len(widths) > 1:
        raise InputError("rows of features have different lengths", hint="Send a full table of numbers.")
    values = np.array(message.values) if message.values else np.empty((0, num_features))
    return checked_features(values, num_features)


def parse_bytes(content: bytes, kind: str, num_features: int) -> np.ndarray | Picture:
    """A binary message: a ``Picture``, or features (N, ``num_features``) float32. Raises InputError."""
    if kind == "frames":
        return _parse_picture(content)
    if len(content) < _FEATURES.size or content[:4] not in _DTYPES:
        hint = 'Begin with b"F32 " or b"F16 " and the number of channels as uint32.'
        raise InputError("the features have no header", hint=hint)
    tag, width = _FEATURES.unpack_from(content)
    values = content[_FEATURES.size :]
    dtype = _DTYPES[tag]
    if width == 0 or len(values) % (width * dtype.itemsize):
        what = f"{len(values)} bytes are no whole number of snippets of {width} x {dtype.itemsize} bytes"
        raise InputError(what, hint="Send all values of every snippet.")
    width = width if values else num_features
    return checked_features(np.frombuffer(values, dtype).reshape(-1, width), num_features)


def output_messages(output: Output) -> list[dict[str, Any]]:
    """The messages that tell a client of an output: its scores, if any, then its events in order."""
    messages: list[dict[str, Any]] = []
    if len(output.seconds):
        scores = np.round(output.scores.astype(float), 6).tolist()
        messages.append({"type": "scores", "seconds": np.round(output.seconds, 6).tolist(), "scores": scores})
    return messages + [{"type": "event", **event.to_json()} for event in output.events]


def _parse_picture(content: bytes) -> Picture:
    if content[:3] == _JPEG_START:
        return Picture(jpeg=content, seconds=None)
    if content[:4] != b"JPEG" or len(content) < _PICTURE.size:
        hint = 'Send a JPEG, or b"JPEG", the time in seconds as float64, and the JPEG.'
        raise InputError("is neither a JPEG nor a timed one", where="picture", hint=hint)
    seconds = _PICTURE.unpack_from(content)[1]
    if not np.isfinite(seconds) or abs(seconds) > 1e12:
        raise InputError(f"{seconds} is no time in seconds", where="picture", hint="Send a finite number.")
    return Picture(jpeg=content[_PICTURE.size :], seconds=seconds)


def _faulty(error: ValidationError, where: str) -> InputError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"][:4])
    what = f"{place}: {first['msg']}" if place else first["msg"]
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    return InputError(f"{what}{more}", where=where, hint="See the page /docs for the form of all messages.")
