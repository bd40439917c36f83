"""What a client may take at most."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tal_core.schema import setting

MIB = 2**20


class Limits(BaseModel):
    """Sizes in bytes, times in seconds.

    ``streams``, ``uploads``: streams and bodies received at once. ``detections``: files worked on at once.
    ``request_seconds``: for one whole request. ``idle_seconds``: a silent client is cut off after these, in
    a request's head and body and between the messages of a stream. ``send_seconds``: a client that does not
    read is dropped after these. ``pixels``: of one picture. ``snippets``: of one feature file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    body_bytes: int = setting(
        256 * MIB, "of a file ({default})", flag="--max-body", metavar="MIB", unit=MIB, gt=0
    )
    message_bytes: int = setting(
        2 * MIB, "of a stream's message ({default})", flag="--max-message", metavar="MIB", unit=MIB, gt=0
    )
    streams: int = setting(16, "at once ({default})", flag="--max-streams", metavar="N", ge=1)
    uploads: int = 16
    detections: int = 2
    request_seconds: float = setting(
        120.0, "for a request ({default})", flag="--request-seconds", metavar="S", gt=0
    )
    idle_seconds: float = setting(
        30.0, "of a silent client ({default})", flag="--idle-seconds", metavar="S", gt=0
    )
    send_seconds: float = 5.0
    pixels: int = 3840 * 2160
    snippets: int = 200_000
