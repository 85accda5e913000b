"""`manage.py clerk_sandbox`: a local Clerk for development and tests."""

import json
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from clerk_integration.sandbox.server import SandboxServer


class Command(BaseCommand):
    """Serves the sandbox until SIGINT or SIGTERM, then exits 0; touches no database."""

    help = (
        "Serve a local Clerk on 127.0.0.1: Backend API, JWKS, session tokens and signed webhooks. "
        "The first line of output is a JSON object with its address and keys."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 - as in the base class

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; see SandboxServer for their meaning."""
        parser.add_argument("--port", type=int, default=0, help="Port to listen on (default: any free one).")
        parser.add_argument("--organizations", type=int, default=0, metavar="N")
        parser.add_argument("--users", type=int, default=0, metavar="U")
        parser.add_argument("--memberships-per-organization", type=int, default=0, metavar="M")
        parser.add_argument("--seed", type=int, default=0, help="The same seed makes the same ids.")
        parser.add_argument("--latency-ms", type=float, default=0, help="Delay of every API call.")
        parser.add_argument(
            "--rate-limit",
            choices=("dev", "live", "none"),
            default="none",
            help="Limits of a development or live instance.",
        )
        parser.add_argument("--slugs", choices=("enabled", "disabled"), default="enabled")

        parser.add_argument("--webhook-url", metavar="URL", help="Where every change is told, signed.")
        parser.add_argument(
            "--webhook-retry-scale",
            type=float,
            default=1.0,
            metavar="F",
            help="Factor of the waits between attempts (default: 1, which is 5 s to 10 h).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal arrives; raise CommandError when it cannot start."""
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        server = self._server(options)
        server.start()
        try:
            self.stdout.write(json.dumps(server.description))
            self.stdout.flush()
            stopped.wait()
        finally:
            server.stop()

    def _server(self, options: dict[str, Any]) -> SandboxServer:
        try:
            return SandboxServer(
                options["port"],
                seed=options["seed"],
                organizations=options["organizations"],
                users=options["users"],
                memberships_per_organization=options["memberships_per_organization"],
                latency_ms=options["latency_ms"],
                rate_limit=options["rate_limit"],
                slugs=options["slugs"],
                webhook_url=options["webhook_url"],
                webhook_retry_scale=options["webhook_retry_scale"],
            )
        except OverflowError:
            raise CommandError(f"{options['port']} is no port; give 0 to 65535.") from None
        except ValueError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(
                f"Port {options['port']} cannot be used ({error.strerror}). "
                "Stop what listens there, or choose another with --port; 0 takes any free one."
            ) from None
