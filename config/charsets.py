"""Support for requests whose Content-Type has parameters that Django cannot use, such as an odd charset.

Django reads the parameters, and decodes the query with the charset, before any middleware or view runs. A
charset that Python knows and that is no charset of text, such as `zlib`, would end in an HTML page with
status 500 and a traceback in the log, and so would a parameter in an unknown encoding, `x*=unknown''value`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class IgnoreOddCharsets:
    """WSGI middleware that removes such parameters, so that the request is read as UTF-8."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        media_type, has_parameters, _ = environ.get("CONTENT_TYPE", "").partition(";")
        if has_parameters:
            query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
            if not _can_use(environ["CONTENT_TYPE"], query):
                environ["CONTENT_TYPE"] = media_type.strip()
        return self._application(environ, start_response)


def _can_use(content_type: str, query: bytes) -> bool:
    try:
        _, parameters = parse_header_parameters(content_type)
        # Python looks at the charset of an empty text only if it must.
        (b"\xff" + query).decode(parameters.get("charset") or "utf-8", "replace")
    except (LookupError, ValueError):
        return False
    return True
