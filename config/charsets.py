"""Support for requests whose Content-Type names a charset that Python knows and Django cannot use.

Django decodes the query with that charset before any middleware or view runs, so that `charset=zlib`, which
is no charset of text, would end in an HTML page with status 500 and a traceback in the log.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class IgnoreOddCharsets:
    """WSGI middleware that removes such a charset, so that the request is read as UTF-8."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "charset" in environ.get("CONTENT_TYPE", "").lower():
            media_type, parameters = parse_header_parameters(environ["CONTENT_TYPE"])
            query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
            if not _can_decode(parameters.get("charset", ""), query):
                environ["CONTENT_TYPE"] = media_type
        return self._application(environ, start_response)


def _can_decode(charset: str, query: bytes) -> bool:
    try:
        # Python looks at the charset of an empty text only if it must.
        (b"\xff" + query).decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError):
        return False
    return True
