"""`manage.py demo`: show the main features on one machine, without any configuration."""

import os
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.demo.environment import DEMO_PROCESS, ignored_settings, is_isolated, isolated_environment
from tenants.demo.processes import DemoError, Interrupted
from tenants.demo.report import Report
from tenants.demo.run import run_demo

LAST_PORT = 65535


class Command(BaseCommand):
    """Exit code: 0 if every step succeeded, 1 if a step failed, 128 + signal number if interrupted."""

    help = (
        "Shows the main features without any configuration: starts an embedded PostgreSQL, a local Clerk, "
        "the web server and a worker, creates and lists tenants through the REST API, receives webhooks of "
        "Clerk, migrates a legacy tenant, verifies each answer, and serves until Ctrl-C. Uses neither your "
        "database nor your Clerk key."
    )
    # This process may have other settings than the demo.
    requires_system_checks: list[str] = []  # noqa: RUF012 - as in the base class

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=_port, default=8000, help="port of the web server (default: 8000)")
        parser.add_argument("--no-serve", action="store_true", help="exit after the last step")
        parser.add_argument(
            "--reset", action="store_true", help="begin with an empty database (each port has its own)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the demo in its own environment."""
        if not is_isolated():
            self._start_over(options)
        try:
            report = Report(self.stdout, self.style)
            run_demo(report, options["port"], serve=not options["no_serve"], reset=options["reset"])
        except DemoError as error:
            raise CommandError(str(error)) from error
        except Interrupted as interruption:
            self.stderr.write(
                f"The demo was stopped by {interruption} before its last step. Its processes have ended."
            )
            sys.exit(interruption.exit_status)

    def _start_over(self, options: dict[str, Any]) -> None:
        """Replace this process by a process with the demo's settings."""
        ignored = ignored_settings()
        if ignored:
            self.stdout.write(f"The demo has its own settings and ignores: {', '.join(ignored)}")
        arguments = ["--port", str(options["port"])]
        arguments += [f"--{name.replace('_', '-')}" for name in ("no_serve", "reset") if options[name]]
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "demo", *arguments]
        self.stdout.flush()
        environment = isolated_environment(**{DEMO_PROCESS: str(os.getpid())})
        os.execve(sys.executable, command, environment)  # noqa: S606 - our own program


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) <= LAST_PORT:
        return int(text)
    raise ArgumentTypeError(f"{text} is not a port; give 1 to {LAST_PORT}")
