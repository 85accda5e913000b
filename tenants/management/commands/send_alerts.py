"""`manage.py send_alerts`: send lasting problems to SYNC_ALERT_WEBHOOK_URL, for cron."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.conf import setting
from clerk_integration.management.base import DatabaseCommand
from tenants.monitoring import alerts


class Command(DatabaseCommand):
    """Check once; exit with code 1 if the test message could not be sent."""

    help = (
        "Finds the problems of the deployment, and sends those that last for two minutes to"
        " SYNC_ALERT_WEBHOOK_URL; later the all-clear. Workers and gunicorn do so every minute: cron needs"
        " this command only beside another web server."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--test` and `--json`."""
        parser.add_argument("--test", action="store_true", help="send one test message, and check nothing")
        parser.add_argument("--json", action="store_true", help="end with one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send what is due, and print the problems; raise CommandError without SYNC_ALERT_WEBHOOK_URL."""
        if not setting("SYNC_ALERT_WEBHOOK_URL"):
            raise CommandError(
                "SYNC_ALERT_WEBHOOK_URL is not set, so no alert can be sent. Nothing was done."
            )
        progress = self.start_progress(options)
        if options["test"]:
            if not alerts.post("This is a test message of `manage.py send_alerts --test`."):
                raise CommandError("The test message was not accepted. The log line above says why.")
            progress.finish({"sent": "test message"})
            return
        problems = alerts.send_alerts()
        for kind, message in problems.items():
            progress.note(f"{kind}: {message}")
        progress.finish({"problems": len(problems)})
