"""`manage.py migrate_tenants_to_clerk`: create an organization in Clerk for every legacy tenant."""

import csv
import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError

from clerk_integration.exceptions import ClerkError
from clerk_integration.management.arguments import positive, refuse_others
from clerk_integration.management.base import DatabaseCommand, sentence
from clerk_integration.management.progress import CommandProgress
from clerk_integration.wire.ids import validate_user_id
from clerk_integration.wire.pace import paced
from tenants.backfill.plan import Action, Plan, make_plan
from tenants.backfill.run import counts_of, enqueue_migration, run_migration
from tenants.backfill.step import Outcome
from tenants.exceptions import TenantError
from tenants.management.following import follow
from tenants.management.interrupts import stop_on_signals
from tenants.management.workers import tell_who_works
from tenants.models import SyncRun

CONCURRENCY = 8
COLUMNS = ("tenant_id", "action", "organization_id", "error")
RESUME = "Run the same command again to resume: what is done is kept, and nothing is created twice."


class Command(DatabaseCommand):
    """Plan, then create or adopt one organization for each legacy tenant; exit with code 1 if any failed."""

    help = (
        "Create an organization in Clerk for every legacy tenant, with its owner as creator and its other "
        "active members, and link it. Can be stopped and repeated at any time; never creates a second one."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
        parser.add_argument(
            "--tenant", type=int, action="append", nargs="+", metavar="ID", help="only these tenants"
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="only the first N tenants")
        parser.add_argument(
            "--concurrency", type=positive, metavar="N", help=f"creations at once (default: {CONCURRENCY})"
        )
        parser.add_argument(
            "--owner", metavar="USER_ID", help="first member of a tenant without a suitable one"
        )
        parser.add_argument("--report", type=Path, metavar="FILE.csv", help="one line for each tenant")
        parser.add_argument("--enqueue", action="store_true", help="let the workers carry out the plan")
        parser.add_argument("--follow", type=positive, metavar="RUN", help="show the progress of a run")
        parser.add_argument("--json", action="store_true", help="print a JSON summary as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Plan, then carry out, enqueue or print the plan."""
        progress = self.start_progress(options)
        if options["follow"] is not None:
            others = ("dry_run", "tenant", "limit", "concurrency", "owner", "report", "enqueue")
            refuse_others("--follow only watches", options, others)
            follow(options["follow"], progress, kind=SyncRun.Kind.MIGRATION, summarize=_summary)
            return
        if options["enqueue"]:
            ignored = ("dry_run", "concurrency", "report")
            refuse_others("--enqueue leaves the work to workers", options, ignored)
        plan = self._plan(options)
        if options["dry_run"]:
            self._print(plan, progress, options["report"])
        elif options["enqueue"]:
            self._enqueue(plan, progress)
        else:
            self._carry_out(plan, progress, options)

    def _plan(self, options: dict[str, Any]) -> Plan:
        groups = options["tenant"]
        ids = None if groups is None else [tenant_id for group in groups for tenant_id in group]
        try:
            owner = None if options["owner"] is None else validate_user_id(options["owner"])
            with paced():
                return make_plan(tenant_ids=ids, limit=options["limit"], owner=owner)
        except (ClerkError, TenantError) as error:
            raise CommandError(f"{sentence(error)} Nothing was changed.") from error

    def _print(self, plan: Plan, progress: CommandProgress, report: Path | None) -> None:
        with _report_to(report) as lines:
            for row in plan.rows:
                progress.note(f"{row.action:<9}tenant {row.tenant_id} ({row.name}): {row.reason}")
                conflict = row.reason if row.action is Action.CONFLICT else ""
                lines.writerow([row.tenant_id, row.action.value, row.organization_id or "", conflict])
        progress.finish({"dry_run": True, "tenants": len(plan.rows), **plan.counts})
        if plan.counts[Action.CONFLICT]:
            conflicts = plan.counts[Action.CONFLICT]
            raise CommandError(
                f"{conflicts} {'conflict' if conflicts == 1 else 'conflicts'}; nothing was changed. The lines"
                " above say why. Resolve each conflict before you migrate its tenant."
            )

    def _enqueue(self, plan: Plan, progress: CommandProgress) -> None:
        run = enqueue_migration(plan, report=lambda outcome: _show(outcome, progress))
        waits = run.state == SyncRun.State.RUNNING
        if waits:
            tell_who_works(run, progress)
        progress.finish(_summary(run))
        if run.failed:
            rest = " Workers do the rest." if waits else ""
            raise CommandError(f"{_incomplete(run.failed)}{rest}")

    def _carry_out(self, plan: Plan, progress: CommandProgress, options: dict[str, Any]) -> None:
        with _report_to(options["report"]) as lines, stop_on_signals() as stopping:
            progress.start(len(plan.rows), "tenants")

            def report(outcome: Outcome) -> None:
                _show(outcome, progress)
                values = (outcome.tenant_id, outcome.result, outcome.organization_id, outcome.message)
                try:
                    lines.writerow(values)
                except OSError as error:
                    raise OSError(f"The report cannot be written: {error}") from error

            run, error = run_migration(
                plan,
                concurrency=options["concurrency"] or CONCURRENCY,
                stopping=stopping,
                report=report,
                note=progress.note,
            )
        progress.finish(_summary(run))
        if error:
            raise CommandError(f"Stopped: {sentence(error)} {RESUME}")
        if run.state == SyncRun.State.INTERRUPTED:
            raise CommandError(f"Interrupted. Tenants whose migration had started are complete. {RESUME}")
        if run.error:
            raise CommandError(f"{_incomplete(len(run.error.splitlines()))} {RESUME}")


def _summary(run: SyncRun) -> dict[str, Any]:
    return {"run": run.pk, "state": run.state, "tenants": run.cursor["tenants"], **counts_of(run)}


def _show(outcome: Outcome, progress: CommandProgress) -> None:
    if outcome.failed:
        progress.note(f"{outcome.result:<9}tenant {outcome.tenant_id}: {outcome.message}")
    progress.advance()


def _incomplete(tenants: int) -> str:
    were = "tenant was" if tenants == 1 else "tenants were"
    return f"{tenants} {were} not migrated completely. The lines above say why."


@contextmanager
def _report_to(path: Path | None) -> Iterator[Any]:
    """Yield a CSV writer for the report. Each line is written at once, because the process may be killed."""
    with ExitStack() as stack:
        try:
            file = open(path or os.devnull, "w", newline="", encoding="utf-8", buffering=1)  # noqa: SIM115
            stack.callback(_close, file)
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
        except OSError as error:
            raise CommandError(
                f"The report cannot be written: {error}. Give another file with --report."
                " Nothing was changed."
            ) from error
        yield writer


def _close(file: IO[str]) -> None:
    # Each line was flushed, so an error has already been reported.
    with suppress(OSError):
        file.close()
