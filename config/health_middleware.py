"""Answers the health endpoints before every other middleware."""

from collections.abc import Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin


class HealthMiddleware(MiddlewareMixin):
    """Answers `/healthz` and `/readyz` for any Host and over plain HTTP: probes use addresses, not names."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        # System checks import this module only. They do not need the libraries of the health checks.
        from config.health import ReadinessView, healthz  # noqa: PLC0415

        self._endpoints: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "/healthz": healthz,
            "/readyz": async_to_sync(ReadinessView.as_view()),
        }

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer of a health endpoint, or None for other paths."""
        endpoint = self._endpoints.get(request.path_info)
        if endpoint is None:
            return None
        response = endpoint(request)
        response.headers["Content-Length"] = str(len(response.content))
        return response
