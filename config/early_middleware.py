"""Answers requests that no other middleware concerns before every other middleware."""

from collections.abc import Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

WEBHOOK_PATH = "/api/v1/webhooks/clerk"


class EarlyMiddleware(MiddlewareMixin):
    """Answers `/healthz`, `/readyz` and `/metrics` for any Host, and Clerk's webhooks; also over plain HTTP.

    Probes use addresses, not names. A webhook has no session and no cookie, and its signature authenticates
    it; the other middleware would take longer than its own checks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        # System checks import this module only. They do not need the libraries of the health checks.
        from clerk_integration.webhooks.views import receive_webhook  # noqa: PLC0415
        from config.health import ReadinessView, healthz  # noqa: PLC0415
        from tenants.monitoring import metrics  # noqa: PLC0415
        from tenants.monitoring.exposition import PATH, metrics_view  # noqa: PLC0415

        metrics.connect()

        self._endpoints: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "/healthz": healthz,
            "/readyz": async_to_sync(ReadinessView.as_view()),
            PATH: metrics_view,
            WEBHOOK_PATH: receive_webhook,
        }

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer of one of the endpoints, or None for other paths.

        Raise DisallowedHost for a webhook whose Host is not in ALLOWED_HOSTS.
        """
        endpoint = self._endpoints.get(request.path_info)
        if endpoint is None:
            return None
        if request.path_info == WEBHOOK_PATH:
            request.get_host()
        response = endpoint(request)
        if response.content:
            response.headers["Content-Length"] = str(len(response.content))
        return response
