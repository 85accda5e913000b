"""A web process without a server: its WSGI application is called here, and it measures itself.

It reads one JSON object from stdin (`bodies`, `pairs`, `deliveries`) and prints one.
"""

import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tests.webhooks import PATH, new_message_id, signature, statements  # noqa: E402

Environ = dict[str, Any]

ROUND = 25
"""Deliveries in a row before the other's turn: few, so that whatever else the machine does meets both."""

FLOOR = 2000
WARM_UP = 5000
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


def rates(web: Web, pairs: int) -> list[tuple[float, float]]:
    """Return deliveries per second of receiver and bare view, in turns; who begins changes each time."""
    for path in (PATH, bare.PATH):
        web.round(path)
    found = []
    for number in range(pairs):
        order = (PATH, bare.PATH) if number % 2 else (bare.PATH, PATH)
        seconds = {path: web.round(path) for path in order}
        found.append((ROUND / seconds[PATH], ROUND / seconds[bare.PATH]))
    return found


def memory(web: Web, deliveries: int) -> Iterator[tuple[int, float]]:
    """Yield how much of this process is in memory, in MiB, after every 5,000 deliveries."""
    process = psutil.Process()
    for delivered in range(WARM_UP, deliveries + 1, WARM_UP):
        for _ in range(0, WARM_UP, ROUND):
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


def floors(bodies: Iterable[str]) -> dict[str, float]:
    """Return how often in a second one can sign a body, and insert a row, with nothing around it."""
    texts = list(islice(cycle(bodies), FLOOR))
    [secret, *_] = settings.CLERK_WEBHOOK_SIGNING_SECRET
    return {
        "hmac": _rate(lambda text: signature(secret, "msg_1", "1700000000", text.encode()), texts),
        "insert": _rate(lambda text: bare.bare_insert(new_message_id(), text), texts),
    }


def _rate(call: Callable[[str], object], texts: Sequence[str]) -> float:
    started = time.perf_counter()
    for text in texts:
        call(text)
    return len(texts) / (time.perf_counter() - started)


def main() -> None:
    """Measure everything."""
    task = json.load(sys.stdin)
    with connection.cursor() as cursor:
        cursor.execute(bare.TABLE)
    with override_settings(ROOT_URLCONF=bare.__name__):
        web = Web(task["bodies"])
        result = {
            "statements": statement_counts(web, task["bodies"][0]),
            "rates": rates(web, task["pairs"]),
            "floors": floors(task["bodies"]),
            "memory": list(memory(web, task["deliveries"])),
        }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
