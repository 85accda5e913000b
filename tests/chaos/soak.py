"""Run a deployment under mixed load for a long time, and check that it stays as it began.

    uv run python -m tests.chaos.soak [--minutes 30]

Clients list and create, organizations change in Clerk, and full syncs and migrations of legacy tenants follow
each other. Both workers are replaced every minute; the database crashes and recovers one time, in the middle.
Prints one line a minute. The exit code is 0 if the memory of the web server is flat, the connections are
bounded, every request outside the crash succeeded, and at the end the mirror equals Clerk with nothing lost
or doubled.
"""

import argparse
import os
import signal
import sys
import threading
import time
from statistics import mean
from typing import TYPE_CHECKING

import django

import tests.environment  # noqa: F401  (before Django reads its settings)

if TYPE_CHECKING:
    from tests.chaos.deployment import Deployment
    from tests.chaos.load import Load

MINUTE = 60.0
CRASH_SECONDS = 20.0
"""How long requests may fail after the crash of the database."""

MAX_CONNECTIONS = 60
MAX_GROWTH = 1.15
"""The memory of the last third of the run, compared with that of the second third."""

IN_SYNC_SECONDS = 60.0
LEGACY = 9


def main() -> int:
    """Print the figures, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from tests.chaos.deployment import deployment
    from tests.chaos.load import Load
    from tests.chaos.mirror import differences, doubled_or_lost, seconds_until_in_sync

    with deployment() as running:
        load, stopping = Load(running), threading.Event()
        bulk = threading.Thread(target=_bulk_work, args=(running, stopping))
        load.start()
        bulk.start()
        try:
            wrong = _watch(running, load, options.minutes)
        finally:
            stopping.set()
            bulk.join()
            load.stop()
        took = seconds_until_in_sync(running.clerk, IN_SYNC_SECONDS)
        print(f"in sync after {took} s; {len(load.created)} tenants created, {len(load.answers)} requests")
        wrong += doubled_or_lost(running.clerk, load)
        wrong += differences(running.clerk)[:5]
    for line in wrong:
        print(f"wrong: {line}")
    return int(bool(wrong))


def _watch(running: "Deployment", load: "Load", minutes: int) -> list[str]:
    """Disturb and measure once a minute; return what is wrong."""
    from tests.chaos.deployment import connections, reconnect
    from tests.chaos.disturbances import DISTURBANCES

    memory, sessions, wrong = [], [], []
    for minute in range(minutes):
        began = until = time.monotonic()
        if minute == minutes // 2:
            DISTURBANCES["database-killed"](running, 0)
            until = began + CRASH_SECONDS
        running.replace_workers(signal.SIGTERM)
        _sleep_until(until)
        reconnect()
        sessions.append(connections())
        _sleep_until(began + MINUTE)
        memory.append(sum(worker.memory_info().rss for worker in running.web_workers()) / 2**20)
        failed = load.failures(until, time.monotonic())
        wrong += [f"minute {minute + 1}: {kind} answered {status}" for _, kind, status in failed]
        print(
            f"minute {minute + 1}: web {memory[-1]:.0f} MiB, {sessions[-1]} connections,"
            f" answers {load.counts(began)}, failures {len(failed)}",
            flush=True,
        )
    third = max(len(memory) // 3, 1)
    growth = mean(memory[-third:]) / mean(memory[-2 * third : -third] or memory)
    print(f"memory of the last third {growth:.2f} times the second third; most connections {max(sessions)}")
    if growth > MAX_GROWTH:
        wrong.append(f"the web server's memory grew {growth:.2f} times")
    if max(sessions) > MAX_CONNECTIONS:
        wrong.append(f"{max(sessions)} connections, more than {MAX_CONNECTIONS}")
    return wrong


def _bulk_work(running: "Deployment", stopping: threading.Event) -> None:
    """Run full syncs and migrations of legacy tenants, one after the other."""
    from django.db import Error, connection

    from tenants.models import Tenant

    owner = running.clerk.api("GET", "/users")[0]["id"]
    while not stopping.wait(5):
        running.manage("sync_from_clerk")
        try:
            Tenant.objects.bulk_create(Tenant(name=f"Legacy {number}") for number in range(LEGACY))
        except Error:
            connection.close()
            continue
        running.manage("migrate_tenants_to_clerk", "--owner", owner)
        try:
            _delete_migrated(running)
        except (Error, AssertionError, OSError) as error:
            print(f"organizations were not deleted, the next round tries it again: {error}", flush=True)
            connection.close()
    connection.close()


def _delete_migrated(running: "Deployment") -> None:
    """Delete migrated organizations in Clerk, so that lists, and the memory they need, do not grow."""
    from tenants.models import Tenant

    migrated = Tenant.objects.filter(name__startswith="Legacy ", deleted_at=None, clerk_org_id__isnull=False)
    for clerk_org_id in migrated.values_list("clerk_org_id", flat=True):
        running.clerk.api("DELETE", f"/organizations/{clerk_org_id}")


def _sleep_until(at: float) -> None:
    time.sleep(max(at - time.monotonic(), 0))


if __name__ == "__main__":
    sys.exit(main())
