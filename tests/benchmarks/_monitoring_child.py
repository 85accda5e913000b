"""A web process without a server, with and without request ids and metrics; it measures itself.

It reads one JSON object from stdin (`bodies` of webhooks, and `rounds`), and prints the seconds of a webhook
and of a list, by way. The metrics are written to files, as beside other processes of gunicorn.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import django

os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.conf import settings  # noqa: E402  (Django is set up first)
from django.test import override_settings  # noqa: E402

from clerk_integration import signals  # noqa: E402
from tenants.monitoring import metrics  # noqa: E402
from tests.benchmarks._ingest_child import Web, _environ  # noqa: E402
from tests.benchmarks._requests_child import _clerk_user, _request  # noqa: E402
from tests.benchmarks._turns import Measure, seconds_of, take_turns  # noqa: E402
from tests.tokens import public_pem  # noqa: E402
from tests.webhooks import PATH  # noqa: E402

LIST = "/api/v1/tenants/me/get-tenants"
ADDED = ("config.request_ids.RequestIdMiddleware", "config.request_metrics.RequestMetricsMiddleware")
ROUND = 20


def main() -> None:
    """Measure both requests in both ways, in turns."""
    task = json.load(sys.stdin)
    with override_settings(CLERK_JWT_KEY=public_pem(), CLERK_ISSUER=""):
        monitored = Web(task["bodies"])
        without = [name for name in settings.MIDDLEWARE if name not in ADDED]
        with override_settings(MIDDLEWARE=without):
            bare = Web(task["bodies"])
        metrics.connect()
        found = {}
        bodies = cycle(body.encode() for body in task["bodies"])
        requests: dict[str, Callable[[Web], Callable[[], None]]] = {
            "webhook": partial(_deliver, bodies),
            "list": _list,
        }
        for name, request in requests.items():
            ways: dict[str, Measure] = {
                "monitored": seconds_of(request(monitored), times=ROUND),
                "bare": _uncounted(seconds_of(request(bare), times=ROUND)),
            }
            found[name] = take_turns(ways, rounds=task["rounds"], warm_up=3).samples
    sys.stdout.write(json.dumps(found) + "\n")


def _deliver(bodies: Iterator[bytes], web: Web) -> Callable[[], None]:
    return lambda: web.deliver(_environ(PATH, next(bodies)))


def _list(web: Web) -> Callable[[], None]:
    caller = _clerk_user()
    return lambda: _request(web._application, LIST, caller)


def _uncounted(measure: Measure) -> Measure:
    def measured() -> float:
        signals.delivery_stored.disconnect(dispatch_uid=metrics.__name__)
        try:
            return measure()
        finally:
            metrics.connect()

    return measured


if __name__ == "__main__":
    main()
