"""A web process without a server: its WSGI application is called here, and it measures itself.

It reads one JSON object from stdin (`bodies`, `rounds`, `deliveries`) and prints one.
"""

import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import django
import psutil  # type: ignore[import-untyped]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.conf import settings  # noqa: E402  (Django is set up first)
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import override_settings  # noqa: E402

from clerk_integration.models import WebhookDelivery  # noqa: E402
from tests.benchmarks import _bare_receiver as bare  # noqa: E402
from tests.benchmarks._turns import take_turns  # noqa: E402
from tests.webhooks import PATH, new_message_id, signature, statements  # noqa: E402

Environ = dict[str, Any]

ROUND = 25
"""Deliveries in a row before the other's turn: few, so that whatever else the machine does meets both."""

MIB = 1024**2


class Web:
    """The application as a web server calls it."""

    def __init__(self, bodies: Sequence[str]) -> None:
        self._application: WSGIApplication = get_wsgi_application()
        self._bodies = cycle(body.encode() for body in bodies)

    def round(self, path: str, deliveries: int = ROUND) -> float:
        """Return the seconds that new deliveries take; signing them is not counted."""
        environs = [_environ(path, body) for body in islice(self._bodies, deliveries)]
        started = time.perf_counter()
        for environ in environs:
            self.deliver(environ)
        return time.perf_counter() - started

    def deliver(self, environ: Environ) -> None:
        """Make one request, up to the end that tells Django to look after its connections."""
        response = self._application(environ, _expect_success)
        b"".join(response)
        response.close()  # type: ignore[attr-defined]  # as PEP 3333 demands of servers


def _expect_success(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
    assert status.startswith("204"), status
    return lambda data: None


def _environ(path: str, body: bytes) -> Environ:
    message_id, timestamp = new_message_id(), str(int(time.time()))
    [secret, *_] = settings.CLERK_WEBHOOK_SIGNING_SECRET
    environ: Environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_SVIX_ID": message_id,
        "HTTP_SVIX_TIMESTAMP": timestamp,
        "HTTP_SVIX_SIGNATURE": f"v1,{signature(secret, message_id, timestamp, body)}",
        "wsgi.input": io.BytesIO(body),
    }
    setup_testing_defaults(environ)
    return environ


def rates(web: Web, bodies: Sequence[str], rounds: int) -> Mapping[str, Sequence[float]]:
    """Return deliveries per second of the receiver, of the bare view and of the floor, which take turns."""
    ways = {
        "receiver": lambda: ROUND / web.round(PATH),
        "bare": lambda: ROUND / web.round(bare.PATH),
        "floor": lambda: ROUND / floor(bodies),
    }
    return take_turns(ways, rounds=rounds).samples


def floor(bodies: Sequence[str]) -> float:
    """Return the seconds in which one can sign bodies, and insert and commit rows, with nothing around it."""
    [secret, *_] = settings.CLERK_WEBHOOK_SIGNING_SECRET
    messages = [(new_message_id(), text) for text in islice(cycle(bodies), ROUND)]
    started = time.perf_counter()
    for message_id, text in messages:
        signature(secret, message_id, "1700000000", text.encode())
        bare.bare_insert(message_id, text)
    return time.perf_counter() - started


def memory(web: Web, deliveries: int) -> Iterator[tuple[int, float]]:
    """Yield how much of this process is in memory, in MiB, after each tenth of the deliveries."""
    process = psutil.Process()
    step = max(deliveries // 10, ROUND)
    for delivered in range(step, max(deliveries, step) + 1, step):
        for _ in range(0, step, ROUND):
            web.round(PATH)
        gc.collect()
        yield delivered, process.memory_info().rss / MIB


def statement_counts(web: Web, body: str) -> dict[str, int]:
    """Return the statements of a new delivery and of its repeats, Django's check of the connection aside."""
    environ = _environ(PATH, body.encode())
    counts = {}
    for kind, status in (("new", None), ("repeat", None), ("processed", "processed"), ("failed", "failed")):
        if status:
            WebhookDelivery.objects.filter(svix_id=environ["HTTP_SVIX_ID"]).update(status=status)
        with statements() as found:
            web.deliver({**environ, "wsgi.input": io.BytesIO(body.encode())})
        counts[kind] = len(found)
    return counts


def main() -> None:
    """Measure everything."""
    task = json.load(sys.stdin)
    with connection.cursor() as cursor:
        cursor.execute(bare.TABLE)
    with override_settings(ROOT_URLCONF=bare.__name__):
        web = Web(task["bodies"])
        result = {
            "statements": statement_counts(web, task["bodies"][0]),
            "rates": rates(web, task["bodies"], task["rounds"]),
            "memory": list(memory(web, task["deliveries"])),
        }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
