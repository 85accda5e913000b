"""Count web requests by view, method and status, with their latency, through django-prometheus.

Of its twenty metrics two are kept: the others cost each request more than they say.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

KEPT = (
    "django_http_responses_total_by_status_view_method",
    "django_http_requests_latency_seconds_by_view_method",
)


def request_metrics(get_response: Callable[[Any], Any]) -> Any:
    """Return the middleware. Only a web server calls this function; other processes import no metrics."""
    return _middleware()(get_response)


request_metrics.sync_capable = request_metrics.async_capable = True  # type: ignore[attr-defined]


class _Nothing:
    """A metric that counts nothing."""

    def labels(self, **_: str) -> "_Nothing":
        return self

    def inc(self) -> None:
        pass

    def observe(self, _: float) -> None:
        pass


@cache
def _middleware() -> Any:
    from django_prometheus.middleware import Metrics, PrometheusAfterMiddleware  # noqa: PLC0415

    class KeptMetrics(Metrics):  # type: ignore[misc]  # untyped library
        def register_metric(self, metric_cls: Any, name: str, *args: Any, **options: Any) -> Any:
            return super().register_metric(metric_cls, name, *args, **options) if name in KEPT else _Nothing()

    class RequestMetrics(PrometheusAfterMiddleware):  # type: ignore[misc]  # untyped library
        metrics_cls = KeptMetrics

    return RequestMetrics
