"""What a complete listing did not show: asked for by id, and retired only when Clerk has it no more."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkNotFound, ClerkProtocolError, InvalidClerkId
from clerk_integration.organizations import (
    MAX_IDS,
    get_clerk_memberships,
    get_clerk_org,
    get_clerk_orgs,
)
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import validate_org_id
from tenants.exceptions import TooManyAbsent
from tenants.mirror import statements, writer
from tenants.models import SyncRun, Tombstone
from tenants.reconcile.progress import Progress
from tenants.runs import records
from tenants.sql import query

Item = TypeVar("Item")
Member = tuple[int, str, str, str]
"""Row id, organization id, user id and membership id."""

END_AT_ONCE = 500

COUNT_ORGANIZATIONS = """
SELECT count(*) FROM tenants
WHERE clerk_org_id IS NOT NULL AND deleted_at IS NULL AND created_at < %(began)s
"""

COUNT_MEMBERSHIPS = """
SELECT count(*) FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
WHERE memberships.is_active AND memberships.clerk_membership_id IS NOT NULL
  AND tenants.clerk_org_id IS NOT NULL AND tenants.deleted_at IS NULL AND memberships.created_at < %(began)s
"""

# EXCEPT is hashed or sorted whatever the planner thinks of tables that were filled a moment ago; NOT EXISTS
# may become a nested loop over all that was listed.
ABSENT_ORGANIZATIONS = f"""
SELECT clerk_org_id FROM tenants WHERE {statements.TENANT_CAN_BE_RETIRED}
EXCEPT SELECT unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s AND listing = %(listing)s
ORDER BY clerk_org_id
"""

ABSENT_MEMBERSHIPS = f"""
WITH absent AS MATERIALIZED (
    SELECT memberships.clerk_membership_id
    FROM memberships JOIN tenants ON tenants.id = memberships.tenant_id
    WHERE {statements.MEMBERSHIP_CAN_BE_ENDED}
      AND memberships.clerk_membership_id IS NOT NULL AND tenants.deleted_at IS NULL
    EXCEPT SELECT unnest(ids) FROM sync_run_pages WHERE run_id = %(run)s AND listing = %(listing)s)
SELECT memberships.id, tenants.clerk_org_id, memberships.clerk_user_id, memberships.clerk_membership_id
FROM absent JOIN memberships USING (clerk_membership_id)
JOIN tenants ON tenants.id = memberships.tenant_id
ORDER BY tenants.clerk_org_id, memberships.clerk_user_id
"""


class Guard:
    """Lets a run retire at most `max_percent` of what the mirror had when it began."""

    def __init__(self, run: SyncRun) -> None:
        self._run = run
        self._max_percent: float = run.cursor["max_retire_percent"]

    def refuse_short_listing(self, total: int) -> None:
        """Raise TooManyAbsent when Clerk counts so few organizations that too many must be absent."""
        [(living,)] = query(COUNT_ORGANIZATIONS, began=self._run.started_at)
        if living and not total:
            raise TooManyAbsent(
                f"Clerk lists no organization at all, and {living} are mirrored here. Nothing was changed."
                " Check CLERK_SECRET_KEY: manage.py check_clerk says whose key it is."
            )
        self._refuse(living - total, living, "organizations")

    def refuse_too_many_memberships(self, absent: int) -> None:
        """Raise TooManyAbsent when that many absent memberships are too many."""
        [(living,)] = query(COUNT_MEMBERSHIPS, began=self._run.started_at)
        self._refuse(absent, living, "memberships")

    def refuse_too_many_organizations(self, absent: int) -> None:
        """Raise TooManyAbsent when that many absent organizations are too many."""
        [(living,)] = query(COUNT_ORGANIZATIONS, began=self._run.started_at)
        self._refuse(absent, living, "organizations")

    def _refuse(self, absent: int, living: int, what: str) -> None:
        if absent > 0 and absent * 100 > self._max_percent * living:
            raise TooManyAbsent(
                f"{absent} of {living} {what} mirrored here are absent in Clerk ({absent / living:.0%}), more"
                f" than --max-retire-percent {self._max_percent:g} allows. None of them was retired. Check"
                " that CLERK_SECRET_KEY is of the right instance; if they are gone for good, allow more."
            )


def retire_organizations(run: SyncRun, progress: Progress) -> None:
    """Make tombstones of the organizations that the run did not meet and Clerk answers 404 for.

    Those that Clerk does have are mirrored instead. Calls Clerk once for each 100 absent ones, and
    once for each that is not among the answers. Raise TooManyAbsent and ClerkError.
    """
    rows = query(ABSENT_ORGANIZATIONS, run=run.pk, listing="organizations", as_of=run.started_at)
    if not rows:
        return
    Guard(run).refuse_too_many_organizations(len(rows))
    absent = _valid(run, [row[0] for row in rows], progress)
    progress.start(len(absent), "absent organizations")
    for ids in _batches(absent, MAX_IDS):
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            living = get_clerk_orgs(ids)
        writer.write_organizations(living)
        for clerk_org_id in sorted(set(ids) - {organization.id for organization in living}):
            _retire_if_gone(run, clerk_org_id, progress)
        progress.advance(len(ids))


def end_memberships(run: SyncRun, progress: Progress) -> None:
    """End the memberships that the run did not meet and that their organization does not list either.

    Those that Clerk does have are mirrored instead. Calls Clerk once for each 100 absent members of
    an organization. Raise TooManyAbsent and ClerkError.
    """
    absent: list[Member] = [
        (row[0], row[1], row[2], row[3])
        for row in query(ABSENT_MEMBERSHIPS, run=run.pk, listing="memberships", as_of=run.started_at)
    ]
    if not absent:
        return
    Guard(run).refuse_too_many_memberships(len(absent))
    progress.start(len(absent), "absent memberships")
    gone: list[int] = []
    for clerk_org_id, members in groupby(absent, key=lambda member: member[1]):
        for batch in _batches(members, MAX_IDS):
            gone += _gone(run, clerk_org_id, batch, progress)
            progress.advance(len(batch))
    for ids in _batches(gone, END_AT_ONCE):
        records.count(run, retired=writer.end_memberships(ids, listed_at=run.started_at))


def _retire_if_gone(run: SyncRun, clerk_org_id: str, progress: Progress) -> None:
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            organization = get_clerk_org(clerk_org_id)
    except ClerkNotFound:
        writer.record_organization_deleted(clerk_org_id, source=Tombstone.Source.NOT_FOUND)
        records.count(run, retired=1)
    except ClerkProtocolError as error:
        records.count(run, failed=1)
        progress.note(f"{clerk_org_id}: left as it is: {error}")
    else:
        writer.write_organizations([organization])


def _gone(run: SyncRun, clerk_org_id: str, members: Sequence[Member], progress: Progress) -> list[int]:
    """The rows among them whose user is no member in Clerk; the others are mirrored as they are there."""
    try:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            living = get_clerk_memberships(clerk_org_id, [member[2] for member in members])
    except ClerkNotFound:
        return [member[0] for member in members]
    except InvalidClerkId as error:
        records.count(run, failed=len(members))
        progress.note(f"{clerk_org_id}: {len(members)} members left as they are: {error}")
        return []
    writer.write_memberships(living)
    users = {membership.user_id for membership in living}
    return [
        row_id
        for row_id, _, user_id, membership_id in members
        if user_id not in users and living.proves_missing(membership_id)
    ]


def _valid(run: SyncRun, clerk_org_ids: Iterable[str], progress: Progress) -> list[str]:
    """The ids that Clerk can be asked for; another one is no organization of Clerk's, and left alone."""
    valid = []
    for clerk_org_id in clerk_org_ids:
        try:
            valid.append(validate_org_id(clerk_org_id))
        except InvalidClerkId as error:
            records.count(run, failed=1)
            progress.note(f"{clerk_org_id}: left as it is: {error}")
    return valid


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
