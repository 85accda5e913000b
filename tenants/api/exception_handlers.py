"""The one error shape, also where no view of ours is reached."""

from typing import NoReturn

from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import status
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_integration.exceptions import ClerkError
from tenants.api.errors import BodyTooLarge, UnacceptableRequest, read_failure, tenant_failure
from tenants.exceptions import TenantError

API_PREFIX = "/api/"


class ApiExceptionHandler(ExceptionHandler):
    """drf-standardized-errors' handler, which also knows Clerk's and the tenants' failures."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """Translate what services raise; leave the rest to the library (unknown exceptions become 500)."""
        if isinstance(exc, ClerkError):
            return read_failure(exc)
        if isinstance(exc, TenantError):
            return tenant_failure(exc)
        if isinstance(exc, RequestDataTooBig):
            return BodyTooLarge()
        if isinstance(exc, SuspiciousOperation):
            return UnacceptableRequest()
        return super().convert_known_exceptions(exc)


class ApiNotFoundView(APIView):
    """Answers 404 in the error shape, for every method, under URLs that are none of the API's."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> NoReturn:
        """Raise NotFound before the method is looked at."""
        hint = " The API's URLs have no trailing slash." if request.path.endswith("/") else ""
        raise NotFound(f"There is nothing at {request.path}.{hint}")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 for requests that reach no view (`handler400`), such as those for a foreign host."""
    if not _is_of_api(request):
        return defaults.bad_request(request, exception)
    detail = UnacceptableRequest.default_detail
    if isinstance(exception, DisallowedHost):
        detail = "The Host header names no host of this server."
    return _answer(status.HTTP_400_BAD_REQUEST, UnacceptableRequest.default_code, detail)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 for errors outside DRF's views (`handler403`)."""
    if not _is_of_api(request):
        return defaults.permission_denied(request, exception)
    return _answer(status.HTTP_403_FORBIDDEN, PermissionDenied.default_code, PermissionDenied.default_detail)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 for errors outside DRF's views (`handler404`)."""
    if not _is_of_api(request):
        return defaults.page_not_found(request, exception)
    return _answer(status.HTTP_404_NOT_FOUND, NotFound.default_code, NotFound.default_detail)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 for errors outside DRF's views (`handler500`): in the error shape under `/api/`."""
    if not _is_of_api(request):
        return defaults.server_error(request)
    return _answer(status.HTTP_500_INTERNAL_SERVER_ERROR, "error", "Server Error (500)")


def _is_of_api(request: HttpRequest) -> bool:
    return f"{request.path_info}/".startswith(API_PREFIX)


def _answer(status_code: int, code: str, detail: object) -> JsonResponse:
    kind = "server_error" if status.is_server_error(status_code) else "client_error"
    error = {"code": code, "detail": str(detail), "attr": None}
    return JsonResponse({"type": kind, "errors": [error]}, status=status_code)
