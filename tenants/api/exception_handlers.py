"""Answer every error in the API's error shape, also errors outside DRF's views."""

import logging
from typing import NoReturn

from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.deprecation import MiddlewareMixin
from django.views import defaults
from drf_standardized_errors.handler import ExceptionHandler
from procrastinate.exceptions import ConnectorException
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import is_server_error
from rest_framework.views import APIView

from clerk_integration.exceptions import ClerkError
from tenants.api.errors import (
    BodyTooLarge,
    Retryable,
    UnacceptableRequest,
    database_failure,
    read_failure,
    tenant_failure,
)
from tenants.exceptions import TenantError

API_PREFIX = "/api/"

logger = logging.getLogger(__name__)


class ApiExceptionHandler(ExceptionHandler):
    """Extends drf-standardized-errors' handler by the failures of Clerk, of tenants and of the database."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """Return the API error for `exc`; the library turns an unknown exception into a 500."""
        if isinstance(exc, ClerkError):
            return read_failure(exc)
        if isinstance(exc, TenantError):
            return tenant_failure(exc)
        if isinstance(exc, DatabaseError):
            return database_failure(exc) or exc
        if isinstance(exc, RequestDataTooBig):
            return BodyTooLarge()
        if isinstance(exc, SuspiciousOperation):
            return UnacceptableRequest()
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: APIException, response: Response) -> None:
        """Log an outage of Clerk or of the database in one line; report any other 5xx with its traceback."""
        request = self.context["request"]
        if request is not None and isinstance(exc, Retryable) and is_server_error(exc.status_code):
            _log_outage(request, exc, self.exc, response)
        else:
            super().report_exception(exc, response)


class ApiNotFoundView(APIView):
    """Answers 404 in the error shape, for every method, at URLs under `/api/` that do not exist."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> NoReturn:
        """Raise NotFound before DRF checks the method."""
        hint = " The API's URLs have no trailing slash." if request.path.endswith("/") else ""
        raise NotFound(f"There is nothing at {request.path}.{hint}")


class DatabaseOutageMiddleware(MiddlewareMixin):
    """Answers 503 if a view outside DRF, such as an admin page, fails because of a database outage."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the response to a database outage; return None for other exceptions."""
        cause = exception.__cause__ if isinstance(exception, ConnectorException) else exception
        error = database_failure(cause) if isinstance(cause, DatabaseError) else None
        if error is None:
            return None
        response = _api_response(request, error) or HttpResponse(
            f"{error.detail}\n", status=error.status_code, content_type="text/plain"
        )
        response.headers["Retry-After"] = str(error.wait)
        _log_outage(request, error, exception, response)
        return response


def _log_outage(
    request: HttpRequest | Request, error: APIException, exception: Exception, response: HttpResponse
) -> None:
    cause = " ".join(str(exception.__cause__ or exception).split())
    logger.warning(
        "%s %s: %s %s: %s", request.method, request.path, error.status_code, error.get_codes(), cause
    )
    response._has_been_logged = True  # type: ignore[attr-defined]  # else Django logs a second line


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 to a request that reaches no view (`handler400`), for example one for an unknown host."""
    unknown_host = isinstance(exception, DisallowedHost)
    error = UnacceptableRequest("The Host header names no host of this server." if unknown_host else None)
    return _api_response(request, error) or defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 for an error outside DRF's views (`handler403`)."""
    return _api_response(request, PermissionDenied()) or defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 for an error outside DRF's views (`handler404`)."""
    return _api_response(request, NotFound()) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 for an error outside DRF's views (`handler500`)."""
    return _api_response(request, APIException("Server Error (500)")) or defaults.server_error(request)


def _api_response(request: HttpRequest, error: APIException) -> JsonResponse | None:
    """Return `error` in the error shape; None for a request outside `/api/`."""
    if not f"{request.path_info}/".startswith(API_PREFIX):
        return None
    kind = "server_error" if is_server_error(error.status_code) else "client_error"
    shown = {"code": error.get_codes(), "detail": str(error.detail), "attr": None}
    return JsonResponse({"type": kind, "errors": [shown]}, status=error.status_code)
