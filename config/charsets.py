"""Support for requests whose Content-Type has parameters that Django cannot use, such as an odd charset.

Under WSGI, Django reads the parameters, and decodes the query with the charset, before any middleware or view
runs. A charset that Python knows and that is no charset of text, such as `zlib`, would end in an HTML page
with status 500 and a traceback in the log, and so would a parameter in an unknown encoding,
`x*=unknown''value`. Under ASGI, such a parameter ends in the same way, and such a charset only in a multipart
form.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
AsgiApplication = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]

CONTENT_TYPE = b"content-type"
"""ASGI servers send the names of headers in lower case."""


class IgnoreOddCharsets:
    """WSGI middleware that removes such parameters, so that the request is read as UTF-8."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if content_type := environ.get("CONTENT_TYPE"):
            query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
            environ["CONTENT_TYPE"] = _without_odd_parameters(content_type, query)
        return self._application(environ, start_response)


class IgnoreOddCharsetsOfAsgi:
    """ASGI middleware that removes such parameters, so that the request is read as UTF-8."""

    def __init__(self, application: AsgiApplication) -> None:
        self._application = application

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        if scope["type"] == "http":
            headers = _usable_headers(list(scope["headers"]), scope.get("query_string", b""))
            scope = {**scope, "headers": headers}
        await self._application(scope, receive, send)


def _usable_headers(headers: list[tuple[bytes, bytes]], query: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers with a Content-Type that Django can use."""
    # Django joins several headers of one name in the same way.
    sent = b",".join(value for name, value in headers if name == CONTENT_TYPE).decode("latin-1")
    used = _without_odd_parameters(sent, query)
    if used == sent:
        return headers
    others = [(name, value) for name, value in headers if name != CONTENT_TYPE]
    return [*others, (CONTENT_TYPE, used.encode("latin-1"))]


def _without_odd_parameters(content_type: str, query: bytes) -> str:
    media_type, has_parameters, _ = content_type.partition(";")
    if has_parameters and not _can_use(content_type, query):
        return media_type.strip()
    return content_type


def _can_use(content_type: str, query: bytes) -> bool:
    try:
        _, parameters = parse_header_parameters(content_type)
        # Python looks at the charset of an empty text only if it must.
        (b"\xff" + query).decode(parameters.get("charset") or "utf-8", "replace")
    except (LookupError, TypeError, ValueError):
        return False
    return True
