import json
import threading
import time

import pytest

from tal_core.streaming.live.sinks import Report
from tal_core.streaming.live.webhook import Webhook, check_webhook
from tal_core.types import InputError
from tests.streaming.web import answer, web_server


def report(number: int) -> Report:
    return Report([{"kind": "start", "segment": number}])


def keep(bodies: list, first: tuple[int, ...] = ()):
    """A page that keeps what is posted, once it has answered with the codes of ``first``."""
    codes = list(first)

    def respond(handler):
        status = codes.pop(0) if codes else 200
        if status == 200:
            bodies.append(json.loads(handler.body))
        answer(b"", status=status)(handler)

    return respond


def test_every_record_is_posted_in_order_also_after_failures():
    bodies = []
    with web_server({"/hook": keep(bodies, (503, 429))}) as server:
        hook = Webhook(server.url("/hook"))
        for number in range(20):
            hook.take(report(number))
        hook.close()
    assert [body["segment"] for body in bodies] == list(range(20))
    assert (hook.sent, hook.failed, hook.dropped) == (20, 0, 0)


def test_a_refusal_is_counted_and_not_tried_again():
    with web_server({}) as server:
        hook = Webhook(server.url("/gone"))
        hook.take(report(0))
        hook.close()
        assert server.asked == ["/gone"]
    assert (hook.sent, hook.failed, hook.error) == (0, 1, "HTTP 404")


def test_a_redirection_is_not_followed():
    bodies = []
    with web_server({"/other": keep(bodies)}) as server:
        redirect = answer(b"", status=307, Location=server.url("/other"))
        with web_server({"/hook": redirect}) as first:
            hook = Webhook(first.url("/hook"))
            hook.take(report(0))
            hook.close()
    assert not bodies and (hook.sent, hook.failed, hook.error) == (0, 1, "HTTP 307")


def test_a_receiver_that_hangs_holds_nothing_up():
    release = threading.Event()
    with web_server({"/hook": lambda handler: release.wait(20)}) as server:
        hook = Webhook(server.url("/hook"), room=3, retries=0, seconds=0.2)
        began = time.monotonic()
        for number in range(50):
            hook.take(report(number))
        assert time.monotonic() - began < 0.1
        hook.close()
        release.set()
    assert hook.sent == 0 and hook.dropped >= 45 and hook.failed + hook.dropped == 50
    assert hook.error == "ConnectionError"


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "file:///etc/passwd", "http://", "https:///x", "http://a b/", "//x"]
)
def test_only_web_addresses(url):
    with pytest.raises(InputError, match="is not a web address"):
        Webhook(url)


def test_tokens_are_not_shown():
    assert check_webhook("https://me:pw@host/hook?key=1") == "https://…@host/hook?…"
