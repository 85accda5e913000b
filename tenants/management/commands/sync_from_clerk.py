"""`manage.py sync_from_clerk`: bring the mirror up to date with Clerk."""

from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import asdict
from threading import Event
from typing import Any

from django.core.management.base import CommandError, CommandParser

from clerk_integration.exceptions import ClerkError, ClerkMisconfigured, ClerkUnavailable, WrongInstance
from clerk_integration.management.arguments import positive, refuse_others
from clerk_integration.management.base import DatabaseCommand, sentence
from clerk_integration.management.progress import CommandProgress
from tenants.exceptions import SyncError, SyncInterrupted, TenantError
from tenants.management.following import follow
from tenants.management.interrupts import stop_on_signals
from tenants.management.workers import tell_who_works
from tenants.models import SyncRun
from tenants.reconcile import (
    DEFAULT_MAX_RETIRE_PERCENT,
    dry_run,
    run_full_sync,
    sync_one_organization,
    sync_one_user,
)
from tenants.reconcile.full_sync import enqueue_full_sync
from tenants.runs import records


class Command(DatabaseCommand):
    """Sync all records of Clerk, or the given ids; exit with code 1 if a record failed or was not tried."""

    help = (
        "Brings the mirror up to date with Clerk: lists all organizations and memberships, or fetches the"
        " named ones. After Ctrl-C, the same command resumes the run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--dry-run", action="store_true", help="print and record what differs; change no tenant"
        )
        some = parser.add_mutually_exclusive_group()
        some.add_argument("--organization", metavar="ID", nargs="+", action="extend", help="only these")
        some.add_argument("--user", metavar="ID", help="only this user's memberships")
        parser.add_argument("--skip-memberships", action="store_true", help="organizations only")
        parser.add_argument(
            "--max-retire-percent",
            type=_percent,
            metavar="P",
            help="retire nothing if a larger part of the mirror, and more than 5, are missing from Clerk "
            f"(default {DEFAULT_MAX_RETIRE_PERCENT:.0f})",
        )
        parser.add_argument(
            "--enqueue", action="store_true", help="queue the full sync for the workers, and return"
        )
        parser.add_argument(
            "--follow", type=positive, metavar="RUN", help="show the progress of a run of workers"
        )
        parser.add_argument("--json", action="store_true", help="end with a summary as one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Enqueue, follow, compare or sync; raise CommandError with one message on failure."""
        if options["dry_run"] and _is_named(options):
            raise CommandError("--dry-run compares everything; leave out --organization and --user.")
        if options["enqueue"]:
            refuse_others("--enqueue is for the full sync", options, ("dry_run", "organization", "user"))
        progress = self.start_progress(options)
        if options["follow"] is not None:
            others = ("dry_run", "organization", "user", "skip_memberships", "max_retire_percent", "enqueue")
            refuse_others("--follow only watches", options, others)
            follow(options["follow"], progress, kind=SyncRun.Kind.FULL_SYNC, summarize=_summary)
            return
        summary: dict[str, Any] = {}
        try:
            with stop_on_signals() as stopping:
                summary |= _sync(options, progress, stopping)
        except (SyncError, TenantError, ClerkError) as error:
            message = _message(error, options)
            if options["json"]:
                summary |= {"error": message}
            raise CommandError(message) from error
        finally:
            progress.finish(summary)
        if summary.get("failed"):
            failed = summary["failed"]
            raise CommandError(
                f"{failed} {'record' if failed == 1 else 'records'} could not be synced; the others"
                " are synced. The lines above and the log say why. Remove the cause and run the command"
                " again."
            )


def _sync(options: Mapping[str, Any], progress: CommandProgress, stopping: Event) -> dict[str, Any]:
    if options["enqueue"]:
        return _enqueue(options, progress)
    if options["organization"] is not None:
        return _organizations(list(dict.fromkeys(options["organization"])), progress, stopping)
    if options["user"] is not None:
        return {"user": options["user"], "memberships": sync_one_user(options["user"])}
    skip = options["skip_memberships"]
    if options["dry_run"]:
        run, found = dry_run(
            lambda difference: progress.note(str(difference)),
            skip_memberships=skip,
            progress=progress,
            stopping=stopping,
        )
        return {"run": run.pk, **asdict(found)}
    percent = _max_retire_percent(options)
    return _summary(
        run_full_sync(skip_memberships=skip, max_retire_percent=percent, progress=progress, stopping=stopping)
    )


def _message(error: Exception, options: Mapping[str, Any]) -> str:
    """Return the error in one line. For an error of Clerk, add what was kept and what to do now."""
    if not isinstance(error, ClerkError):
        return str(error)
    left = (_left_by_a_named_one if _is_named(options) else _left_by_all)(error, options)
    return f"{sentence(error)} {left}".rstrip()


def _is_named(options: Mapping[str, Any]) -> bool:
    # An empty id, from a variable that is not set, names nothing and must not sync everything.
    return options["organization"] is not None or options["user"] is not None


def _left_by_a_named_one(error: ClerkError, options: Mapping[str, Any]) -> str:
    if not isinstance(error, ClerkUnavailable):
        return ""
    kept = "Nothing was written" if options["user"] is not None else "What was written is kept"
    return f"{kept}; run the same command again."


def _left_by_all(error: ClerkError, options: Mapping[str, Any]) -> str:
    if options["dry_run"]:
        return "No tenant was changed."
    if options["enqueue"]:
        return "No job was queued."
    run = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, holder=records.this_process()).first()
    if run is None or run.state == SyncRun.State.COMPLETED:
        return "" if isinstance(error, WrongInstance) else "Nothing was written."
    if run.state == SyncRun.State.INTERRUPTED:
        return "What was written is kept; run the same command again within the hour to resume."
    return "What was written is kept; the next sync starts from the beginning."


def _enqueue(options: Mapping[str, Any], progress: CommandProgress) -> dict[str, Any]:
    run = enqueue_full_sync(
        skip_memberships=options["skip_memberships"], max_retire_percent=_max_retire_percent(options)
    )
    tell_who_works(run, progress)
    return {"run": run.pk, "slices": run.slices.count()}


def _organizations(ids: list[str], progress: CommandProgress, stopping: Event) -> dict[str, Any]:
    failed = 0
    progress.start(len(ids), "organizations")
    for clerk_org_id in ids:
        if stopping.is_set():
            raise SyncInterrupted(
                f"Stopped before {clerk_org_id}. The results shown above are kept. Run the command again with"
                f" {clerk_org_id} and the organizations after it."
            )
        try:
            tenant = sync_one_organization(clerk_org_id)
        except (ClerkMisconfigured, ClerkUnavailable):
            raise  # Every other organization would fail as well.
        except Exception as error:
            if len(ids) == 1:
                raise
            failed += 1
            progress.note(f"{clerk_org_id}: {error}")
        else:
            progress.note(f"{clerk_org_id}: tenant {tenant.pk}, {tenant.status}")
        progress.advance()
    return {"organizations": len(ids) - failed, "failed": failed}


def _summary(run: SyncRun) -> dict[str, Any]:
    counts = {name: getattr(run, name) for name in ("created", "updated", "unchanged", "retired", "failed")}
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    return {"run": run.pk, "state": run.state, **counts, "seconds": seconds}


def _max_retire_percent(options: Mapping[str, Any]) -> float:
    given: float | None = options["max_retire_percent"]
    return DEFAULT_MAX_RETIRE_PERCENT if given is None else given


def _percent(text: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:  # noqa: PLR2004 - a percentage
        raise ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return percent
