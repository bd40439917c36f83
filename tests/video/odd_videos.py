"""Odd videos made by ffmpeg, each a picture of a moving test card, and what reading them must give."""

import os
import shutil
import subprocess
from pathlib import Path

import av
import pytest

CARD = "testsrc=s=96x64:r=25:d="
SMALL_H264 = ["-c:v", "libx264", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1"]


def need_ffmpeg():
    """Skip without ffmpeg, or fail where the tests are told that it must be there."""
    if shutil.which("ffmpeg") is None:
        (pytest.fail if os.environ.get("TAL_REQUIRE_SERVERS") else pytest.skip)("ffmpeg is not installed")


def ffmpeg(path: Path, *arguments: str, source: str = f"{CARD}1") -> Path:
    """Run ffmpeg on a drawn source into ``path``."""
    need_ffmpeg()
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
    given = ["-f", "lavfi", "-i", source] if source else []
    subprocess.run([*command, *given, *arguments, str(path)], check=True, timeout=60)
    return path


def remux(source: Path, path: Path, change=lambda number, packet: packet, **display) -> Path:
    """Copy a video's packets as ``change`` gives them back; ``display``: how a player turns the picture."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        if display:
            copy.set_display_rotation(**display)
        for number, packet in enumerate(p for p in old.demux(stream) if p.size):
            changed = change(number, packet)
            if changed is not None:
                changed.stream = copy
                new.mux(changed)
    return path


def spoil(first: int, last: int):
    """For ``remux``: packets ``first`` to ``last`` hold noise."""

    def change(number, packet):
        if not first <= number <= last:
            return packet
        noise = av.Packet(bytes([number % 251 + 1]) * packet.size)
        noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
        return noise

    return change


def cut(path: Path, share: float) -> Path:
    """Keep the first ``share`` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patch(path: Path, *pairs: tuple[bytes, bytes]) -> Path:
    """Replace bytes of a file."""
    data = path.read_bytes()
    for old, new in pairs:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path
