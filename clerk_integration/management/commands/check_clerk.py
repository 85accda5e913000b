"""`manage.py check_clerk`: tests the settings against Clerk, line by line."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clerk_integration.live_checks import Finding, run_live_checks


class Command(BaseCommand):
    """Prints one line per finding; exit code 1 when any failed."""

    help = (
        "Tests the Clerk settings against Clerk itself: key, instance, clock, organizations, slugs, signing "
        "keys, issuer, webhook secret. Reads only."
    )
    # This command reports faults of the settings itself, one line each.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare `--json`."""
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings as they come, or all as JSON."""
        findings = []
        for finding in run_live_checks():
            findings.append(finding)
            if not options["json"]:
                self._print(finding)
        failed = [finding.subject for finding in findings if finding.status == "FAIL"]
        if options["json"]:
            summary = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(summary))
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}.")

    def _print(self, finding: Finding) -> None:
        styles = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "FAIL": self.style.ERROR}
        status = styles[finding.status](f"{finding.status:<5}")
        self.stdout.write(f"{status}{finding.subject}: {finding.message}")
        if finding.advice:
            self.stdout.write(f"     {finding.advice}")
