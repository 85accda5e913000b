"""The lease of a run: taken once, kept by a heartbeat, lost to the process that takes the run over."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from tenants.exceptions import SyncAlreadyRunning, SyncLost
from tenants.models import SyncRun
from tenants.runs import leases, records
from tests.workers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = "2020-01-01T00:00Z"

T = TypeVar("T")


def in_own_connection(call: Callable[[], T]) -> T:
    try:
        return call()
    finally:
        connection.close()


def begin() -> SyncRun:
    return records.begin(instance_id="ins_1", skip_memberships=False)


def resume() -> tuple[SyncRun, bool]:
    return records.begin_or_resume(instance_id="ins_1", skip_memberships=False)


def begin_unless_refused() -> SyncRun | None:
    try:
        return resume()[0]
    except SyncAlreadyRunning:
        return None


@pytest.mark.parametrize("dead", [0, 1], ids=["first run", "after a run that died"])
def test_full_sync_begun_by_eight_processes_at_once_is_begun_once(dead: int) -> None:
    for _ in range(dead):
        begin()
    SyncRun.objects.update(lease_expires_at=LONG_AGO)
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(in_own_connection, [begin_unless_refused] * 8))

    assert len([run for run in begun if run is not None]) == 1
    assert SyncRun.objects.filter(state="running").count() == 1


def test_begin_while_a_lease_is_held_names_its_holder() -> None:
    run = begin()

    with pytest.raises(SyncAlreadyRunning, match=f"Full sync {run.pk} is running already: .*, process "):
        begin()


@pytest.mark.usefixtures("new_york_without_use_tz")
def test_begin_while_a_lease_is_held_without_use_tz_names_the_time_in_utc() -> None:
    began = datetime.now(UTC)
    begin()

    with pytest.raises(SyncAlreadyRunning, match=f"since {began:%Y-%m-%d %H}:.* UTC"):
        begin()


def test_begin_after_a_lease_expired_records_the_run_as_interrupted() -> None:
    died = begin()
    SyncRun.objects.update(lease_expires_at=LONG_AGO)

    run = begin()

    died.refresh_from_db()
    assert (died.state, died.error, died.lease_expires_at) == ("interrupted", records.DIED, None)
    assert run.lease_expires_at is not None


def test_resume_after_a_lease_expired_continues_the_same_run() -> None:
    died = begin()
    SyncRun.objects.update(lease_expires_at=LONG_AGO)

    run, resumed = resume()

    assert (run.pk, resumed, run.state, run.error) == (died.pk, True, "running", "")


def test_begin_after_the_clock_was_set_back_waits_for_the_usual_time_only() -> None:
    died = begin()
    SyncRun.objects.update(lease_expires_at=Now() + timedelta(hours=1))

    with pytest.raises(SyncAlreadyRunning):
        begin()

    assert SyncRun.objects.filter(pk=died.pk, lease_expires_at__range=(Now(), Now() + leases.LEASE)).exists()


def test_interrupt_dead_after_the_clock_was_set_back_ends_the_run_after_the_usual_time() -> None:
    begin()
    SyncRun.objects.update(lease_expires_at=Now() + timedelta(hours=1))

    assert records.interrupt_dead() == 0, "the holder may still live"
    SyncRun.objects.update(lease_expires_at=F("lease_expires_at") - leases.LEASE)

    assert records.interrupt_dead() == 1


def test_resume_after_the_clock_was_set_back_begins_a_new_run() -> None:
    died = begin()
    SyncRun.objects.update(lease_expires_at=LONG_AGO, started_at=Now() + timedelta(hours=1))

    run, resumed = resume()

    assert (run.pk == died.pk, resumed) == (False, False)


NAME_PROCESS_1 = """
import os; os.getpid = lambda: 1
import django; django.setup()
from tenants.runs import records
print(records.this_process())
"""


@pytest.mark.slow
def test_this_process_of_two_containers_with_the_same_name_and_number_differs() -> None:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    command = [sys.executable, "-c", NAME_PROCESS_1]
    names = [
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout for _ in range(2)
    ]
    assert names[0] != names[1]
    assert all(", process 1 (" in name for name in names)


def test_heartbeat_keeps_the_lease() -> None:
    run = begin()
    SyncRun.objects.update(lease_expires_at=LONG_AGO)
    with leases.kept_alive(run, every=0.02) as lease:
        wait_until(lambda: SyncRun.objects.filter(lease_expires_at__gt=Now()).exists())
        lease.check()

    with pytest.raises(SyncAlreadyRunning):
        begin()


def test_heartbeat_of_a_run_that_was_taken_over_stops_its_process() -> None:
    run = begin()
    SyncRun.objects.update(holder="another process")
    with leases.kept_alive(run, every=0.02) as lease:
        wait_until(lambda: is_lost(lease))

    assert SyncRun.objects.get().holder == "another process"


def test_recorded_run_that_was_ended_by_another_process_stays_as_that_process_left_it() -> None:
    with pytest.raises(OSError, match="disk"):
        fail_after_another_process_ended_the_run()

    run = SyncRun.objects.get()
    assert (run.state, run.error) == ("interrupted", "Stopped.")


def fail_after_another_process_ended_the_run() -> None:
    with records.recorded_run(SyncRun.Kind.LINK):
        SyncRun.objects.update(state="interrupted", error="Stopped.")
        raise OSError("disk")


def is_lost(lease: leases.Lease) -> bool:
    try:
        lease.check()
    except SyncLost:
        return True
    return False
