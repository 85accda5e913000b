"""`manage.py import_tenants`: tenants and members of an older system become legacy tenants."""

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.management.base import DatabaseCommand
from clerk_integration.management.progress import CommandProgress
from tenants.exceptions import TenantError
from tenants.files.imports import import_tenants


class Command(DatabaseCommand):
    """Imports a file whole or not at all; exit code 1 when a line is wrong."""

    help = (
        "Import tenants and members from FILE.csv (a line for each member: external_id, name, [slug], "
        "[status], [user_id], [role]) or FILE.jsonl (a line for each tenant, with members). Adds what is "
        "missing and changes nothing that is there. user_id is the id of a user in Clerk."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="check the file and count, keep nothing")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import the file."""
        progress = CommandProgress(self.stdout, as_json=options["json"])
        progress.start(None, "lines")
        try:
            imported = import_tenants(options["file"], dry_run=options["dry_run"], advance=progress.advance)
        except TenantError as error:
            raise CommandError(str(error)) from error
        progress.finish({"dry_run": options["dry_run"], **asdict(imported)})
