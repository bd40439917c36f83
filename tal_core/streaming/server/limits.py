"""What a client may take at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    ``streams``, ``uploads``: streams and bodies received at once. ``detections``: files worked on at once.
    ``request_seconds``: for one whole request. ``idle_seconds``: a silent client is cut off after these, in
    a request's head and body and between the messages of a stream. ``send_seconds``: a client that does not
    read is dropped after these. ``pixels``: of one picture. ``snippets``: of one feature file.
    """

    body_bytes: int = 256 * 2**20
    message_bytes: int = 2 * 2**20
    streams: int = 16
    uploads: int = 16
    detections: int = 2
    request_seconds: float = 120.0
    idle_seconds: float = 30.0
    send_seconds: float = 5.0
    pixels: int = 3840 * 2160
    snippets: int = 200_000
