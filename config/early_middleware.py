"""Answers requests that no other middleware concerns before every other middleware."""

from collections.abc import Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin


class EarlyMiddleware(MiddlewareMixin):
    """Answers `/healthz`, `/readyz` and Clerk's webhooks, for any Host and over plain HTTP.

    Probes use addresses, not names. A webhook has no session and no cookie, and its signature authenticates
    it; the other middleware would take longer than its own checks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        # System checks import this module only. They do not need the libraries of the health checks.
        from clerk_integration.webhooks.views import receive_webhook  # noqa: PLC0415
        from config.health import ReadinessView, healthz  # noqa: PLC0415

        self._endpoints: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "/healthz": healthz,
            "/readyz": async_to_sync(ReadinessView.as_view()),
            "/api/v1/webhooks/clerk": receive_webhook,
        }

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer of one of the endpoints, or None for other paths."""
        endpoint = self._endpoints.get(request.path_info)
        if endpoint is None:
            return None
        response = endpoint(request)
        if response.content:
            response.headers["Content-Length"] = str(len(response.content))
        return response
