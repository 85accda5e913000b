"""`manage.py purge_webhook_deliveries`: deletes old deliveries that nobody needs any more."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.management.arguments import duration
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import INTERRUPTED, CommandProgress
from clerk_integration.webhooks.retention import KEEP_FOR, count_old, purge_batches


class Command(DatabaseCommand):
    """Deletes in batches, each committed; may be interrupted and run again."""

    help = (
        "Deletes webhook deliveries that are processed or ignored and arrived long ago. Failed ones, and "
        "those not processed yet, are kept however old they are."
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
        """Purge, show progress, and say how many went."""
        progress = CommandProgress(self.stdout, as_json=options["json"])
        deleted = 0
        interrupted = False
        try:
            progress.start(count_old(options["older_than"]), "webhook deliveries")
            for batch in purge_batches(options["older_than"]):
                deleted += batch
                progress.advance(batch)
        except ValueError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            interrupted = True
        progress.finish({"deleted": deleted} | ({"interrupted": interrupted} if options["json"] else {}))
        if interrupted:
            raise CommandError(
                f"Stopped. {deleted:,} webhook deliveries are gone; run the same command again to go on.",
                returncode=INTERRUPTED,
            )
