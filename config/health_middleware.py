"""Answers the health endpoints before every other middleware."""

from collections.abc import Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from config.health import ReadinessView, healthz

ENDPOINTS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": async_to_sync(ReadinessView.as_view()),
}


class HealthMiddleware(MiddlewareMixin):
    """Answers `/healthz` and `/readyz` for any Host and over plain HTTP: probes use addresses, not names."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer of a health endpoint, or None for other paths."""
        endpoint = ENDPOINTS.get(request.path_info)
        if endpoint is None:
            return None
        response = endpoint(request)
        response.headers["Content-Length"] = str(len(response.content))
        return response
