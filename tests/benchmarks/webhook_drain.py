"""Stored webhooks until they are mirrored: a backlog, a very long one, and one delivery at a time."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from django.db import connection

from clerk_integration.models import WebhookDelivery
from clerk_integration.webhooks.inbox import store_delivery
from clerk_integration.webhooks.payload import Event
from clerk_integration.webhooks.wake_ups import wake_if_due
from tenants.models import Tenant
from tests.benchmarks._report import Report
from tests.benchmarks._turns import Measure, take_turns
from tests.workers import Workers, empty_queue

WRITES = True
ONE, TWO, FLOOR = "one worker", "two workers", "floor: inline INSERT and upsert"
COMMIT = "floor: one INSERT, committed"
PAUSE_SECONDS = 0.1

INSERT = """
INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload)
SELECT 'msg_' || n, 'organization.updated', 'org_' || n, jsonb_set(jsonb_set(%s::jsonb,
    '{data,id}', to_jsonb('org_' || n)), '{data,name}', to_jsonb('Acme ' || n))
FROM generate_series(1, %s) AS n
"""

TABLE = "CREATE TABLE floor_deliveries (LIKE webhook_deliveries INCLUDING ALL)"

INSERT_ONE = """
INSERT INTO floor_deliveries (svix_id, event_type, organization_id, payload)
VALUES (%s, 'organization.updated', 'org_1', %s)
"""

UPSERT = """
INSERT INTO tenants (clerk_org_id, name, slug, logo_url, clerk_metadata, clerk_created_at, clerk_updated_at)
VALUES (%s, %s, %s, '', %s::jsonb, 1, %s)
ON CONFLICT (clerk_org_id) DO UPDATE SET
    name = excluded.name, slug = excluded.slug, clerk_metadata = excluded.clerk_metadata,
    clerk_updated_at = excluded.clerk_updated_at
WHERE tenants.clerk_updated_at <= excluded.clerk_updated_at
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes."""
    parser.add_argument("--backlog", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--waiting", type=int, default=100_000, help="the very long backlog")
    parser.add_argument("--lone", type=int, default=200, help="deliveries that arrive one by one")


def run(arguments: argparse.Namespace) -> Report:
    """Let workers in processes of their own process deliveries that change an organization each."""
    if arguments.quick:
        arguments.backlog, arguments.rounds, arguments.waiting, arguments.lone = 500, 1, 2_000, 10
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        workers = Workers(Path(directory), "config.settings", None)
        _report_backlog(report, workers, arguments)
        _report_long_backlog(report, workers, arguments)
        _report_lone(report, workers, arguments.lone)
    return report


def _report_backlog(report: Report, workers: Workers, arguments: argparse.Namespace) -> None:
    size = arguments.backlog
    ways: dict[str, Measure] = {
        ONE: lambda: _rate(workers, 1, waiting=size, processed=size),
        TWO: lambda: _rate(workers, 2, waiting=size, processed=size),
        FLOOR: lambda: _inline(size),
    }
    turns = take_turns(ways, rounds=arguments.rounds, warm_up=0)
    report.compare(f"backlog of {size:,}", turns, unit="/s")
    report.require("one worker: at least 1,000 a second", turns.of(ONE).median >= 1_000)
    report.require("two workers: at least 1,500 a second", turns.of(TWO).median >= 1_500)
    report.require("one worker: at least 0.8 of the floor", turns.ratio(ONE, FLOOR).median >= 0.8)


def _report_long_backlog(report: Report, workers: Workers, arguments: argparse.Namespace) -> None:
    short, long = arguments.backlog, arguments.waiting
    ways: dict[str, Measure] = {
        f"{long:,} waiting": lambda: _rate(workers, 1, waiting=long, processed=short),
        f"{short:,} waiting": lambda: _rate(workers, 1, waiting=short, processed=short),
    }
    turns = take_turns(ways, rounds=min(3, arguments.rounds), warm_up=0)
    report.compare(f"first {short:,}", turns, unit="/s")
    report.require(f"no slower at {long:,} waiting", turns.ratio(*ways).median >= 0.9)


def _report_lone(report: Report, workers: Workers, count: int) -> None:
    """Report how long lone deliveries take, beside one commit: what the disk itself does at these moments."""
    mirrored, committed = _lone(workers, count)
    for way, seconds in ((ONE, mirrored), (COMMIT, committed)):
        p50, p95 = (1000 * value for value in (median(seconds), quantiles(seconds, n=20)[-1]))
        report.figures.setdefault("lone_ms", {})[way] = {"p50": round(p50, 1), "p95": round(p95, 1)}
        report.add(f"one each {PAUSE_SECONDS} s: p50, p95", way, f"{p50:.1f} ms", "", f"{p95:.1f} ms")
    p50, p95 = report.figures["lone_ms"][ONE].values()
    report.require("one at a time: p50 at most 15 ms", p50 <= 15)
    report.require("one at a time: p95 at most 25 ms", p95 <= 25)


@contextmanager
def _running(workers: Workers, count: int) -> Iterator[None]:
    """Run so many workers on an empty inbox and an empty mirror."""
    empty_queue()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE webhook_deliveries, tenants, memberships CASCADE")
    started = [workers.start() for _ in range(count)]
    try:
        yield
    finally:
        for worker in started:
            worker.kill()


def _rate(workers: Workers, count: int, *, waiting: int, processed: int) -> float:
    """Return the deliveries per second until so many of those that wait are processed."""
    with _running(workers, count):
        with connection.cursor() as cursor:
            cursor.execute(INSERT, [json.dumps(_event(0)), waiting])
        last = WebhookDelivery.objects.order_by("id")[processed - 1].pk
        open_ones = WebhookDelivery.objects.filter(pk__lte=last, status="received")
        started = time.perf_counter()
        wake_if_due()
        _wait_until(lambda: not open_ones.exists())
        return processed / (time.perf_counter() - started)


def _inline(count: int) -> float:
    """Return the deliveries per second of one process that stores and mirrors each by two statements."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE webhook_deliveries, tenants, memberships CASCADE")
        events = [_event(number) for number in range(count)]
        started = time.perf_counter()
        for number, event in enumerate(events):
            data = event["data"]
            cursor.execute(
                "INSERT INTO webhook_deliveries (svix_id, event_type, organization_id, payload, status)"
                " VALUES (%s, %s, %s, %s::jsonb, 'processed')",
                [f"msg_{number}", event["type"], data["id"], json.dumps(event)],
            )
            metadata = json.dumps(data["public_metadata"])
            cursor.execute(UPSERT, [data["id"], data["name"], data["slug"], metadata, data["updated_at"]])
        return count / (time.perf_counter() - started)


def _lone(workers: Workers, count: int) -> tuple[list[float], list[float]]:
    """Return the seconds until the organization of each delivery is mirrored, and of a bare commit beside."""
    mirrored, committed = [], []
    with _running(workers, 1), connection.cursor() as cursor:
        cursor.execute(TABLE)
        for number in range(-5, count):
            time.sleep(PAUSE_SECONDS / 2)
            event = _event(number)
            started = time.perf_counter()
            cursor.execute(INSERT_ONE, [f"msg_{number}", json.dumps(event)])
            committed.append(time.perf_counter() - started)
            time.sleep(PAUSE_SECONDS / 2)
            started = time.perf_counter()
            store_delivery(f"msg_{number}", Event(event["type"], "", event["data"]["id"], event))
            _wait_until(Tenant.objects.filter(clerk_org_id=event["data"]["id"]).exists)
            mirrored.append(time.perf_counter() - started)
        cursor.execute("DROP TABLE floor_deliveries")
    return mirrored[5:], committed[5:]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 600
    while not condition():
        assert time.perf_counter() < deadline, "the deliveries were not processed"
        time.sleep(0.001)


def _event(number: int) -> dict[str, Any]:
    data = {
        "object": "organization",
        "id": f"org_{number if number >= 0 else f'w{-number}'}",
        "name": f"Acme {number}",
        "slug": f"acme-{number}",
        "image_url": "https://img.clerk.com/acme",
        "public_metadata": {"plan": "enterprise", "seats": 250, "region": "eu-central-1"},
        "created_at": 1_700_000_000_000,
        "updated_at": 1_700_000_000_001,
    }
    return {"object": "event", "type": "organization.updated", "timestamp": 1_700_000_000_001, "data": data}
