"""What becomes of every answer that can come over the wire, and of every one that does not come."""

import contextlib
import gzip
import logging
import socket
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_django import Settings

from clerk_integration import exceptions
from clerk_integration.organizations import create_clerk_org, get_clerk_org, iter_clerk_orgs
from clerk_integration.wire.client import fetch_jwks
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.transport import MAX_BODY_BYTES
from tests import hostile_server
from tests.hostile_server import Behaviour, HostileServer, clerk_error, respond

TIMEOUT = 0.6
CEILING = 3.0
"""Generous: the deadline is the behaviour, the machine may be slow."""

ORGANIZATION = {"object": "organization", "id": "org_1", "name": "Acme", "slug": "acme"}
SECRET = "sk_test_that_never_shows"

UNKNOWN_OUTCOMES = {
    "hang": hostile_server.hang,
    "one byte a second in the head": hostile_server.drip_headers,
    "one byte a second in the body": hostile_server.drip_body,
    "reset": hostile_server.reset,
    "close": hostile_server.close,
    "half a body": hostile_server.half_body,
    "500": clerk_error(500, "internal_clerk_error"),
    "502 of a proxy": respond(502, b"<html>", content_type="text/html"),
    "503": clerk_error(503, "service_unavailable"),
    "504": clerk_error(504, "gateway_timeout"),
}
SLOW = {"hang", "one byte a second in the head", "one byte a second in the body"}


@pytest.fixture(scope="module")
def listening_server() -> Iterator[HostileServer]:
    """One address for the module: the client is built anew for every other one."""
    with HostileServer(respond()) as server:
        yield server


@pytest.fixture
def server(listening_server: HostileServer, settings: Settings) -> HostileServer:
    listening_server.script(respond(200, ORGANIZATION))
    settings.CLERK_API_URL = listening_server.api_url
    settings.CLERK_SECRET_KEY = SECRET
    with clerk_deadline(60):
        # The SDK imports each part at its first use, which must not use up the short deadline of a test.
        get_clerk_org("org_1")
        create_clerk_org("Acme", "user_1")
    listening_server.forget_requests()
    settings.CLERK_TIMEOUT_SECONDS = TIMEOUT
    return listening_server


def read() -> object:
    return get_clerk_org("org_1")


def create() -> object:
    return create_clerk_org("Acme", "user_1")


def failure_of(call: Callable[[], object]) -> exceptions.ClerkError:
    """Make the call, which must fail within its deadline and tell nothing secret."""
    started = monotonic()
    with pytest.raises(exceptions.ClerkError) as caught:
        call()
    assert monotonic() - started < CEILING
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_read_of_a_good_answer_returns_it(server: HostileServer) -> None:
    assert get_clerk_org("org_1").name == "Acme"
    assert server.requests == ["GET /v1/organizations/org_1"]


@pytest.mark.parametrize("name", UNKNOWN_OUTCOMES)
def test_write_without_a_whole_answer_is_sent_once_and_of_unknown_outcome(
    server: HostileServer, name: str
) -> None:
    server.script(UNKNOWN_OUTCOMES[name])
    failure = failure_of(create)
    assert type(failure) is exceptions.ClerkUnavailable
    assert failure.outcome_unknown
    assert server.requests == ["POST /v1/organizations"]


@pytest.mark.parametrize("name", sorted(UNKNOWN_OUTCOMES.keys() - SLOW))
def test_read_without_a_whole_answer_is_sent_three_times(
    server: HostileServer, settings: Settings, name: str
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(UNKNOWN_OUTCOMES[name])
    assert type(failure_of(read)) is exceptions.ClerkUnavailable
    assert server.requests == ["GET /v1/organizations/org_1"] * 3


@pytest.mark.parametrize("name", sorted(SLOW))
def test_read_of_an_answer_that_takes_too_long_ends_with_the_deadline(
    server: HostileServer, name: str
) -> None:
    server.script(UNKNOWN_OUTCOMES[name])
    assert type(failure_of(read)) is exceptions.ClerkUnavailable
    assert server.requests == ["GET /v1/organizations/org_1"]


@pytest.mark.parametrize("name", ["reset", "half a body", "503"])
def test_read_after_two_failures_succeeds(server: HostileServer, settings: Settings, name: str) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(UNKNOWN_OUTCOMES[name], UNKNOWN_OUTCOMES[name], respond(200, ORGANIZATION))
    assert get_clerk_org("org_1").id == "org_1"
    assert len(server.requests) == 3


def test_call_when_nobody_listens_fails_at_once_and_did_nothing(settings: Settings) -> None:
    with HostileServer(respond()) as server:
        settings.CLERK_API_URL = server.api_url
    settings.CLERK_SECRET_KEY = SECRET
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    for call in (read, create):
        failure = failure_of(call)
        assert isinstance(failure, exceptions.ClerkUnavailable)
        assert not failure.outcome_unknown


def test_call_of_a_name_that_does_not_exist_is_unavailable(settings: Settings) -> None:
    settings.CLERK_API_URL = "https://clerk.invalid/v1"
    settings.CLERK_SECRET_KEY = SECRET
    settings.CLERK_TIMEOUT_SECONDS = TIMEOUT
    assert isinstance(failure_of(create), exceptions.ClerkUnavailable)


@pytest.mark.parametrize("call", [read, create])
@pytest.mark.parametrize(
    "answer",
    [
        respond(200, b"{garbage"),
        respond(200, b"<html>", content_type="text/html"),
        respond(200, b""),
        respond(200, b"\xff\xfe\xfd"),
        respond(200, b"[" * 100_000),
        respond(200, b"9" * 10_000),
        respond(200, {"name": "no id"}),
        respond(200, ["no organization"]),
        respond(200, b"not gzip", headers={"Content-Encoding": "gzip"}),
        respond(404, b"<html>", content_type="text/html"),
        respond(404, {}),
        respond(422, b"<html>", content_type="text/html"),
        respond(418, {"errors": []}),
    ],
)
def test_call_with_an_answer_that_is_not_clerks_is_a_protocol_error(
    server: HostileServer, settings: Settings, answer: Behaviour, call: Callable[[], object]
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(answer)
    assert type(failure_of(call)) is exceptions.ClerkProtocolError
    assert len(server.requests) == 1


@pytest.mark.parametrize("call", [read, create])
def test_call_with_an_endless_body_stops_reading(
    server: HostileServer, settings: Settings, call: Callable[[], object]
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(hostile_server.endless_body)
    failure = failure_of(call)
    assert type(failure) is exceptions.ClerkProtocolError
    assert "larger than 16 MiB" in failure.message
    assert len(server.requests) == 1


def test_read_of_a_gzip_bomb_stops_reading(server: HostileServer, settings: Settings) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    bomb = gzip.compress(bytes(70 * 1024 * 1024))
    server.script(respond(200, bomb, headers={"Content-Encoding": "gzip"}))
    failure = failure_of(read)
    assert type(failure) is exceptions.ClerkProtocolError
    assert "larger than 16 MiB" in failure.message


@pytest.mark.parametrize(
    "behaviour",
    [
        hostile_server.endless_body,
        respond(200, gzip.compress(bytes(200 * 1024**2)), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["endless", "gzip bomb"],
)
def test_read_of_a_body_that_is_too_large_takes_little_memory(
    server: HostileServer, settings: Settings, behaviour: Behaviour
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(behaviour)
    tracemalloc.start()
    try:
        assert type(failure_of(read)) is exceptions.ClerkProtocolError
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BODY_BYTES


def test_call_refused_at_the_edge_is_rejected_for_itself_alone(server: HostileServer) -> None:
    server.script(respond(403, b"<html>", content_type="text/html"))
    for call in (read, create):
        failure = failure_of(call)
        assert isinstance(failure, exceptions.ClerkRejected)
        assert (failure.code, failure.outcome_unknown) == ("forbidden", False)


@pytest.fixture
def blackhole(server: HostileServer) -> Iterator[str]:
    """The address 127.0.0.2, at the server's port, where no connection is ever accepted."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.2", urlsplit(server.api_url).port))
        listener.listen(0)
        for _ in range(4):
            full = waiting.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(listener.getsockname())
        yield "127.0.0.2"


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_read_from_a_host_whose_first_address_is_a_blackhole_takes_the_second(
    server: HostileServer, settings: Settings, blackhole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolve_to_both(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        addresses = [blackhole, "127.0.0.1"] if host == "localhost" else [host]
        return [found for one in addresses for found in resolve(one, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_to_both)
    settings.CLERK_API_URL = server.api_url.replace("127.0.0.1", "localhost")
    settings.CLERK_TIMEOUT_SECONDS = 5.0
    server.script(hostile_server.respond_and_close(200, ORGANIZATION))

    started = monotonic()
    read()
    first = monotonic() - started
    read()
    second = monotonic() - started - first

    assert 0.9 <= first < 3.0
    assert second < 0.9, "the address that answered comes first"


def test_read_of_a_compressed_answer_returns_it(server: HostileServer) -> None:
    body = gzip.compress(b'{"id": "org_1", "name": "Packed"}')
    server.script(respond(200, body, headers={"Content-Encoding": "gzip"}))
    assert get_clerk_org("org_1").name == "Packed"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("call", [read, create])
def test_call_answered_with_a_redirect_does_not_follow_it(
    server: HostileServer, status: int, call: Callable[[], object]
) -> None:
    server.script(respond(status, {}, headers={"Location": f"{server.api_url}/elsewhere"}))
    assert type(failure_of(call)) is exceptions.ClerkMisconfigured
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "organization_creator_not_found", exceptions.ClerkRejected),
        (401, "clerk_key_invalid", exceptions.ClerkMisconfigured),
        (402, "unsupported_subscription_plan_features", exceptions.ClerkRejected),
        (403, "authorization_invalid", exceptions.ClerkMisconfigured),
        (403, "organization_not_enabled_in_instance", exceptions.ClerkMisconfigured),
        (403, "organization_slugs_disabled", exceptions.ClerkRejected),
        (403, "organization_quota_exceeded", exceptions.ClerkRejected),
        (403, "org_creation_limit_exceeded", exceptions.ClerkRejected),
        (404, "resource_not_found", exceptions.ClerkNotFound),
        (404, "organization_not_found_or_unauthorized", exceptions.ClerkNotFound),
        (409, "conflict", exceptions.ClerkRejected),
        (409, "resource_locked", exceptions.ClerkUnavailable),
        (422, "form_identifier_exists", exceptions.ClerkRejected),
    ],
)
@pytest.mark.parametrize(
    # Without long_message, the SDK raises another exception for the same refusal.
    "error",
    [{"message": "short", "long_message": "What Clerk says."}, {"message": "short"}],
)
def test_call_refused_by_clerk_raises_by_status_and_code(
    server: HostileServer,
    status: int,
    code: str,
    expected: type[exceptions.ClerkError],
    error: dict[str, str],
) -> None:
    answer = {"errors": [{"code": code, **error}], "clerk_trace_id": "trace_of_the_test"}
    server.script(respond(status, answer))
    for call in (read, create):
        failure = failure_of(call)
        assert type(failure) is expected
        assert failure.trace_id == "trace_of_the_test"


def test_create_refused_for_a_field_names_it(server: HostileServer) -> None:
    server.script(clerk_error(422, "form_identifier_exists", meta={"param_name": "slug"}))
    failure = failure_of(create)
    assert isinstance(failure, exceptions.ClerkRejected)
    assert (failure.code, failure.param, failure.status_code, failure.message) == (
        "form_identifier_exists",
        "slug",
        422,
        "What Clerk says.",
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (None, 10.0),
        ("7", 7.0),
        ("31536000", 3600.0),
        ("nan", 3600.0),
        ("inf", 3600.0),
        ("-5", 0.0),
        ("soon", 10.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Thu, 31 Dec 2099 23:59:59 GMT", 3600.0),
        ("9" * 5000, 3600.0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", 10.0),
    ],
)
def test_create_rate_limited_is_sent_once_and_tells_when_to_come_back(
    server: HostileServer, retry_after: str | None, expected: float
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    server.script(clerk_error(429, "too_many_requests", headers=headers))
    failure = failure_of(create)
    assert isinstance(failure, exceptions.ClerkRateLimited)
    assert failure.retry_after == expected
    assert not failure.outcome_unknown
    assert len(server.requests) == 1


def test_read_rate_limited_for_longer_than_the_deadline_raises_at_once(
    server: HostileServer, settings: Settings
) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    server.script(clerk_error(429, "too_many_requests", headers={"Retry-After": "31"}))
    failure = failure_of(read)
    assert isinstance(failure, exceptions.ClerkRateLimited)
    assert len(server.requests) == 1


def test_read_rate_limited_briefly_waits_and_succeeds(server: HostileServer, settings: Settings) -> None:
    settings.CLERK_TIMEOUT_SECONDS = 30.0
    limited = clerk_error(429, "too_many_requests", headers={"Retry-After": "1"})
    server.script(limited, respond(200, ORGANIZATION))
    started = monotonic()
    assert get_clerk_org("org_1").id == "org_1"
    assert monotonic() - started >= 1.0
    assert len(server.requests) == 2


def test_deadline_nested_in_an_earlier_one_does_not_extend_it(server: HostileServer) -> None:
    server.script(hostile_server.hang)

    def nested() -> object:
        with clerk_deadline(0.2), clerk_deadline(60):
            return get_clerk_org("org_1")

    assert isinstance(failure_of(nested), exceptions.ClerkUnavailable)


def test_deadline_that_is_over_sends_nothing(server: HostileServer) -> None:
    with clerk_deadline(0):
        failure = failure_of(create)
    assert isinstance(failure, exceptions.ClerkUnavailable)
    assert not failure.outcome_unknown
    assert server.requests == []


@pytest.mark.parametrize("key", ["", "   ", "sk_test_two\nlines", "sk_test_ünicode", "sk_test_two words"])
def test_call_with_a_key_that_cannot_be_sent_sends_nothing(
    server: HostileServer, settings: Settings, key: str
) -> None:
    settings.CLERK_SECRET_KEY = key
    assert type(failure_of(create)) is exceptions.ClerkMisconfigured
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["", "api.clerk.com/v1", "ftp://127.0.0.1/v1", "http://[/v1", "http:///v1", "http://10.0.0.1/v1"]
)
def test_call_with_a_malformed_url_is_misconfigured(settings: Settings, url: str) -> None:
    settings.CLERK_SECRET_KEY = SECRET
    settings.CLERK_API_URL = url
    assert type(failure_of(read)) is exceptions.ClerkMisconfigured


def test_list_with_a_query_that_no_url_can_hold_is_rejected(server: HostileServer) -> None:
    failure = failure_of(lambda: list(iter_clerk_orgs(query="\ud800")))
    assert isinstance(failure, exceptions.ClerkRejected)
    assert server.requests == []


def test_failed_read_logs_nothing_secret(server: HostileServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    private = {**ORGANIZATION, "private_metadata": {"password": "hunter2"}}
    server.script(clerk_error(500, "internal_clerk_error"), respond(200, private))
    read()
    assert "Asking Clerk again" in caplog.text
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("httpcore"))
    assert SECRET not in ours
    assert "hunter2" not in ours


def test_fetch_jwks_returns_the_keys_as_they_came(server: HostileServer) -> None:
    # The SDK's model of a key would refuse the second one.
    keys = [{"kid": "ins_1", "kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kid": "ins_2", "kty": "new"}]
    server.script(respond(200, {"keys": keys}))
    assert fetch_jwks() == keys
    assert server.requests == ["GET /v1/jwks"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (respond(200, {"keys": None}), exceptions.ClerkProtocolError),
        (respond(200, []), exceptions.ClerkProtocolError),
        (clerk_error(503, "service_unavailable"), exceptions.ClerkUnavailable),
        (hostile_server.reset, exceptions.ClerkUnavailable),
        (clerk_error(401, "clerk_key_invalid"), exceptions.ClerkMisconfigured),
    ],
)
def test_fetch_jwks_that_fails_is_not_retried(
    server: HostileServer, answer: Behaviour, expected: type[exceptions.ClerkError]
) -> None:
    server.script(answer)
    assert type(failure_of(fetch_jwks)) is expected
    assert len(server.requests) == 1


@pytest.mark.slow
def test_fetch_jwks_from_a_server_that_hangs_ends_after_three_seconds(server: HostileServer) -> None:
    server.script(hostile_server.hang)
    started = monotonic()
    with pytest.raises(exceptions.ClerkUnavailable):
        fetch_jwks()
    assert monotonic() - started < 5.0


@pytest.mark.parametrize("charset", ["utf-16", "idna", "no-such-charset"])
def test_write_whose_answer_names_an_odd_charset_is_answered_all_the_same(
    server: HostileServer, charset: str
) -> None:
    # The SDK stumbles while it decodes the body; that must never pass for "nothing was sent".
    server.script(
        respond(200, ORGANIZATION, headers={"Content-Type": f"application/json; charset={charset}"})
    )

    assert create_clerk_org("Acme", "user_1").id == "org_1"
    assert server.requests == ["POST /v1/organizations"]
