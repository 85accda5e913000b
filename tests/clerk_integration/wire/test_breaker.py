"""What keeps a Clerk that does not answer from holding the threads of the web server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.signals import request_finished, request_started
from pytest_django import Settings

from clerk_integration.exceptions import ClerkError, ClerkNotAsked, ClerkUnavailable
from clerk_integration.organizations import create_clerk_org, get_clerk_org
from clerk_integration.wire import breaker
from clerk_integration.wire.deadlines import clerk_deadline
from tests import hostile_server
from tests.hostile_server import Behaviour, HostileServer, clerk_error, respond

ORGANIZATION = {"id": "org_1", "name": "Acme"}
OUTAGES = {
    "hangs": hostile_server.hang,
    "resets": hostile_server.reset,
    "503": clerk_error(503, "service_unavailable"),
    "429": clerk_error(429, "too_many_requests", headers={"Retry-After": "60"}),
}


@pytest.fixture
def server(settings: Settings) -> Iterator[HostileServer]:
    with HostileServer(respond(200, ORGANIZATION)) as server:
        settings.CLERK_API_URL = server.api_url
        settings.CLERK_SECRET_KEY = "sk_test_of_a_scripted_server"
        breaker.reset()
        with clerk_deadline(60):
            # The SDK imports each part at its first use, which takes longer than the deadline of the tests.
            get_clerk_org("org_1")
            create_clerk_org("Acme", "user_1")
        server.forget_requests()
        settings.CLERK_TIMEOUT_SECONDS = 0.4
        yield server


@pytest.fixture
def web_request() -> Iterator[None]:
    """Let the test run as a view does."""
    request_started.send(sender=None, environ={})
    yield
    request_finished.send(sender=None)


def read() -> object:
    return get_clerk_org("org_1")


def create() -> object:
    return create_clerk_org("Acme", "user_1")


def fail(call: Callable[[], object], times: int = 2) -> None:
    for _ in range(times):
        with pytest.raises(ClerkUnavailable) as caught:
            call()
        assert not isinstance(caught.value, ClerkNotAsked)


@pytest.mark.usefixtures("web_request")
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES.keys())
def test_read_after_two_without_an_answer_is_not_sent(server: HostileServer, outage: Behaviour) -> None:
    server.script(outage)
    fail(read)
    server.forget_requests()

    started = time.monotonic()
    with pytest.raises(ClerkNotAsked, match=r"2 requests in a row\. Nothing was sent") as caught:
        read()

    assert time.monotonic() - started < 0.2
    assert (server.requests, caught.value.outcome_unknown) == ([], False)


@pytest.mark.usefixtures("web_request")
@pytest.mark.parametrize("status", [401, 404, 422])
def test_read_after_refusals_is_sent(server: HostileServer, status: int) -> None:
    server.script(clerk_error(status, "some_code"))
    for _ in range(3):
        with pytest.raises(ClerkError):
            read()
    assert len(server.requests) == 3


@pytest.mark.usefixtures("web_request")
def test_read_between_single_failures_is_sent(server: HostileServer) -> None:
    server.script(*[OUTAGES["429"], respond(404, {})] * 3)
    for _ in range(3):
        fail(read, times=1)
        with pytest.raises(ClerkError):
            read()
    assert len(server.requests) == 6


@pytest.mark.usefixtures("web_request")
def test_create_while_only_reads_fail_is_sent(server: HostileServer) -> None:
    server.script(hostile_server.reset)
    fail(read)
    server.script(respond(200, ORGANIZATION))

    assert create_clerk_org("Acme", "user_1").id == "org_1"


@pytest.mark.usefixtures("web_request")
def test_create_after_two_without_an_answer_is_not_sent(server: HostileServer) -> None:
    server.script(hostile_server.reset)
    fail(create)
    server.forget_requests()

    with pytest.raises(ClerkNotAsked) as caught:
        create()

    assert (server.requests, caught.value.outcome_unknown) == ([], False)


@pytest.mark.usefixtures("web_request")
def test_create_after_two_on_a_locked_object_is_sent(server: HostileServer) -> None:
    server.script(clerk_error(409, "resource_locked"))
    fail(create, times=3)
    assert len(server.requests) == 3


def test_read_of_a_command_is_sent_however_often_clerk_has_failed(server: HostileServer) -> None:
    server.script(OUTAGES["429"])
    fail(read, times=5)
    assert len(server.requests) == 5


def test_read_with_every_slot_hanging_is_refused_at_once(server: HostileServer, settings: Settings) -> None:
    settings.CLERK_MAX_WAITING = "2"
    settings.CLERK_TIMEOUT_SECONDS = 30
    hanging = threading.Semaphore(0)

    def hang(connection: object, stopping: threading.Event) -> None:
        hanging.release()
        stopping.wait()

    server.script(hang)

    def serve() -> object:
        request_started.send(sender=None, environ={})
        try:
            return get_clerk_org("org_1")
        finally:
            request_finished.send(sender=None)

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(serve) for _ in range(2)]
        for _ in waiting:
            hanging.acquire(timeout=10)
        time.sleep(breaker.SLOW_SECONDS)
        started = time.monotonic()
        with pytest.raises(ClerkNotAsked, match="2 threads of this process wait for Clerk"):
            pool.submit(serve).result()
        assert time.monotonic() - started < 0.3
        server.script(hostile_server.close)
        server.stopping.set()
        for one in waiting:
            assert isinstance(one.exception(), ClerkError)


def test_creates_that_wait_for_a_slot_while_the_breaker_opens_are_not_sent(
    server: HostileServer, settings: Settings
) -> None:
    settings.CLERK_MAX_WAITING = "1"
    settings.CLERK_TIMEOUT_SECONDS = 5

    def reset_late(connection: socket.socket, stopping: threading.Event) -> None:
        stopping.wait(0.1)
        hostile_server.reset(connection, stopping)

    server.script(reset_late)

    def serve(_: int) -> bool:
        request_started.send(sender=None, environ={})
        with pytest.raises(ClerkUnavailable):
            create()
        return True

    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(serve, range(5)))

    assert len(server.requests) == 2


@pytest.mark.usefixtures("web_request")
def test_read_with_every_slot_taken_briefly_waits(server: HostileServer, settings: Settings) -> None:
    settings.CLERK_MAX_WAITING = "1"
    taken, finish = threading.Event(), threading.Event()

    def hold() -> None:
        request_started.send(sender=None, environ={})
        with breaker.waiting_for_clerk():
            taken.set()
            finish.wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        taken.wait()
        threading.Timer(0.2, finish.set).start()
        assert get_clerk_org("org_1").id == "org_1"


@pytest.mark.slow
@pytest.mark.usefixtures("web_request")
def test_open_breaker_sends_one_trial_at_a_time_and_closes_with_its_answer(server: HostileServer) -> None:
    server.script(hostile_server.reset)
    fail(read)
    time.sleep(breaker.OPEN_SECONDS)
    server.forget_requests()
    fail(read, times=1)
    with pytest.raises(ClerkNotAsked):
        read()
    assert len(server.requests) == 1, "a trial is not repeated"
    time.sleep(breaker.OPEN_SECONDS)
    asked, answer = threading.Event(), threading.Event()

    def answer_late(connection: object, stopping: threading.Event) -> None:
        asked.set()
        answer.wait()
        respond(200, ORGANIZATION)(connection, stopping)  # type: ignore[arg-type]

    server.script(answer_late, respond(404, {}))

    def trial() -> object:
        request_started.send(sender=None, environ={})
        return get_clerk_org("org_1")

    with ThreadPoolExecutor(1) as pool:
        tried = pool.submit(trial)
        asked.wait()
        with pytest.raises(ClerkNotAsked):
            read()
        answer.set()
        tried.result()
    with pytest.raises(ClerkError, match="404"):
        read()
