"""`manage.py process_clerk_webhooks`: processes stored webhooks in this process, oldest first."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.management.arguments import moment
from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import INTERRUPTED, CommandProgress
from clerk_integration.webhooks.replay import Replayed, count_open, replay

MAX_REASON_LENGTH = 300
"""Characters of an error in its line; the admin shows all of it."""


class Command(DatabaseCommand):
    """Prints one line per failure and a summary; exit code 1 when any failed, 130 after Ctrl-C."""

    help = (
        "Processes the webhooks that are stored and not processed yet, oldest first, in this process. No "
        "worker is needed, and workers may run meanwhile. Each webhook is committed by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--failed`, `--since` and `--json`."""
        parser.add_argument("--failed", action="store_true", help="process the failed ones again, too")
        parser.add_argument(
            "--since",
            type=moment,
            metavar="TIME",
            help="only what arrived since then: an ISO 8601 time (UTC without an offset), or 2h, 3d ago",
        )
        parser.add_argument("--json", action="store_true", help="end with one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Process, show progress, and sum up."""
        progress = CommandProgress(self.stdout, as_json=options["json"])
        failures: list[Replayed] = []
        counts: Counter[str] = Counter(processed=0, ignored=0, failed=0)
        interrupted = False
        try:
            _replay({"failed": options["failed"], "since": options["since"]}, counts, failures, progress)
        except KeyboardInterrupt:
            interrupted = True
        summary: dict[str, Any] = dict(counts)
        if options["json"]:
            summary |= {"interrupted": interrupted, "failures": [asdict(failure) for failure in failures]}
        progress.finish(summary)
        _exit_unless_well(interrupted=interrupted, failed=counts["failed"])


def _replay(
    which: dict[str, Any], counts: Counter[str], failures: list[Replayed], progress: CommandProgress
) -> None:
    progress.start(count_open(**which), "webhooks")
    for outcome in replay(**which):
        counts[outcome.status] += 1
        if outcome.status == "failed":
            failures.append(outcome)
            progress.note(_failure_line(outcome))
        progress.advance()


def _failure_line(failure: Replayed) -> str:
    reason = " ".join(failure.error.split())[:MAX_REASON_LENGTH]
    return f"failed: {failure.event_type} {failure.svix_id} (delivery {failure.id}): {reason}"


def _exit_unless_well(*, interrupted: bool, failed: int) -> None:
    if interrupted:
        raise CommandError(
            "Stopped. The webhook in hand was left as it was; run the same command again to go on.",
            returncode=INTERRUPTED,
        )
    if failed:
        raise CommandError(
            f"{failed} webhooks failed. The admin shows each with its traceback; once the cause is gone, run "
            "this command with --failed."
        )
