"""Requests whose Content-Type has parameters that Django cannot use."""

from collections.abc import Callable
from contextlib import closing
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

from config.charsets import IgnoreOddCharsets, IgnoreOddCharsetsOfAsgi

# At the beginning and at the end of each request, Django closes old connections to the database.
pytestmark = pytest.mark.django_db

ODD = ["zlib", "bz2", "rot13", "base64", "hex", "undefined", "punycode", "idna", "no-such-charset", ""]
USUAL = ["utf-8", "UTF-8", '"utf-8"', "us-ascii", "latin-1", "utf-16", "utf-7"]


def status_under_wsgi(content_type: str, *, path: str = "/healthz", query: str = "x=1") -> int:
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": content_type}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer: Any = IgnoreOddCharsets(WSGIHandler())(environ, lambda status, headers: statuses.append(status))
    with closing(answer):  # As a server does; until then, this thread counts as serving a request.
        b"".join(answer)
    return int(statuses[0].split()[0])


@async_to_sync
async def status_under_asgi(
    *content_types: str, method: str = "GET", path: str = "/healthz", body: bytes = b"", cookie: bytes = b""
) -> int:
    headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode()), (b"cookie", cookie)]
    headers += [(b"content-type", content_type.encode()) for content_type in content_types]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"x=1", "headers": headers}
    server = ApplicationCommunicator(IgnoreOddCharsetsOfAsgi(ASGIHandler()), scope)
    await server.send_input({"type": "http.request", "body": body})
    answer = await server.receive_output(timeout=10)
    await server.receive_output(timeout=10)
    await server.wait(timeout=10)
    return int(answer["status"])


@pytest.mark.parametrize("charset", ODD + USUAL)
@pytest.mark.parametrize("query", ["", "x=1", "name=%ff", "name=\xe4"])
def test_request_with_any_charset_is_answered(charset: str, query: str) -> None:
    assert status_under_wsgi(f"text/plain; charset={charset}", query=query) == 200


@pytest.mark.parametrize("status_of", [status_under_wsgi, status_under_asgi])
@pytest.mark.parametrize(
    "parameter",
    [
        "charset*=unknown''utf-8",
        "x*=unknown''x",
        "x*=utf-8''a; x*0=b",
        "charset*=utf-8''zlib",
        "charset*=utf-8''%00",
        "charset*0=z",
        "x",
    ],
)
def test_request_with_a_parameter_that_cannot_be_read_is_answered(
    status_of: Callable[[str], int], parameter: str
) -> None:
    assert status_of(f"text/plain; {parameter}") == 200


def test_asgi_request_with_two_headers_that_cannot_be_read_together_is_answered() -> None:
    assert status_under_asgi("text/plain; x*=unknown'", "'x") == 200


@pytest.mark.parametrize("charset", ["zlib", "hex"])
def test_asgi_form_with_an_odd_charset_is_a_bad_request(charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\n\xc3\xa4\r\n--x--\r\n'
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    # With this cookie, Django looks for a CSRF token in the form.
    cookie = b"csrftoken=" + 32 * b"a"

    status = status_under_asgi(content_type, method="POST", path="/admin/login/", body=body, cookie=cookie)

    assert status == 400  # Without its parameters, the media type has no boundary.


@pytest.mark.parametrize("charset", ODD)
def test_api_refuses_a_request_with_an_odd_charset_as_any_other(charset: str) -> None:
    content_type = f"application/json; charset={charset}"
    assert status_under_wsgi(content_type, path="/api/v1/tenants", query="page=1") == 401


CONTENT_TYPES = ["application/json", "application/json; charset=latin-1", "text/x; charset=zlib; a=b"]
KEPT = ["application/json", "application/json; charset=latin-1", "text/x"]


def test_wsgi_media_type_and_usual_charset_are_kept() -> None:
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["CONTENT_TYPE"])
        return []

    for content_type in CONTENT_TYPES:
        list(IgnoreOddCharsets(application)({"CONTENT_TYPE": content_type}, lambda *_: None))

    assert seen == KEPT


def test_asgi_other_headers_and_other_protocols_are_kept() -> None:
    seen: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope)

    host = (b"host", b"x")
    sent = [{"type": "http", "headers": [(b"content-type", value.encode()), host]} for value in CONTENT_TYPES]
    others: list[dict[str, Any]] = [{"type": "lifespan"}, {"type": "websocket", "headers": [host]}]
    for scope in [*sent, *others]:
        async_to_sync(IgnoreOddCharsetsOfAsgi(application))(scope, print, print)

    headers = [dict(scope["headers"]) for scope in seen[:3]]
    assert headers == [{b"content-type": value.encode(), b"host": b"x"} for value in KEPT]
    assert seen[3:] == others
