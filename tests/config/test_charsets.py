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

# Django looks after its connections before and after each request.
pytestmark = pytest.mark.django_db

ODD = ["zlib", "bz2", "rot13", "base64", "hex", "undefined", "punycode", "idna", "no-such-charset", ""]
USUAL = ["utf-8", "UTF-8", '"utf-8"', "us-ascii", "latin-1", "utf-16", "utf-7"]


def status_under_wsgi(path: str, query: str, content_type: str) -> int:
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": content_type}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer: Any = IgnoreOddCharsets(WSGIHandler())(environ, lambda status, headers: statuses.append(status))
    with closing(answer):  # As a server does; until then, this thread counts as serving a request.
        b"".join(answer)
    return int(statuses[0].split()[0])


@async_to_sync
async def status_under_asgi(path: str, query: str, content_type: str) -> int:
    server = ApplicationCommunicator(
        IgnoreOddCharsetsOfAsgi(ASGIHandler()),
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode())],
        },
    )
    await server.send_input({"type": "http.request"})
    answer = await server.receive_output(timeout=10)
    await server.receive_output(timeout=10)
    await server.wait(timeout=10)
    return int(answer["status"])


StatusOf = Callable[[str, str, str], int]
"""Send a GET with a path, a query and a Content-Type; return the status of the answer."""


@pytest.fixture(params=[status_under_wsgi, status_under_asgi], ids=["wsgi", "asgi"])
def status_of(request: pytest.FixtureRequest) -> StatusOf:
    """Return a function that sends a request, for each of the two kinds of servers."""
    function: StatusOf = request.param
    return function


@pytest.mark.parametrize("charset", ODD + USUAL)
@pytest.mark.parametrize("query", ["", "x=1", "name=%ff", "name=\xe4"])
def test_request_with_any_charset_is_answered(status_of: StatusOf, charset: str, query: str) -> None:
    assert status_of("/healthz", query, f"text/plain; charset={charset}") == 200


@pytest.mark.parametrize(
    "parameter",
    [
        "charset*=unknown''utf-8",
        "x*=unknown''x",
        "charset*=utf-8''zlib",
        "charset*=utf-8''%00",
        "charset*0=z",
        "x",
    ],
)
def test_request_with_a_parameter_that_cannot_be_read_is_answered(
    status_of: StatusOf, parameter: str
) -> None:
    assert status_of("/healthz", "x=1", f"text/plain; {parameter}") == 200


@pytest.mark.parametrize("charset", ODD)
def test_api_refuses_a_request_with_an_odd_charset_as_any_other(status_of: StatusOf, charset: str) -> None:
    assert status_of("/api/v1/tenants", "page=1", f"application/json; charset={charset}") == 401


def test_media_type_without_charset_is_kept() -> None:
    seen: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["CONTENT_TYPE"])
        return []

    for content_type in (
        "application/json",
        "application/json; charset=latin-1",
        "text/x; charset=zlib; a=b",
    ):
        list(IgnoreOddCharsets(application)({"CONTENT_TYPE": content_type}, lambda *_: None))

    assert seen == ["application/json", "application/json; charset=latin-1", "text/x"]
