"""`manage.py purge_webhook_deliveries`: deletes old deliveries that nobody needs any more."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.management.arguments import duration
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.webhooks.retention import KEEP_FOR, purge_deliveries


class Command(DatabaseCommand):
    """Deletes in batches, each committed; may be interrupted and run again."""

    help = (
        "Deletes webhook deliveries that are processed or ignored and arrived long ago. Failed ones, and "
        "those not processed yet, are kept however old they are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--older-than`."""
        parser.add_argument(
            "--older-than",
            type=duration,
            default=KEEP_FOR,
            metavar="DURATION",
            help="such as 30d, the default; at least 28h, the time for which the sender repeats a message",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Purge and say how many went."""
        try:
            deleted = purge_deliveries(options["older_than"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            message = "Stopped. What was deleted is gone; run the command again to delete the rest."
            raise CommandError(message, returncode=130) from None
        self.stdout.write(f"{deleted} webhook deliveries deleted.")
