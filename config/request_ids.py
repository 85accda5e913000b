"""Give each request an id, for its log lines and its answer."""

import re
from secrets import token_hex

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from clerk_integration.log_context import begin_log_context

HEADER = "X-Request-Id"

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware(MiddlewareMixin):
    """Takes the id from `X-Request-Id` if it is well-formed, else makes one, and answers it."""

    def process_request(self, request: HttpRequest) -> None:
        """Begin the log context of the request."""
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent if _WELL_FORMED.fullmatch(sent) else token_hex(16)
        request.META["HTTP_X_REQUEST_ID"] = request_id
        begin_log_context(request_id=request_id)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Name the id in the answer."""
        response.headers[HEADER] = request.META["HTTP_X_REQUEST_ID"]
        return response
