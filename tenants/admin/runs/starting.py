"""Start a full sync, a dry run or a migration from the admin: a question first, then a run of workers."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from django import forms
from procrastinate.exceptions import AlreadyEnqueued

from clerk_integration.jobs.queue import queue
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.pace import paced
from tenants.admin.actions.forms import UserIdField
from tenants.backfill.plan import make_plan
from tenants.backfill.run import enqueue_migration
from tenants.models import SyncRun
from tenants.reconcile.dry_run import RECORD_DRY_RUN
from tenants.reconcile.full_sync import enqueue_full_sync
from tenants.runs import slices

PLAN_SECONDS = 15.0
"""How long a request may plan a migration: some 30 pages of Clerk's list."""

MAX_WAIT_SECONDS = 5.0


class StartForm(forms.Form):
    """Asks for nothing."""

    def options(self) -> dict[str, str]:
        """Return what was entered."""
        return {name: value for name, value in self.cleaned_data.items() if value}


class MigrationForm(StartForm):
    """Asks for the first member of tenants without an owner."""

    owner = UserIdField(
        label="Owner of tenants without one",
        help_text="A Clerk user id: user_ followed by letters and digits. Leave empty to skip these tenants.",
    )


def start_full_sync(started_by: str) -> SyncRun:
    """Leave a full sync to the workers. Raise ClerkError and SyncAlreadyRunning."""
    with paced(max_wait=MAX_WAIT_SECONDS), clerk_deadline(PLAN_SECONDS):
        return _started(enqueue_full_sync(), started_by)


def start_dry_run(started_by: str) -> None:
    """Leave a dry run to the workers; the run begins with its job."""
    with suppress(AlreadyEnqueued):
        queue.defer_job(slices.job(RECORD_DRY_RUN, queueing_lock=RECORD_DRY_RUN, started_by=started_by))


def start_migration(started_by: str, owner: str | None = None) -> SyncRun:
    """Plan a migration of all legacy tenants and leave it to the workers. Raise ClerkError."""
    with paced(max_wait=MAX_WAIT_SECONDS), clerk_deadline(PLAN_SECONDS):
        plan = make_plan(owner=owner)
    return _started(enqueue_migration(plan, report=lambda outcome: None), started_by)


def _started(run: SyncRun, started_by: str) -> SyncRun:
    SyncRun.objects.filter(pk=run.pk).update(started_by=started_by)
    return run


@dataclass(frozen=True, slots=True)
class Starter:
    """A kind of run that staff may start: its button, its question and its permission."""

    kind: SyncRun.Kind
    label: str
    question: str
    start: Callable[..., SyncRun | None]
    form: type[StartForm] = StartForm


STARTERS: Mapping[str, Starter] = {
    starter.kind.value: starter
    for starter in (
        Starter(
            SyncRun.Kind.FULL_SYNC,
            "Start full sync",
            "Workers read all organizations and memberships from Clerk, and bring the tenants up to date."
            " Tenants whose organization Clerk no longer has are deactivated. Local settings, members of"
            " legacy tenants and Clerk itself are not changed.",
            start_full_sync,
        ),
        Starter(
            SyncRun.Kind.DRY_RUN,
            "Start dry run (drift)",
            "A worker compares all organizations and memberships with Clerk, and records the differences."
            " No tenant is changed.",
            start_dry_run,
        ),
        Starter(
            SyncRun.Kind.MIGRATION,
            "Start migration",
            "Workers create an organization in Clerk for every legacy tenant, with its owner as the first"
            " member and its other members, and link it. Tenants that cannot be migrated are named and left"
            " unchanged. Nothing is created twice.",
            start_migration,
            MigrationForm,
        ),
    )
}
