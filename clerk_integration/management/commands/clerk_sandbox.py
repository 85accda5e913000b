"""`manage.py clerk_sandbox`: a local Clerk for development and tests."""

import json
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from clerk_integration.sandbox.env_file import EnvFileError, read_keys, write_settings
from clerk_integration.sandbox.errors import ApiError
from clerk_integration.sandbox.server import SandboxServer

OPTIONS = (
    "seed",
    "organizations",
    "users",
    "memberships_per_organization",
    "latency_ms",
    "rate_limit",
    "slugs",
    "webhook_url",
    "webhook_retry_scale",
)


class Command(BaseCommand):
    """Serves the sandbox until SIGINT or SIGTERM, then exits with 0. Uses no database."""

    help = (
        "Serve a local Clerk on 127.0.0.1: Backend API, JWKS, session tokens and signed webhooks. "
        "The first line of output is a JSON object with its address and keys."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 - as in the base class

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=int, default=0, help="Port to listen on (default: any free one).")
        parser.add_argument(
            "--organizations", type=int, default=0, metavar="N", help="Organizations to create."
        )
        parser.add_argument("--users", type=int, default=0, metavar="U", help="Users to create.")
        parser.add_argument(
            "--memberships-per-organization",
            type=int,
            default=0,
            metavar="M",
            help="Users to make members of each organization.",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="S", help="The same seed makes the same ids."
        )
        parser.add_argument(
            "--latency-ms", type=float, default=0, metavar="L", help="Delay of every API call."
        )
        parser.add_argument(
            "--rate-limit",
            choices=("dev", "live", "none"),
            default="none",
            help="Limits of a development or live instance.",
        )
        parser.add_argument(
            "--slugs",
            choices=("enabled", "disabled"),
            default="enabled",
            help="Whether organizations may have slugs.",
        )
        parser.add_argument(
            "--webhook-url", metavar="URL", help="URL that receives a signed webhook for every change."
        )
        parser.add_argument(
            "--webhook-retry-scale",
            type=float,
            default=1.0,
            metavar="F",
            help="Factor of the waits between attempts (default: 1, which is 5 s to 10 h).",
        )
        parser.add_argument(
            "--env-file",
            type=Path,
            metavar="FILE",
            help="Write the settings to FILE. If FILE has keys of an earlier start, use these keys again.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until a signal arrives; raise CommandError if the server cannot start."""
        server = self._server(options)
        try:
            if options["env_file"]:
                _write_settings(options["env_file"], server)
            server.start()
            self._serve_until_stopped(server.description, options["env_file"])
        finally:
            server.stop()

    def _serve_until_stopped(self, description: Mapping[str, str], env_file: Path | None) -> None:
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        try:
            self.stdout.write(json.dumps(description))
            self.stdout.flush()
            # Programs read the line above; this one is for people.
            page = f"This Clerk's page: {description['issuer']}/sandbox. Ctrl-C stops it."
            self.stderr.write(
                f"The settings are in {env_file}. {page}" if env_file else page, self.style.NOTICE
            )
        except OSError as error:
            raise CommandError(
                f"The address and the keys cannot be printed: {error.strerror}. The local Clerk was stopped."
                " Start it again, and keep its output open."
            ) from None
        stopped.wait()

    def _server(self, options: dict[str, Any]) -> SandboxServer:
        """Return a server with these options; raise CommandError for invalid options or a used port."""
        port = options["port"]
        try:
            keys = read_keys(options["env_file"]) if options["env_file"] else None
            return SandboxServer(port, keys=keys, **{name: options[name] for name in OPTIONS})
        except OverflowError:
            raise CommandError(
                f"--port {port} is not a port number. Nothing was started. Give 0 to 65535."
            ) from None
        except ApiError as error:
            option = (error.param or "").replace("_", "-")
            raise CommandError(f"{option and f'--{option}: '}{error} Nothing was started.") from None
        except EnvFileError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}). "
                "Nothing was started. Stop the program that uses it, or give another port; --port 0 chooses a"
                " free one."
            ) from None


def _write_settings(env_file: Path, server: SandboxServer) -> None:
    try:
        write_settings(env_file, server.description, server.private_pem)
    except OSError as error:
        raise CommandError(
            f"{env_file} cannot be written: {error.strerror}. Nothing was started. Give another file with"
            " --env-file."
        ) from None
