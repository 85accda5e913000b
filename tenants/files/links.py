"""Link legacy tenants to existing organizations from a file. Check the whole file before the first link."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from django.db import connection
from django.db.models.functions import Now

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.exceptions import ClerkError, ClerkNotFound, InvalidClerkId
from clerk_integration.organizations import get_clerk_orgs
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.ids import validate_org_id
from clerk_integration.wire.pace import paced
from tenants.exceptions import TenantError
from tenants.files.parsing import Problems, csv_rows, opened
from tenants.mirror.absorb import why_not_absorbed
from tenants.models import SyncRun, Tenant, Tombstone
from tenants.runs import records
from tenants.runs.failures import FailureStreak
from tenants.runs.leases import held_runs
from tenants.services import TenantService

logger = logging.getLogger(__name__)

COLUMNS = {"tenant_id", "clerk_org_id"}

CHUNK = 100
"""Number of lines that are checked together: Clerk returns up to 100 organizations by id in one call."""


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the file."""

    line: int
    tenant_id: int
    clerk_org_id: str


@dataclass(frozen=True, slots=True)
class Linked:
    """The result of one line; `error` is empty if the tenant is linked.

    `kind` is the kind of an error that may also affect other lines.
    """

    link: Link
    error: str = ""
    kind: str = ""


def read_links(path: Path) -> tuple[list[Link], int]:
    """Read and check a file with the columns tenant_id and clerk_org_id.

    Return the links to make, and how many exist already, so that the same file can be used again. Call
    Clerk once for each 100 lines. Raise InvalidFile, which names the wrong lines, and ClerkError.
    """
    problems = Problems()
    with opened(path) as file:
        links = list(_parsed(csv_rows(file, required=COLUMNS, optional=set(), problems=problems), problems))
    todo: list[Link] = []
    with paced():
        for start in range(0, len(links), CHUNK):
            todo += _possible(links[start : start + CHUNK], problems)
    problems.raise_any()
    return todo, len(links) - len(todo)


def link_all(links: Sequence[Link], *, stopping: Event, report: Callable[[Linked], None]) -> None:
    """Make the links one by one, each in a transaction of its own; call `report` with each result.

    Write and call Clerk as `TenantService.link_to_clerk_org`. Write also a row in `sync_runs`; an exception
    ends this run as failed. When `stopping` is set, stop after the current link. Raise FailedAlike after
    several links in a row that failed for the same reason.
    """
    results: list[Linked] = []
    streak = FailureStreak()
    with records.recorded_run(SyncRun.Kind.LINK) as lease, paced():
        try:
            for link in links:
                if stopping.is_set():
                    break
                lease.check()
                results.append(_link(link))
                report(results[-1])
                streak.add(f"line {link.line}", kind=results[-1].kind, message=results[-1].error)
        finally:
            problems = [f"line {result.link.line}: {result.error}\n" for result in results if result.error]
            run = held_runs(lease.run)
            run.update(created=len(results) - len(problems), failed=len(problems), error="".join(problems))
        state = SyncRun.State.FAILED if problems else SyncRun.State.COMPLETED
        if len(results) < len(links):
            state = SyncRun.State.INTERRUPTED
        run.update(state=state, finished_at=Now(), lease_expires_at=None)


def _link(link: Link) -> Linked:
    try:
        tenant = Tenant.objects.get(pk=link.tenant_id)
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            TenantService.link_to_clerk_org(tenant, link.clerk_org_id, acting_user=None)
    except Tenant.DoesNotExist:
        return Linked(link, "the tenant was deleted since the file was checked")
    except (ClerkNotFound, TenantError) as error:
        return Linked(link, str(error))
    except ClerkError as error:
        return Linked(link, str(error), kind=type(error).__name__)
    except Exception as error:  # one link must not stop the others
        logger.warning("Line %s was not linked: %s", link.line, error)
        connection.close_if_unusable_or_obsolete()
        return Linked(link, f"{type(error).__name__}: {error}", kind=type(error).__name__)
    return Linked(link)


def _parsed(rows: Iterator[tuple[int, Mapping[str, str]]], problems: Problems) -> Iterator[Link]:
    seen: dict[int | str, int] = {}
    for line, values in rows:
        link = _parse(line, values, problems)
        if link is None:
            continue
        for kind, key in (("tenant", link.tenant_id), ("organization", link.clerk_org_id)):
            first = seen.setdefault(key, line)
            if first != line:
                problems.add(line, f"{kind} {key} is already in line {first}")
        yield link


def _parse(line: int, values: Mapping[str, str], problems: Problems) -> Link | None:
    tenant_id = values["tenant_id"].strip()
    if not (tenant_id.isascii() and tenant_id.isdecimal() and len(tenant_id) < 19):  # noqa: PLR2004  (bigint)
        problems.add(line, f"{tenant_id!r} is not a tenant id")
        return None
    try:
        return Link(line, int(tenant_id), validate_org_id(values["clerk_org_id"].strip()))
    except InvalidClerkId:
        problems.add(line, f"{values['clerk_org_id']!r} is not an organization id")
        return None


def _possible(links: Sequence[Link], problems: Problems) -> Iterator[Link]:
    """Yield the links to make; add a problem for each link that cannot be made."""
    ids = [link.clerk_org_id for link in links]
    tenants = Tenant.objects.in_bulk([link.tenant_id for link in links])
    mirrors = {str(tenant.clerk_org_id): tenant for tenant in Tenant.objects.filter(clerk_org_id__in=ids)}
    deleted = Tombstone.objects.filter(kind=Tombstone.Kind.ORGANIZATION, clerk_id__in=ids)
    known = {organization.id for organization in get_clerk_orgs(ids)}
    known_here = _Known(tenants, mirrors, set(deleted.values_list("clerk_id", flat=True)), known)
    for link in links:
        tenant = tenants.get(link.tenant_id)
        if tenant is not None and tenant.clerk_org_id == link.clerk_org_id:
            continue
        problem = known_here.problem_of(link)
        if problem is None:
            yield link
        else:
            problems.add(link.line, problem)


@dataclass(frozen=True)
class _Known:
    """What the database and Clerk know about the tenants and organizations of some lines."""

    tenants: Mapping[int, Tenant]
    mirrors: Mapping[str, Tenant]
    deleted: Collection[str]
    known: Collection[str]

    def problem_of(self, link: Link) -> str | None:
        """Return why the link cannot be made; None if it can."""
        tenant = self.tenants.get(link.tenant_id)
        if tenant is None:
            return f"there is no tenant {link.tenant_id}"
        if tenant.clerk_org_id is not None:
            linked = f"tenant {tenant.pk} is linked to {tenant.clerk_org_id}"
            return f"{linked}; run `unlink_tenants {tenant.pk}` first"
        if link.clerk_org_id in self.deleted:
            return f"{link.clerk_org_id} was deleted in Clerk"
        if link.clerk_org_id not in self.known:
            return f"Clerk has no organization {link.clerk_org_id}"
        mirror = self.mirrors.get(link.clerk_org_id)
        reasons = [] if mirror is None else why_not_absorbed(mirror)
        if mirror is not None and reasons:
            return f"{link.clerk_org_id} is linked to tenant {mirror.pk}: {'; '.join(reasons)}"
        return None
