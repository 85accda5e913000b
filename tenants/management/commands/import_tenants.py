"""`manage.py import_tenants`: import tenants and members of an older system as legacy tenants."""

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from clerk_integration.management.base import DatabaseCommand, sentence
from tenants.exceptions import SyncInterrupted, SyncLost, TenantError
from tenants.files.imports import check_file, import_tenants
from tenants.management.interrupts import stop_on_signals


class Command(DatabaseCommand):
    """Check the whole file, then import it; exit with code 1 if a line is wrong or the import was stopped."""

    help = (
        "Import tenants and members from FILE.csv (a line for each member: external_id, name, [slug], "
        "[status], [user_id], [role]) or FILE.jsonl (a line for each tenant, with members). The whole file "
        "is checked first. Adds missing tenants and members and changes nothing else. user_id is the id of "
        "a user in Clerk."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("file", type=Path, metavar="FILE", help="FILE.csv or FILE.jsonl")
        parser.add_argument("--dry-run", action="store_true", help="check the file, count, and write nothing")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check or import the file."""
        progress = self.start_progress(options)
        path, dry_run = options["file"], options["dry_run"]
        try:
            with stop_on_signals() as stopping:
                progress.start(None, "lines checked")
                imported = check_file(path, advance=progress.advance, stopping=stopping)
                if not dry_run:
                    progress.start(None, "lines")
                    imported = import_tenants(
                        path, stopping=stopping, advance=progress.advance, checked=imported
                    )
        except (TenantError, SyncInterrupted) as error:
            raise CommandError(str(error)) from error
        except SyncLost as error:
            raise CommandError(
                f"Stopped: {sentence(error)} Run the command again with the same file to resume."
            ) from error
        progress.finish({"dry_run": dry_run, **asdict(imported)})
        if not imported.complete:
            raise CommandError(
                "The import was stopped. What was imported is kept. Run the command again with the same"
                " file to resume."
            )
