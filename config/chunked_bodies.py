"""Support for chunked request bodies, which Django's WSGI handler reads as empty bodies."""

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

MAX_BODY_BYTES = 1024 * 1024

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class ChunkedBodies:
    """WSGI middleware that gives a chunked body a Content-Length.

    It reads at most MAX_BODY_BYTES + 1 bytes of a body. The view answers 413 for a larger body.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # Only a server that ends the input after the body sets this flag; gunicorn does.
        if environ.get("HTTP_TRANSFER_ENCODING") and environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return self._application(environ, start_response)
