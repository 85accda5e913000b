"""The tables of metrics, from the modules that define them."""

from collections.abc import Sequence

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from config import request_metrics
from docs.tables import table
from tenants.monitoring import deployment_metrics, metrics

COLUMNS = ["metric", "labels", "meaning"]
REQUESTS = (
    "Requests that the web server has answered, by status, view and method.",
    "Histogram of the seconds that requests took, by view and method.",
)


def metrics_of_processes() -> str:
    """Return the metrics of web processes and workers."""
    found = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    rows = [
        _row(one._name + ("_total" if isinstance(one, Counter) else ""), one._labelnames, one._documentation)
        for one in found
    ]
    return table(COLUMNS, rows)


def metrics_of_requests() -> str:
    """Return the metrics of web requests."""
    rows = [[f"`{name}`", meaning] for name, meaning in zip(request_metrics.NAMES, REQUESTS, strict=True)]
    return table(["metric", "meaning"], rows)


def metrics_of_deployment() -> str:
    """Return the metrics that are read from the database."""
    module = deployment_metrics
    rows = [_row(module.DATABASE_UP[0], (), module.DATABASE_UP[1])]
    rows += [_row(name, (), meaning) for name, meaning, _ in module.GAUGES]
    name, meaning, labels = module.REFUSED
    rows += [_row(f"{name}_total", labels, meaning)]
    rows += [_row(name, labels, meaning) for name, meaning, labels in (module.DRIFT, module.RUNS)]
    return table(COLUMNS, rows)


def _row(name: str, labels: Sequence[str], meaning: str) -> list[str]:
    return [f"`{name}`", ", ".join(f"`{label}`" for label in labels), meaning]
