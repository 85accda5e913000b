"""Retire rows that are missing from a complete listing; restore listed organizations that have a tombstone.

Clerk is first asked for each id. A missing row is retired only if Clerk no longer has the record. An
organization with a tombstone is restored only if Clerk returns the organization. If one item raises an
exception, only that item fails.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby, islice
from typing import Any, NamedTuple, TypeVar

from django.db.models import Min

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkNotFound
from clerk_integration.organizations import MAX_IDS, get_clerk_memberships, get_clerk_org, get_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import ORGANIZATION, is_id
from tenants.creation.instances import FEW
from tenants.exceptions import TooManyMissing
from tenants.mirror import deletions, statements, writer
from tenants.models import Membership, SyncRun, Tenant, Tombstone
from tenants.reconcile.isolation import Isolation
from tenants.reconcile.progress import Progress
from tenants.runs import leases, records
from tenants.services import sync_organization
from tenants.sql import query

Item = TypeVar("Item")

END_AT_ONCE = 500

# The planner has no statistics of tables that were just filled. Even then, EXCEPT uses a hash or a sort; NOT
# EXISTS may become a nested loop over all listed ids.
MISSING_ORGANIZATIONS = f"""
WITH missing AS MATERIALIZED (
    SELECT clerk_org_id FROM tenants WHERE {statements.TENANT_CAN_BE_RETIRED}
    EXCEPT SELECT unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s AND listing = 'organizations')
SELECT clerk_org_id, created_at FROM missing JOIN tenants USING (clerk_org_id)
ORDER BY clerk_org_id
"""

MISSING_MEMBERSHIPS = f"""
WITH missing AS MATERIALIZED (
    SELECT memberships.clerk_membership_id
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE {statements.MEMBERSHIP_CAN_BE_ENDED}
      AND memberships.clerk_membership_id IS NOT NULL AND tenants.deleted_at IS NULL
    EXCEPT SELECT unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s AND listing = 'memberships')
SELECT memberships.id, tenants.clerk_org_id, memberships.clerk_user_id, memberships.clerk_membership_id,
       memberships.created_at
FROM missing JOIN memberships USING (clerk_membership_id)
JOIN tenants ON tenants.id = memberships.tenant_id
ORDER BY tenants.clerk_org_id, memberships.clerk_user_id
"""

CONTRADICTED_TOMBSTONES = """
SELECT clerk_id FROM tombstones
WHERE kind = 'organization' AND created_at <= clock_timestamp() - %(age)s
  AND clerk_id IN (
      SELECT unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s AND listing = 'organizations')
ORDER BY clerk_id
"""


class Member(NamedTuple):
    """A mirrored membership that is missing from the listing."""

    row_id: int
    clerk_org_id: str
    clerk_user_id: str
    membership_id: str
    created_at: datetime


def restore_organizations(run: SyncRun, progress: Progress) -> None:
    """Restore the organizations that the run found although they have had a tombstone for at least 60 s.

    Send two requests for each organization, and one for each 500 members. Write the rows that
    `services.sync_organization` writes.
    """
    rows = query(CONTRADICTED_TOMBSTONES, run=run.pk, age=deletions.RESTORABLE_AFTER)
    isolation = Isolation(run, progress)
    for (clerk_org_id,) in rows:
        with isolation.item(clerk_org_id), clerk_deadline(JOB_TIMEOUT_SECONDS):
            if sync_organization(clerk_org_id) is not None:
                records.count(run, updated=1)
                progress.note(
                    f"{clerk_org_id}: recorded as deleted, but Clerk has it; its tenant is restored"
                )


def retire_organizations(run: SyncRun, progress: Progress) -> None:
    """Record organizations as deleted if the run did not find them and Clerk answers 404 for their ids.

    Mirror the missing organizations that Clerk still has. Send one request for each 100 missing
    organizations, and one more for each organization that the reply does not contain. Raise TooManyMissing.
    """
    rows = query(MISSING_ORGANIZATIONS, run=run.pk, as_of=run.started_at)
    _refuse_too_many(run, "organizations", [created_at for _, created_at in rows])
    progress.start(len(rows), "missing organizations")
    isolation = Isolation(run, progress)
    for batch in _batches([row[0] for row in rows], MAX_IDS):
        living: set[str] = set()
        with isolation.item(f"missing organizations, {len(batch)} in one request", count=0):
            living = _mirror_living(
                [clerk_org_id for clerk_org_id in batch if is_id(clerk_org_id, ORGANIZATION)]
            )
        for clerk_org_id in sorted(set(batch) - living):
            with isolation.item(clerk_org_id):
                _retire_if_gone(run, clerk_org_id)
        progress.advance(len(batch))


def end_memberships(run: SyncRun, progress: Progress) -> None:
    """End the memberships that the run did not find and that their organization's list does not contain.

    Mirror the missing memberships that Clerk still has. Send one request for each 100 missing members of an
    organization. Raise TooManyMissing.
    """
    missing = [Member(*row) for row in query(MISSING_MEMBERSHIPS, run=run.pk, as_of=run.started_at)]
    _refuse_too_many(run, "memberships", [member.created_at for member in missing])
    progress.start(len(missing), "missing memberships")
    isolation = Isolation(run, progress)
    gone: list[int] = []
    for clerk_org_id, members in groupby(missing, key=lambda member: member.clerk_org_id):
        for batch in _batches(members, MAX_IDS):
            with isolation.item(
                f"missing members of {clerk_org_id}, {len(batch)} in one request", count=len(batch)
            ):
                gone += _gone(clerk_org_id, batch)
            progress.advance(len(batch))
    for ids in _batches(gone, END_AT_ONCE):
        leases.renew(run)
        records.count(run, retired=writer.end_memberships(ids, listed_at=run.started_at))


def _refuse_too_many(run: SyncRun, what: str, missing: Sequence[datetime]) -> None:
    """Raise TooManyMissing if more rows are missing than `--max-retire-percent` and FEW allow.

    `missing` has the creation time of each missing row. Count only rows that are older than the first full
    sync after the last completed one, both for the missing and for the mirrored rows: a run that was refused
    may have written the newer rows. If no full sync was ever completed, also compare all missing with all
    mirrored rows, because there may be no older ones.
    """
    if len(missing) <= FEW:
        return
    last = records.last_complete()
    later = SyncRun.objects.filter(kind=SyncRun.Kind.FULL_SYNC, pk__gt=last.pk if last else 0)
    began = later.aggregate(began=Min("started_at"))["began"]
    mirrored = _living(what)
    old = sum(created_at < began for created_at in missing)
    counts = [(old, mirrored.filter(created_at__lt=began).count())]
    if last is None:
        counts.append((len(missing), mirrored.count()))
    percent: float = run.cursor["max_retire_percent"]
    for absent, total in counts:
        if absent > max(FEW, percent * total / 100):
            raise TooManyMissing(
                f"{absent} of {total} {what} that are mirrored here are missing from Clerk, more than"
                f" --max-retire-percent {percent:g} allows. None of them was retired; the rest of the sync"
                " was written. If they were deleted in Clerk, allow a higher percentage."
            )


def _living(what: str) -> Any:
    if what == "organizations":
        return Tenant.objects.filter(clerk_org_id__isnull=False, deleted_at=None)
    return Membership.objects.filter(
        is_active=True,
        clerk_membership_id__isnull=False,
        tenant__clerk_org_id__isnull=False,
        tenant__deleted_at=None,
    )


def _mirror_living(clerk_org_ids: Sequence[str]) -> set[str]:
    with clerk_deadline(JOB_TIMEOUT_SECONDS):
        living = get_clerk_orgs(clerk_org_ids)
    writer.write_organizations(living)
    return {organization.id for organization in living}


def _retire_if_gone(run: SyncRun, clerk_org_id: str) -> None:
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            organization = get_clerk_org(clerk_org_id)
    except ClerkNotFound:
        deletions.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)
        records.count(run, retired=1)
    else:
        writer.write_organizations([organization])


def _gone(clerk_org_id: str, members: Sequence[Member]) -> list[int]:
    """Return the row ids of the members that Clerk no longer has; mirror the members that Clerk has."""
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            living = get_clerk_memberships(clerk_org_id, [member.clerk_user_id for member in members])
    except ClerkNotFound:
        return [member.row_id for member in members]
    writer.write_memberships(living)
    users = {membership.user_id for membership in living}
    return [
        member.row_id
        for member in members
        if member.clerk_user_id not in users and living.proves_missing(member.membership_id)
    ]


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
