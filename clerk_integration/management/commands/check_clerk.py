"""`manage.py check_clerk`: tests the settings with requests to Clerk."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkError
from clerk_integration.instance import adopt_instance, get_clerk_instance
from clerk_integration.live_checks import Finding, run_live_checks
from clerk_integration.management.base import SummaryCommand
from clerk_integration.wire.deadlines import clerk_deadline


class Command(SummaryCommand):
    """Prints one line per check; the exit code is 1 if a check failed."""

    help = (
        "Tests the Clerk settings against Clerk itself: key, instance, clock, organizations, slugs, signing "
        "keys, issuer, webhook secret. Changes nothing, except with --adopt-instance."
    )
    # The command itself reports wrong settings, one line for each.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--json`."""
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
        parser.add_argument(
            "--adopt-instance",
            action="store_true",
            help="let this database belong to the Clerk instance of CLERK_SECRET_KEY from now on",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the result of each check at once, or all results as JSON at the end."""
        progress = self.start_progress(options)
        if options["adopt_instance"]:
            self._adopt(as_json=options["json"])
        findings = []
        for finding in run_live_checks():
            findings.append(finding)
            if not options["json"]:
                self._print(finding)
        failed = [finding.subject for finding in findings if finding.status == "FAIL"]
        if options["json"]:
            progress.finish({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}. Each finding above says what to change.")

    def _adopt(self, *, as_json: bool) -> None:
        try:
            with clerk_deadline(JOB_TIMEOUT_SECONDS):
                instance = get_clerk_instance().id
        except ClerkError as error:
            raise CommandError(f"No instance was adopted: {error}") from error
        before = adopt_instance(instance)
        if not as_json:
            moved = f", instead of {before}" if before not in (None, instance) else ""
            self._print(Finding("instance", "ok", f"This database belongs to {instance} now{moved}."))

    def _print(self, finding: Finding) -> None:
        styles = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "FAIL": self.style.ERROR}
        status = styles[finding.status](f"{finding.status:<5}")
        self.stdout.write(f"{status}{finding.subject}: {finding.message}")
        if finding.advice:
            self.stdout.write(f"     {finding.advice}")
