"""Clerk's two lists of everything: how the pages of each are written in a run, and what ends it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Any, Generic

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.organizations import get_clerk_memberships_page, get_clerk_orgs_page
from clerk_integration.wire.overlap import Position
from clerk_integration.wire.pages import ClerkPage, FetchPage, Record
from clerk_integration.wire.passes import read_slice, read_whole
from tenants.creation import attempts
from tenants.creation.search import UNRESOLVED_SECONDS
from tenants.exceptions import SyncInterrupted
from tenants.mirror import writer
from tenants.models import SyncRun
from tenants.reconcile import absence
from tenants.reconcile.progress import Progress
from tenants.runs import pages


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    """A list of Clerk's: its name on record, how a page is fetched and written, and what the whole ends."""

    name: str
    fetch: FetchPage[Record]
    write: Callable[[pages.RunPage, Sequence[Record]], writer.Written]
    retire: Callable[[SyncRun, absence.Guard, Progress], None]


def _retire_organizations(run: SyncRun, guard: absence.Guard, progress: Progress) -> None:
    """Creations that all of Clerk does not show have created nothing."""
    attempts.fail_creations(sent_before=run.started_at - timedelta(seconds=UNRESOLVED_SECONDS))
    absence.retire_organizations(run, guard, progress)


ORGANIZATIONS: Listing[ClerkOrganization] = Listing(
    "organizations", get_clerk_orgs_page, writer.write_organization_page, _retire_organizations
)
MEMBERSHIPS: Listing[ClerkMembership] = Listing(
    "memberships", get_clerk_memberships_page, writer.write_membership_page, absence.end_memberships
)


def sync_listing(
    run: SyncRun,
    listing: Listing[Any],
    guard: absence.Guard,
    progress: Progress,
    *,
    stopping: Event,
    first_pass_is_broken: bool = False,
) -> None:
    """Read and write a whole list, and retire what it does not show.

    What the run has on record of it already is not read again, unless `first_pass_is_broken`. Raise
    SyncInterrupted, ListingIncomplete, SyncLost, TooManyAbsent and ClerkError.
    """
    before_first = guard.refuse_short_listing if listing is ORGANIZATIONS else None
    writer = PageWriter(run, listing, progress, stopping, before_first=before_first)
    writer.read(first_pass_is_broken=first_pass_is_broken)
    if writer.nothing_hidden():
        listing.retire(run, guard, progress)


class PageWriter(Generic[Record]):
    """Writes the pages of one list in one run, and stops between two pages when told to."""

    def __init__(
        self,
        run: SyncRun,
        listing: Listing[Record],
        progress: Progress,
        stopping: Event,
        *,
        before_first: Callable[[int], None] | None = None,
        slice_number: int = 0,
    ) -> None:
        """With `before_first`, ask it about Clerk's total before anything is written; it may raise."""
        self._before_first = before_first
        self._slice_number = slice_number
        self._counted = 0
        self._run = run
        self._listing = listing
        self._progress = progress
        self._stopping = stopping

    def read(self, *, first_pass_is_broken: bool = False) -> None:
        """Read and write the whole list, behind the page that the run has on record last.

        Raise SyncInterrupted between two pages, ListingIncomplete, SyncLost and ClerkError.
        """
        self._progress.start(None, self._listing.name)
        last = pages.last_page(self._run, self._listing.name)
        if last is None:
            read_whole(self._listing.fetch, self)
        elif first_pass_is_broken and last.pass_number == 1:
            read_whole(self._listing.fetch, self, pass_number=2)
        else:
            self._count_to(last.end)
            read_whole(self._listing.fetch, self, pass_number=last.pass_number, resume_after=_position(last))

    def read_slice(self, start: int, until: int | None) -> bool:
        """Read and write the slice between two offsets, behind its page that is on record last.

        Return whether nothing is hidden between its pages. Raise SyncLost and ClerkError.
        """
        last = pages.last_page(self._run, self._listing.name, slice_number=self._slice_number)
        resume_after = None if last is None else _position(last)
        return read_slice(self._listing.fetch, self, start=start, until=until, resume_after=resume_after)

    def handle_page(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Write a page and record it, in one transaction."""
        if self._before_first is not None:
            self._before_first(page.total)
            self._before_first = None
        self._listing.write(self._on_record(pass_number, page), page.records)
        self._progress.expect(page.total)
        self._count_to(page.end)
        if self._stopping.is_set():
            raise SyncInterrupted(
                f"Stopped. Full sync {self._run.pk} keeps what it has read; the same command goes on from"
                " there within the hour, and starts over after that."
            )

    def count_seen(self, pass_number: int) -> int:
        """Return how many different records the pass has met, by the run's record."""
        return pages.count_seen(self._run, self._listing.name, pass_number)

    def nothing_hidden(self) -> bool:
        """Whether every record could be read; else what is absent may be one of those that could not."""
        skipped = pages.count_skipped(self._run, self._listing.name)
        if skipped:
            self._progress.note(
                f"{skipped} {self._listing.name} in Clerk could not be read, so nothing was retired for being"
                " absent; the log says which they are."
            )
        return not skipped

    def _count_to(self, end: int) -> None:
        """Tell how far it is: pages overlap, and a pass may be repeated."""
        self._progress.advance(max(0, end - self._counted))
        self._counted = max(self._counted, end)

    def _on_record(self, pass_number: int, page: ClerkPage[Record]) -> pages.RunPage:
        return pages.RunPage(
            run_id=self._run.pk,
            holder=self._run.holder,
            listing=self._listing.name,
            pass_number=pass_number,
            slice_number=self._slice_number,
            offset=page.offset,
            total=page.total,
            skipped=page.skipped,
            ids=[record.id for record in page.records],
            asked_at=self._run.started_at,
        )


def _position(page: pages.RunPage) -> Position:
    return Position(page.end, page.total, frozenset(page.ids))
