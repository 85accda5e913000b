"""Read Clerk's lists of all organizations and all memberships; write and record each page."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Any, Generic

from django.db import DataError, IntegrityError

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.organizations import get_clerk_memberships_page, get_clerk_orgs_page
from clerk_integration.wire.overlap import Position
from clerk_integration.wire.pages import ClerkPage, FetchPage, Record
from clerk_integration.wire.passes import read_slice, read_whole
from tenants.creation.search import UNRESOLVED_SECONDS
from tenants.exceptions import SyncInterrupted, TooManyMissing
from tenants.mirror import writer
from tenants.models import CreationAttempt, SyncRun, SyncRunPage, SyncRunSlice
from tenants.reconcile import missing
from tenants.reconcile.progress import Progress
from tenants.runs import pages, records

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    """One of Clerk's lists: how to fetch a page, write a page, write one record, and retire missing rows."""

    name: str
    fetch: FetchPage[Record]
    write: Callable[[SyncRunPage, Sequence[Record]], writer.Written]
    write_one: Callable[[Sequence[Record]], writer.Written]
    retire: Callable[[SyncRun, Progress], None]


def _retire_organizations(run: SyncRun, progress: Progress) -> None:
    """Restore and retire organizations; record creations without an organization in Clerk as failed.

    If an organization could not be read, record no creation as failed: the organization may carry the marker.
    """
    if not pages.count_skipped(run, ORGANIZATIONS.name):
        sent_before = run.started_at - timedelta(seconds=UNRESOLVED_SECONDS)
        unresolved = CreationAttempt.objects.unresolved(sent_before=sent_before)
        unresolved.update(state=CreationAttempt.State.FAILED)
    missing.restore_organizations(run, progress)
    missing.retire_organizations(run, progress)


ORGANIZATIONS: Listing[ClerkOrganization] = Listing(
    "organizations",
    get_clerk_orgs_page,
    writer.write_organization_page,
    writer.write_organizations,
    _retire_organizations,
)
MEMBERSHIPS: Listing[ClerkMembership] = Listing(
    "memberships",
    get_clerk_memberships_page,
    writer.write_membership_page,
    writer.write_memberships,
    missing.end_memberships,
)
LISTINGS: dict[str, Listing[Any]] = {listing.name: listing for listing in (ORGANIZATIONS, MEMBERSHIPS)}


class ListingReader(Generic[Record]):
    """Reads one list for a run. Writes and records each page; stops after a page if `stopping` is set."""

    def __init__(
        self,
        run: SyncRun,
        listing: Listing[Record],
        progress: Progress,
        stopping: Event,
    ) -> None:
        self.listing = listing
        self._run = run
        self._progress = progress
        self._stopping = stopping
        self._slice_number = 0
        self._counted = 0

    def read_slice(self, piece: SyncRunSlice) -> None:
        """Read and write a slice, beginning after its last recorded page; set `broken` if it has a gap.

        Raise SyncInterrupted after a page if `stopping` is set, SyncLost and ClerkError.
        """
        self._slice_number = piece.number
        last = pages.last_page(self._run, self.listing.name, slice_number=piece.number)
        self._progress.start(None, self.listing.name)
        self._count_to(0 if last is None else last.end)
        piece.broken = not read_slice(
            self.listing.fetch, self, resume_after=_position(last), **piece.arguments
        )

    def conclude(self) -> None:
        """Read the records that the slices may have missed; then retire missing rows.

        If too many rows are missing, retire nothing in this list and in the run's next list, and record the
        reason in the run.
        Raise SyncInterrupted, ListingIncomplete, SyncLost and ClerkError.
        """
        self._read_rest()
        self._note_unreadable()
        if self._run.error:
            return
        try:
            self.listing.retire(self._run, self._progress)
        except TooManyMissing as refusal:
            records.record_error(self._run, str(refusal))

    def handle_page(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Write a page and record it, in one transaction."""
        run_page = self._run_page(pass_number, page)
        try:
            self.listing.write(run_page, page.records)
        except (DataError, IntegrityError, ValueError):
            self.listing.write(run_page, self._writable(page.records))
        self._progress.expect(page.total)
        self._count_to(page.end)
        if self._stopping.is_set():
            raise SyncInterrupted(
                f"Stopped. The pages that full sync {self._run.pk} has read are kept. Run the same command"
                " within an hour to resume; after an hour, it starts from the beginning."
            )

    def count_seen(self, pass_number: int) -> int:
        """Return how many different records the pass has read, as its recorded pages show."""
        return pages.count_seen(self._run, self.listing.name, pass_number)

    def _read_rest(self) -> None:
        """Read the part of the list that the slices may have missed.

        | pages recorded so far                        | read                                       |
        | -------------------------------------------- | ------------------------------------------ |
        | one slice, as many records as Clerk counts   | nothing                                    |
        | slices without a gap                         | the rest of the list, after the last slice |
        | slices with a gap in or between slices       | the whole list again, as pass 2            |
        | pages of pass 2 or later                     | the rest of this pass                      |
        """
        if pages.is_one_slice_whole(self._run, self.listing.name):
            return
        last = pages.last_page(self._run, self.listing.name)
        pass_number = 1 if last is None else last.pass_number
        if pass_number == 1 and not pages.is_joined(self._run, self.listing.name):
            last, pass_number = None, 2
        read_whole(self.listing.fetch, self, pass_number=pass_number, resume_after=_position(last))

    def _writable(self, records_of_page: Sequence[Record]) -> list[Record]:
        """Write the records one by one; return the written records, and report each record that failed."""
        writable = []
        for record in records_of_page:
            try:
                self.listing.write_one([record])
            except (DataError, IntegrityError, ValueError) as error:
                logger.warning("Full sync %s could not write %s: %s", self._run.pk, record.id, error)
                self._progress.note(f"{record.id}: could not be written: {error}")
            else:
                writable.append(record)
        return writable

    def _note_unreadable(self) -> None:
        """Report the number of records that could not be read and have no id."""
        skipped = pages.count_skipped(self._run, self.listing.name)
        if skipped:
            self._progress.note(
                f"Unreadable {self.listing.name} without an id in Clerk: {skipped}. They are not mirrored;"
                " the log says why. A row that is missing from the list is retired only after Clerk has"
                " confirmed that its id does not exist."
            )

    def _count_to(self, end: int) -> None:
        """Report progress up to record `end`. Count each record once, even if it is read twice."""
        self._progress.advance(max(0, end - self._counted))
        self._counted = max(self._counted, end)

    def _run_page(self, pass_number: int, page: ClerkPage[Record]) -> SyncRunPage:
        return SyncRunPage(
            run=self._run,
            listing=self.listing.name,
            pass_number=pass_number,
            slice_number=self._slice_number,
            offset=page.offset,
            total=page.total,
            skipped=page.nameless,
            ids=list(page.ids),
        )


def _position(page: SyncRunPage | None) -> Position | None:
    return None if page is None else Position(page.end, page.total, frozenset(page.ids))
