"""The HTTP server: malformed requests, unknown routes, the page, its end."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from clerk_integration.sandbox.server import SandboxServer
from tests.sandbox import SandboxControl

JSON_POST = b"POST /sandbox/users HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def http(sandbox: SandboxControl) -> Iterator[httpx.Client]:
    with sandbox.backend_client() as client:
        yield client


def _exchange(sandbox: SandboxControl, sent: bytes) -> bytes:
    """Send bytes, say that no more follow, and read until the server hangs up."""
    address = ("127.0.0.1", httpx.URL(sandbox.url).port or 0)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\x03\r\n\r\n", 400, b"bad_request"),
        (b"\x00\xff\xfe garbage \r\n\r\n", 400, b"bad_request"),
        (b"GET /v1/organizations HTTP/9.9\r\n\r\n", 400, b"bad_request"),
        (b"BREW /v1/organizations HTTP/1.1\r\n\r\n", 400, b"bad_request"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 400, b"bad_request"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400, b"bad_request"),
        (b"GET http://[::1 HTTP/1.1\r\n\r\n", 400, b"bad_request"),
        (JSON_POST + b"Content-Length: -5\r\n\r\n", 400, b"bad_request"),
        (JSON_POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, b"bad_request"),
        (JSON_POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400, b"bad_request"),
        (JSON_POST + b"Content-Length: 20\r\n\r\n{}", 400, b"bad_request"),
        (JSON_POST + b"Content-Length: 99999999999\r\n\r\n", 413, b"request_body_too_large"),
    ],
)
def test_server_hostile_bytes_are_refused_and_the_server_continues(
    sandbox: SandboxControl, sent: bytes, status: int, code: bytes
) -> None:
    received = _exchange(sandbox, sent)

    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b'"code":"%s"' % code in received
    assert b"Traceback" not in received
    assert sandbox.user()["object"] == "user"


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /v1/organ"])
def test_server_survives_clients_that_go_away(sandbox: SandboxControl, sent: bytes) -> None:
    _exchange(sandbox, sent)

    assert sandbox.user()["object"] == "user"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b"[" * 100_000,
        b'{"name": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/organizations"),
        ("PATCH", "/v1/instance/organization_settings"),
        ("POST", "/sandbox/users"),
        ("POST", "/sandbox/session-tokens"),
        ("POST", "/sandbox/faults"),
        ("POST", "/sandbox/settings"),
        ("POST", "/sandbox/records"),
        ("POST", "/sandbox/reset"),
    ],
)
def test_body_other_than_a_json_object_is_refused(
    http: httpx.Client, method: str, path: str, body: bytes
) -> None:
    reply = http.request(method, path, content=body)

    assert reply.status_code == 400
    assert reply.json()["errors"][0]["code"] == "request_body_invalid"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/organizations/", "/sandbox/nothing", "/x"])
def test_unknown_route_answers_404_in_clerks_shape(http: httpx.Client, path: str) -> None:
    reply = http.get(path)

    assert reply.status_code == 404
    assert reply.json()["errors"][0]["code"] == "resource_not_found"


def test_unknown_route_without_the_key_answers_401(sandbox: SandboxControl) -> None:
    assert httpx.get(f"{sandbox.url}/v1/nothing").status_code == 401


def test_page_shows_hostile_names_as_text(sandbox: SandboxControl, http: httpx.Client) -> None:
    organization = sandbox.organization("A & B \ud800 'x' \x00")
    user = sandbox.user(username="<script>alert(1)</script>")

    page = http.get("/sandbox")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert organization["id"] in page.text
    assert user["id"] in page.text
    assert "<script>" not in page.text


def test_server_stopped_closes_connections_and_frees_the_port() -> None:
    server = SandboxServer()
    server.start()
    patient = httpx.Limits(keepalive_expiry=600)
    with httpx.Client(trust_env=False, verify=False, limits=patient) as client:
        client.get(f"{server.url}/sandbox/requests")
        server.stop()

        with pytest.raises(httpx.TransportError):
            client.get(f"{server.url}/sandbox/requests")

    again = SandboxServer(httpx.URL(server.url).port or 0)
    again.stop()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 403),
        ({"Host": "rebound.example:9100"}, 403),
        ({"Host": "127.0.0.1.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:9100", "Origin": "http://localhost:3000"}, 200),
        ({"Host": "[::1]:9100"}, 200),
        ({}, 200),
    ],
)
def test_control_of_another_site_in_a_browser_is_refused(
    sandbox: SandboxControl, http: httpx.Client, headers: dict[str, str], status: int
) -> None:
    body = {"userId": sandbox.user()["id"]}

    answer = http.post(f"{sandbox.url}/sandbox/session-tokens", json=body, headers=headers)

    assert answer.status_code == status
