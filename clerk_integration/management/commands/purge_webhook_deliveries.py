"""`manage.py purge_webhook_deliveries`: deletes old webhook deliveries."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.management.arguments import duration
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import INTERRUPTED
from clerk_integration.webhooks.retention import KEEP_FOR, count_to_purge, purge_deliveries


class Command(DatabaseCommand):
    """Deletes in batches and commits each batch. Can be interrupted and run again."""

    help = (
        "Deletes webhook deliveries that are processed or ignored and arrived long ago. Failed ones, and "
        "those not processed yet, are kept, however old they are."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--older-than` and `--json`."""
        parser.add_argument(
            "--older-than",
            type=duration,
            default=KEEP_FOR,
            metavar="DURATION",
            help="such as 30d, the default; at least 28h, the time for which the sender repeats a message",
        )
        parser.add_argument("--json", action="store_true", help="end with one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, show progress, and print the number of deleted deliveries."""
        progress = self.start_progress(options)
        deleted = 0
        interrupted = False
        try:
            progress.start(count_to_purge(options["older_than"]), "webhook deliveries")
            for batch in purge_deliveries(options["older_than"]):
                deleted += batch
                progress.advance(batch)
        except ValueError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            interrupted = True
        progress.finish({"deleted": deleted} | ({"interrupted": interrupted} if options["json"] else {}))
        if interrupted:
            deliveries = "1 webhook delivery" if deleted == 1 else f"{deleted:,} webhook deliveries"
            raise CommandError(
                f"Stopped. Deleted: {deliveries}. Run the same command again to resume.",
                returncode=INTERRUPTED,
            )
