"""`manage.py process_clerk_webhooks`: processes stored webhooks in this process, oldest first."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.management.arguments import point_in_time
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import INTERRUPTED
from clerk_integration.webhooks.replay import ReplayResult, count_to_replay, replay

MAX_REASON_LENGTH = 300
"""Maximum length of an error in the output, in characters. The admin shows the complete error."""


class Command(DatabaseCommand):
    """Prints one line per failure and a summary. The exit code is 1 after a failure, 130 after Ctrl-C."""

    help = (
        "Processes the webhooks that are stored and not processed yet, oldest first, in this process. No "
        "worker is needed, and workers may run meanwhile. Each webhook is committed by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--failed`, `--since` and `--json`."""
        parser.add_argument("--failed", action="store_true", help="process the failed ones again, too")
        parser.add_argument(
            "--since",
            type=point_in_time,
            metavar="TIME",
            help="only those that arrived since: an ISO 8601 time (UTC without an offset), or 2h, 3d ago",
        )
        parser.add_argument("--json", action="store_true", help="end with one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Process the webhooks, show progress, and print a summary."""
        progress = self.start_progress(options)
        chosen = {"failed": options["failed"], "since": options["since"]}
        counts: Counter[str] = Counter(processed=0, ignored=0, failed=0)
        failures = []
        interrupted = False
        try:
            progress.start(count_to_replay(**chosen), "webhooks")
            for result in replay(**chosen):
                counts[result.status] += 1
                if result.status == "failed":
                    failures.append(asdict(result))
                    progress.note(_failure_line(result))
                progress.advance()
        except KeyboardInterrupt:
            interrupted = True
        details = {"interrupted": interrupted, "failures": failures} if options["json"] else {}
        progress.finish({**counts, **details})
        _raise_unless_all_processed(interrupted=interrupted, failed=len(failures))


def _failure_line(failure: ReplayResult) -> str:
    reason = " ".join(failure.error.split())[:MAX_REASON_LENGTH]
    return f"failed: {failure.event_type} {failure.svix_id} (delivery {failure.id}): {reason}"


def _raise_unless_all_processed(*, interrupted: bool, failed: int) -> None:
    if interrupted:
        raise CommandError(
            "Stopped. The current webhook was left unchanged; run the same command again to resume.",
            returncode=INTERRUPTED,
        )
    if failed:
        webhooks = "1 webhook" if failed == 1 else f"{failed:,} webhooks"
        raise CommandError(
            f"{webhooks} failed. The admin shows each error with its traceback. Remove the cause, then run "
            "this command with --failed."
        )
