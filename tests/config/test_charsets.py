"""Requests whose Content-Type has parameters that Django cannot use."""

from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.handlers.wsgi import WSGIHandler

from config.charsets import IgnoreOddCharsets

ODD = ["zlib", "bz2", "rot13", "base64", "hex", "undefined", "punycode", "idna", "no-such-charset", ""]
USUAL = ["utf-8", "UTF-8", '"utf-8"', "us-ascii", "latin-1", "utf-16", "utf-7"]


def status_of(path: str, query: str, content_type: str) -> str:
    """Return the status line of the answer to a GET."""
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "CONTENT_TYPE": content_type}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer = IgnoreOddCharsets(WSGIHandler())(environ, lambda status, headers: statuses.append(status))
    b"".join(answer)
    return statuses[0]


@pytest.mark.parametrize("charset", ODD + USUAL)
@pytest.mark.parametrize("query", ["", "x=1", "name=%ff", "name=\xe4"])
def test_request_with_any_charset_is_answered(charset: str, query: str) -> None:
    assert status_of("/healthz", query, f"text/plain; charset={charset}") == "200 OK"


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
def test_request_with_a_parameter_that_cannot_be_read_is_answered(parameter: str) -> None:
    assert status_of("/healthz", "x=1", f"text/plain; {parameter}") == "200 OK"


@pytest.mark.django_db
@pytest.mark.parametrize("charset", ODD)
def test_api_refuses_a_request_with_an_odd_charset_as_any_other(charset: str) -> None:
    assert (
        status_of("/api/v1/tenants", "page=1", f"application/json; charset={charset}") == "401 Unauthorized"
    )


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
