"""The Prometheus metrics of a whole deployment, which stand in its database.

They are read at each scrape of the web server, once and not by each of its processes. If several machines
run the web server, all export the same numbers: take `max without (instance)`, not the sum.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Timeout

from django.db import Error, connections
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tenants.monitoring.numbers import Numbers, read_numbers

logger = logging.getLogger(__name__)

READ_SECONDS = 3.0
"""How long a scrape waits for the database."""

DATABASE_UP = (
    "tenants_database_up",
    "1 if the numbers of this deployment could be read from its database within 3 seconds, else 0.",
)

GAUGES: tuple[tuple[str, str, Callable[[Numbers], float]], ...] = (
    (
        "tenants_workers",
        "Workers that have sent a heartbeat lately.",
        lambda numbers: numbers.live_workers,
    ),
    (
        "tenants_jobs_due",
        "Background jobs that a worker may start now, counted up to 10,000.",
        lambda numbers: numbers.due_jobs.count,
    ),
    (
        "tenants_jobs_due_oldest_seconds",
        "Seconds for which the oldest due background job has waited.",
        lambda numbers: numbers.due_jobs.oldest_seconds,
    ),
    (
        "tenants_jobs_failed",
        "Background jobs that ended without success in the last 30 days, counted up to 10,000.",
        lambda numbers: numbers.failed_jobs,
    ),
    (
        "clerk_webhooks_due",
        "Stored webhooks that a worker may process now, counted up to 10,000.",
        lambda numbers: numbers.due_deliveries.count,
    ),
    (
        "clerk_webhooks_due_oldest_seconds",
        "Seconds for which the oldest due webhook has waited.",
        lambda numbers: numbers.due_deliveries.oldest_seconds,
    ),
    (
        "clerk_webhooks_failing",
        "Stored webhooks that have failed for ten minutes or are not tried again, counted up to 10,000.",
        lambda numbers: numbers.failing_deliveries.count,
    ),
    (
        "tenants_creations_unresolved",
        "Creations of which it is not known whether Clerk has made the organization.",
        lambda numbers: numbers.unresolved_creations.count,
    ),
    (
        "tenants_creations_unresolved_oldest_seconds",
        "Seconds since the oldest unresolved creation was sent to Clerk.",
        lambda numbers: numbers.unresolved_creations.oldest_seconds,
    ),
    (
        "tenants_complete_sync_age_seconds",
        "Seconds since the last completed full sync began; +Inf if there is none.",
        lambda numbers: _or_infinite(numbers.seconds_since_complete_sync),
    ),
    (
        "tenants_dry_run_age_seconds",
        "Seconds since the last completed dry run began; +Inf if there is none.",
        lambda numbers: _or_infinite(numbers.drift.age_seconds if numbers.drift else None),
    ),
)

REFUSED = (
    "clerk_webhooks_refused",
    "Webhooks that were refused, by the code of the answer; written to the database once a minute.",
    ("code",),
)
DRIFT = (
    "tenants_drift_records",
    "Records that differed between the mirror and Clerk at the last completed dry run, by kind.",
    ("difference",),
)
RUNS = ("tenants_runs", "Runs of the last 90 days, by kind and state.", ("kind", "state"))


class DeploymentMetrics(Collector):
    """Read the numbers for a scrape; export DATABASE_UP alone if they cannot be read in time.

    One thread reads. A scrape that comes while an earlier one is still reading waits for the same numbers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: ThreadPoolExecutor | None = None
        self._reading: Future[Numbers] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        numbers = self._numbers()
        yield GaugeMetricFamily(*DATABASE_UP, value=numbers is not None)
        if numbers is not None:
            for name, text, read in GAUGES:
                yield GaugeMetricFamily(name, text, value=read(numbers))
            yield from _labelled(numbers)

    def _numbers(self) -> Numbers | None:
        try:
            return self._read().result(READ_SECONDS)
        except (Error, Timeout) as error:
            logger.warning("The numbers for /metrics could not be read: %s", type(error).__name__)
            return None

    def _read(self) -> "Future[Numbers]":
        with self._lock:
            if self._reader is None:
                self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
            if self._reading is None or self._reading.done():
                self._reading = self._reader.submit(_read_and_close)
            return self._reading


def _read_and_close() -> Numbers:
    try:
        return read_numbers()
    finally:
        connections.close_all()


def _labelled(numbers: Numbers) -> Iterator[Metric]:
    refused = CounterMetricFamily(*REFUSED[:2], labels=REFUSED[2])
    for refusal in numbers.refused_webhooks:
        refused.add_metric([refusal.code], refusal.count)
    drift = GaugeMetricFamily(*DRIFT[:2], labels=DRIFT[2])
    for kind, count in (numbers.drift.differences if numbers.drift else {}).items():
        drift.add_metric([kind], count)
    runs = GaugeMetricFamily(*RUNS[:2], labels=RUNS[2])
    for (kind, state), count in numbers.runs.items():
        runs.add_metric([kind, state], count)
    yield from (refused, drift, runs)


def _or_infinite(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
