"""A streaming server of one's own to try live detection on: nginx with its RTMP module, fed by ffmpeg.

    with RtmpServer() as server, Publisher(video, server.address("demo")):
        ...  # detect on server.address("demo")

Both listen and run as the current user, on this machine alone, and end with their context.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tal_core.types import InputError

INSTALL = "On Debian and Ubuntu: apt-get install ffmpeg nginx libnginx-mod-rtmp."
START_SECONDS = 10.0

_CONFIG = """\
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        chunk_size 4096;
        application live {{
            live on;
            wait_key on;
            wait_video on;
            publish_notify on;
            drop_idle_publisher 10s;
        }}
    }}
}}
"""


def check_programs() -> None:
    """Raise InputError unless nginx with its RTMP module, and ffmpeg, are there."""
    if shutil.which("ffmpeg") is None:
        raise InputError("ffmpeg is not installed", hint=INSTALL)
    _rtmp_module()


class RtmpServer:
    """nginx on ``127.0.0.1:port`` (0: a free one). Used as a context.

    Raises:
        InputError: if it is not installed, or the port is taken.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, port: int = 0):
        self.port = port
        self._folder = tempfile.TemporaryDirectory(prefix="tal-rtmp-")

    def address(self, name: str) -> str:
        """Where to publish to and to watch a stream."""
        return f"rtmp://127.0.0.1:{self.port}/live/{name}"

    def __enter__(self) -> RtmpServer:
        module, nginx = _rtmp_module(), _nginx()
        self.port = self.port or free_port()
        if _answers(self.port):
            raise InputError(f"port {self.port} is taken", hint="Choose another with --port.")
        folder = Path(self._folder.name)
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(module=module, folder=folder, port=self.port))
        self.process = subprocess.Popen(  # ended by __exit__
            [nginx, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = folder / "error.log"
                said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                self.__exit__()
                raise InputError(f"nginx does not start ({''.join(said) or 'no reason given'})", hint=INSTALL)
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)
        self._folder.cleanup()


class Publisher:
    """ffmpeg that plays a video to an RTMP address in real time. Used as a context.

    ``loop`` plays it over and over. ``copy`` sends the pictures as they are in the file; otherwise they are
    encoded anew for little delay, with a key frame every second.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, video: Path, address: str, *, loop: bool = True, copy: bool = False):
        self.video, self.address = video, address
        coding = ["-c:v", "copy"] if copy else _low_delay()
        self._command = [
            *["ffmpeg", "-nostdin", "-loglevel", "error", "-re"],
            *(["-stream_loop", "-1"] if loop else []),
            *["-i", str(video), "-an", *coding, "-f", "flv", address],
        ]
        # Closed by __exit__.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Publisher:
        if shutil.which("ffmpeg") is None:
            raise InputError("ffmpeg is not installed", hint=INSTALL)
        if not self.video.is_file():
            raise InputError("there is no such video file", where=self.video, hint="Check the path.")
        self.process = subprocess.Popen(  # ended by __exit__
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        end(self.process)
        self._errors.close()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; whether it has. Raises InputError if ffmpeg failed."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if code:
            self._errors.seek(0)
            reason = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise InputError(f"ffmpeg ended ({''.join(reason) or code})", where=self.video)
        return True


def _low_delay() -> list[str]:
    quick = ["-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
    return ["-c:v", "libx264", *quick, "-force_key_frames", "expr:gte(t,n_forced)"]


def end(process: subprocess.Popen) -> None:
    """Ask a process to end, insist after three seconds, and wait for it."""
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _nginx() -> str:
    # Debian keeps it where only root's PATH looks.
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise InputError("nginx is not installed", hint=INSTALL)
    return nginx


def _rtmp_module() -> Path:
    said = subprocess.run([_nginx(), "-V"], capture_output=True, text=True, check=False).stderr
    folder = re.search(r"--modules-path=(\S+)", said)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_rtmp_module.so"
    if not module.exists():
        raise InputError("nginx has no RTMP module", where=module, hint=INSTALL)
    return module
