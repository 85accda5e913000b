"""Answers the health endpoints before every other middleware."""

from collections.abc import Callable

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from config.health import ReadinessView, healthz

_readyz: Callable[[HttpRequest], HttpResponseBase] = async_to_sync(ReadinessView.as_view())


class HealthMiddleware(MiddlewareMixin):
    """Answers `/healthz` and `/readyz` for any Host and over plain HTTP: probes use addresses, not names."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return the answer of a health endpoint, or None for other paths."""
        if request.path_info == "/healthz":
            return healthz(request)
        if request.path_info == "/readyz":
            return _readyz(request)
        return None
