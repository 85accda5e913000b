"""Count web requests by view, method and status, with their latency.

The metrics have the names of django-prometheus, so that dashboards made for it work. Its own middleware takes
ten times as long, because it also counts headers, sizes and templates.
"""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

NAMES = (
    "django_http_responses_total_by_status_view_method",
    "django_http_requests_latency_seconds_by_view_method",
)
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25)

_making = threading.Lock()
"""`cache` lets two threads in at once, and a metric may be made only once."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class RequestMetricsMiddleware(MiddlewareMixin):
    """Counts the requests whose path belongs to a view; all others are the view "none"."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        with _making:
            self._responses, self._latency = _metrics()

    def process_request(self, request: HttpRequest) -> None:
        """Start the clock."""
        request.META["tenants.started"] = time.perf_counter()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Count the request."""
        match = request.resolver_match
        view = (match and match.view_name) or "none"
        method = request.method if request.method in METHODS else "other"
        self._responses.labels(str(response.status_code), view, method).inc()
        self._latency.labels(view, method).observe(time.perf_counter() - request.META["tenants.started"])
        return response


@cache
def _metrics() -> "tuple[Counter, Histogram]":
    # System checks import this module, and need no metrics.
    from prometheus_client import Counter, Histogram  # noqa: PLC0415

    responses = Counter(
        NAMES[0], "Requests that were answered, by status, view and method.", ["status", "view", "method"]
    )
    latency = Histogram(
        NAMES[1], "Seconds that requests took, by view and method.", ["view", "method"], buckets=BUCKETS
    )
    return responses, latency
