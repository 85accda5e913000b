"""`manage.py link_tenants`: link legacy tenants to existing organizations."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.exceptions import ClerkError
from clerk_integration.management.base import DatabaseCommand, sentence
from tenants.exceptions import SyncLost, TenantError
from tenants.files.links import Linked, link_all, read_links
from tenants.management.interrupts import stop_on_signals
from tenants.runs.failures import FailedAlike


class Command(DatabaseCommand):
    """Check the whole file, then link line by line; exit with code 1 if any line failed."""

    help = (
        "Link legacy tenants to organizations that exist in Clerk, from a CSV file with the columns "
        "tenant_id and clerk_org_id. The whole file is checked before the first link is made."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "file", type=Path, metavar="FILE.csv", help="with the columns tenant_id,clerk_org_id"
        )
        parser.add_argument("--dry-run", action="store_true", help="check the file and link nothing")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the file, then link the tenants."""
        progress = self.start_progress(options)
        try:
            links, existing = read_links(options["file"])
        except (ClerkError, TenantError) as error:
            raise CommandError(str(error)) from error
        if options["dry_run"]:
            progress.finish({"dry_run": True, "to_link": len(links), "already_linked": existing})
            return
        outcomes: list[Linked] = []

        def report(outcome: Linked) -> None:
            outcomes.append(outcome)
            if outcome.error:
                progress.note(f"line {outcome.link.line}: {outcome.error}")
            progress.advance()

        progress.start(len(links), "links")
        try:
            with stop_on_signals() as stopping:
                link_all(links, stopping=stopping, report=report)
        except (FailedAlike, SyncLost) as error:
            raise CommandError(
                f"Stopped: {sentence(error)} Run the command again with the same file to resume."
            ) from error
        failed = sum(bool(outcome.error) for outcome in outcomes)
        left = len(links) - len(outcomes)
        made = {"linked": len(outcomes) - failed, "already_linked": existing}
        progress.finish({**made, "failed": failed, "not_tried": left})
        if failed or left:
            raise CommandError(
                f"{failed} {'link' if failed == 1 else 'links'} failed, {left} not tried; the others were"
                " made. Run the command again with the same file."
            )
