"""Posts records to a web address, in a thread of its own: a slow or dead receiver holds nothing up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tal_core.streaming.live.addresses import without_secrets
from tal_core.streaming.live.sinks import Record, Report, Sink
from tal_core.types import InputError

ROOM = 1000  # records that wait for the receiver
SECONDS = 5.0  # for a connection, and for an answer
RETRIES = 4
CLOSE_SECONDS = 3.0


def check_webhook(url: str) -> str:
    """The address without what may be secret. Raises InputError unless it is http or https with a host."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or any(letter.isspace() for letter in url):
        hint = "Give an address like https://host/path."
        raise InputError("is not a web address", where=f"webhook {url[:60]!r}", hint=hint)
    return without_secrets(url)


class Webhook(Sink):
    """A sink that posts each record as JSON.

    Connection failures and answers 429 and 5xx are tried again after growing pauses. ``sent`` and
    ``failed`` count records, ``dropped`` those for which there was no room while the receiver was away;
    ``error`` is the last failure.

    Raises:
        InputError: if the address is not http or https.
    """

    def __init__(self, url: str, *, room: int = ROOM, retries: int = RETRIES, seconds: float = SECONDS):
        check_webhook(url)
        self.sent = self.failed = self.dropped = 0
        self.error: str | None = None
        self._url, self._seconds = url, seconds
        self._records: queue.Queue[Record | None] = queue.Queue(room)
        retry = Retry(
            retries,
            backoff_factor=0.25,
            backoff_max=5,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            redirect=0,
        )
        self._client = requests.Session()
        self._client.trust_env = False  # no proxies or passwords of whoever runs the server
        for scheme in ("http://", "https://"):
            self._client.mount(scheme, HTTPAdapter(max_retries=retry))
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._post_all, name="webhook", daemon=True)
        self._thread.start()

    def take(self, report: Report) -> None:
        for record in report.records:
            try:
                self._records.put_nowait(record)
            except queue.Full:
                self.dropped += 1

    def close(self) -> None:
        """Give the receiver a few seconds to take what waits, then leave."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with suppress(queue.Full):
            self._records.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._left.set()

    def _post_all(self) -> None:
        with self._client:
            while not self._left.is_set() and (record := self._records.get()) is not None:
                self._post(record)
            self.dropped += sum(1 for record in _waiting(self._records) if record is not None)

    def _post(self, record: Record) -> None:
        try:
            answer = self._client.post(self._url, json=record, timeout=self._seconds, allow_redirects=False)
            fault = None if answer.status_code < 300 else f"HTTP {answer.status_code}"
        except requests.RequestException as error:
            fault = type(error).__name__  # its text would name the address
        if fault is None:
            self.sent += 1
        else:
            self.failed, self.error = self.failed + 1, fault


def _waiting(records: queue.Queue) -> Iterator[Record | None]:
    """What waits in a queue, taken out of it."""
    with suppress(queue.Empty):
        while True:
            yield records.get_nowait()
