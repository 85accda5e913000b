"""The one error shape, also where no view of ours is reached."""

from typing import NoReturn

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_integration.exceptions import ClerkError
from tenants.api.errors import BodyTooLarge, read_failure, tenant_failure
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


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 for errors outside DRF's views (`handler500`): in the error shape under `/api/`."""
    if not request.path.startswith(API_PREFIX):
        return defaults.server_error(request)
    error = {"code": "error", "detail": "Server Error (500)", "attr": None}
    return JsonResponse(
        {"type": "server_error", "errors": [error]}, status=status.HTTP_500_INTERNAL_SERVER_ERROR
    )
