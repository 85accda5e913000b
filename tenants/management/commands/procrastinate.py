"""`manage.py procrastinate`: Procrastinate's own command, whose `worker` also exports metrics.

It takes the place of Procrastinate's command if `tenants` stands before `procrastinate.contrib.django` in
INSTALLED_APPS.
"""

import argparse
from typing import Any

from django.core.management.base import CommandError
from procrastinate.contrib.django.management.commands import procrastinate

from clerk_integration.management.arguments import positive


class Command(procrastinate.Command):
    """Adds `--metrics-port` and `--metrics-address` to `worker`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare Procrastinate's options, then ours."""
        super().add_arguments(parser)
        commands = next(
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        )
        worker = commands.choices["worker"]
        worker.add_argument("--metrics-port", type=positive, help="export Prometheus metrics at this port")
        worker.add_argument(
            "--metrics-address",
            default="127.0.0.1",
            help="address for --metrics-port (default 127.0.0.1); 0.0.0.0 in a container",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Start to export metrics if asked to, then run Procrastinate's command."""
        port, address = options.pop("metrics_port", None), options.pop("metrics_address", "")
        if port is not None:
            _export(address, port)
        super().handle(*args, **options)


def _export(address: str, port: int) -> None:
    try:
        from tenants.monitoring.exposition import serve_worker_metrics  # noqa: PLC0415  (optional package)
    except ImportError:
        raise CommandError("--metrics-port needs the package prometheus-client. Install it first.") from None
    try:
        serve_worker_metrics(address, port)
    except (OSError, OverflowError, TypeError) as error:  # not free; not a port; not an address
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise CommandError(
            f"The metrics cannot be exported at {address}:{port}: {reason}. The worker was not started."
            " Choose another port or address."
        ) from None
