"""One pace for everybody: slots follow each other, whoever takes them, and a 429 moves them for all."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from clerk_integration.exceptions import ClerkRateLimited
from clerk_integration.models import ClerkPace
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from clerk_integration.wire import pace
from clerk_integration.wire.deadlines import clerk_deadline, remaining_seconds
from tests.sandbox import SandboxControl
from tests.workers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

RATE = 50.0
"""Requests a second of the tests' pace."""


@pytest.fixture(autouse=True)
def slow_pace(settings: Any) -> Iterator[None]:
    settings.CLERK_RATE_LIMIT = RATE * pace.WINDOW_SECONDS / pace.SHARE
    give_up_slots()
    yield
    give_up_slots()


def give_up_slots() -> None:
    """Give up the slots that this process has reserved, in a test or before it."""
    with pace.paced():
        pace.postpone(0)


def turns(number: int) -> float:
    """Take turns, and return how long that took."""
    started = time.monotonic()
    with pace.paced():
        for _ in range(number):
            pace.use_slot()
    return time.monotonic() - started


def test_turns_come_at_the_pace() -> None:
    turns(1)
    assert turns(30) >= 30 / RATE - pace.CATCH_UP_SECONDS


def test_turns_of_threads_come_at_one_pace() -> None:
    def work() -> None:
        turns(10)
        connection.close()

    turns(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - started >= 40 / RATE - pace.CATCH_UP_SECONDS


@pytest.mark.slow
def test_turns_of_processes_come_at_one_pace(settings: Any) -> None:
    program = (
        "import django; django.setup()\n"
        "from django.conf import settings\n"
        f"settings.CLERK_RATE_LIMIT = {settings.CLERK_RATE_LIMIT}\n"
        "from tests.clerk_integration.wire.test_pace import turns\n"
        "print('ready', flush=True); input(); turns(20)"
    )
    command = [sys.executable, "-c", program]
    environment = {"DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": database_url()}
    children = [
        subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            env=environment | {"DEBUG": "true", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    started = time.monotonic()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.wait() for child in children] == [0, 0, 0]
    for child in children:
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()

    assert time.monotonic() - started >= 60 / RATE - pace.CATCH_UP_SECONDS


def test_requests_outside_of_paced_take_no_turn(sandbox: SandboxControl) -> None:
    organization = sandbox.organization()
    get_clerk_org(organization["id"])

    assert not ClerkPace.objects.exists()


def test_requests_in_paced_take_turns(sandbox: SandboxControl) -> None:
    organization = sandbox.organization()
    with pace.paced():
        get_clerk_org(organization["id"])

    assert ClerkPace.objects.count() == 1


def test_turn_that_was_awaited_is_kept_for_the_next_request() -> None:
    turns(1)
    with pace.paced():
        pace.await_slot()
        pace.postpone(1.0)
        started = time.monotonic()
        pace.use_slot()
        assert time.monotonic() - started < 0.5
        pace.use_slot()
        assert time.monotonic() - started >= 0.9


def test_rate_limit_moves_the_next_turn_for_everybody(sandbox: SandboxControl) -> None:
    user = sandbox.user()["id"]
    sandbox.fault("POST /v1/organizations", rateLimit=1)
    with pace.paced(), pytest.raises(ClerkRateLimited):
        create_clerk_org("Acme", user)

    assert turns(1) >= 0.9


def test_pause_is_capped() -> None:
    turns(1)
    with pace.paced():
        pace.postpone(3600)
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM next_slot_at - clock_timestamp()) FROM clerk_pace")
        [seconds] = cursor.fetchone()
    ClerkPace.objects.all().delete()

    assert seconds <= pace.MAX_PAUSE_SECONDS


def test_waiting_for_a_turn_costs_nothing_of_the_deadline() -> None:
    turns(1)
    with pace.paced(), clerk_deadline(5):
        pace.postpone(1.0)
        pace.use_slot()
        assert remaining_seconds() > 4.5


@pytest.mark.parametrize(
    ("key", "configured", "limit"),
    [
        ("sk_test_x", "", 100),
        ("sk_live_x", "", 1000),
        ("sk_live_x", "250", 250),
        ("sk_live_x", "abc", 1000),
        ("sk_live_x", "-5", 1000),
    ],
)
def test_pace_follows_the_kind_of_key_unless_it_is_set(
    settings: Any, key: str, configured: str, limit: float
) -> None:
    settings.CLERK_SECRET_KEY = key
    settings.CLERK_RATE_LIMIT = configured

    assert pace.requests_per_second() == limit * pace.SHARE / pace.WINDOW_SECONDS


def test_slots_of_a_creation_move_the_turns_of_everybody() -> None:
    turns(1)
    pace.take_slots(2, max_wait=1)
    assert turns(30) >= 31 / RATE - pace.CATCH_UP_SECONDS


def test_slots_that_are_far_away_are_refused_with_the_wait_and_nothing_is_sent(
    sandbox: SandboxControl,
) -> None:
    organization = sandbox.organization()
    sandbox.clear_requests()
    turns(1)
    with pace.paced():
        pace.postpone(20)

    with pytest.raises(ClerkRateLimited, match="CLERK_RATE_LIMIT") as creation:
        pace.take_slots(2, max_wait=1)
    with pace.paced(max_wait=1), pytest.raises(ClerkRateLimited):
        get_clerk_org(organization["id"])

    ClerkPace.objects.all().delete()
    assert 15 < creation.value.retry_after <= 21
    assert sandbox.requests() == []


def test_take_slots_refused_delays_no_other_request() -> None:
    turns(1)
    for _ in range(100):
        with suppress(ClerkRateLimited):
            pace.take_slots(1, max_wait=0)

    pace.take_slots(1, max_wait=10 / RATE)


def test_take_slots_some_near_enough_takes_all_or_none() -> None:
    turns(1)
    time.sleep(0.5)
    for _ in range(10):
        with pytest.raises(ClerkRateLimited):
            pace.take_slots(100, max_wait=1)

    pace.take_slots(10, max_wait=20 / RATE)


def test_take_slots_after_the_clock_was_set_back_does_not_wait_for_the_stored_slot() -> None:
    turns(1)
    give_up_slots()
    ClerkPace.objects.update(next_slot_at=Now() + timedelta(hours=1))

    pace.take_slots(1, max_wait=1)

    assert turns(10) < 1
