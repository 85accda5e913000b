"""Clerk's two lists of everything, and how the pages of each are written in a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Generic

from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.listing import ClerkPage
from clerk_integration.organizations import get_clerk_memberships_page, get_clerk_orgs_page
from tenants import runs, sync
from tenants.exceptions import SyncInterrupted
from tenants.models import SyncRun
from tenants.reconcile.progress import Progress
from tenants.reconcile.reading import Fetch, Position, Record, read_whole


@dataclass(frozen=True, slots=True)
class Listing(Generic[Record]):
    """A list of Clerk's: its name on record, how a page is fetched and how it is written."""

    name: str
    fetch: Fetch[Record]
    write: Callable[[runs.RunPage, Sequence[Record]], sync.Written]


ORGANIZATIONS: Listing[ClerkOrganization] = Listing(
    "organizations", get_clerk_orgs_page, sync.write_organization_page
)
MEMBERSHIPS: Listing[ClerkMembership] = Listing(
    "memberships", get_clerk_memberships_page, sync.write_membership_page
)


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
    ) -> None:
        """With `before_first`, ask it about Clerk's total before anything is written; it may raise."""
        self._before_first = before_first
        self._run = run
        self._listing = listing
        self._progress = progress
        self._stopping = stopping

    def read(self) -> None:
        """Read and write the whole list, behind the page that the run has on record last.

        Raise SyncInterrupted between two pages, ListKeepsMoving, SyncLost and ClerkError.
        """
        self._progress.start(None, self._listing.name)
        last = runs.last_page(self._run, self._listing.name)
        if last is None:
            read_whole(self._listing.fetch, self)
            return
        behind = Position(last.end, last.total, frozenset(last.ids))
        self._progress.advance(last.end)
        read_whole(self._listing.fetch, self, pass_number=last.pass_number, behind=behind)

    def take(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Write a page and record it, in one transaction."""
        if self._before_first is not None:
            self._before_first(page.total)
            self._before_first = None
        self._listing.write(self._on_record(pass_number, page), page.records)
        self._progress.expect(page.total)
        self._progress.advance(page.end - page.offset)
        if self._stopping.is_set():
            raise SyncInterrupted(
                f"Stopped. Full sync {self._run.pk} keeps what it has read; the same command goes on from"
                " there within the hour, and starts over after that."
            )

    def seen(self, pass_number: int) -> int:
        """Return how many different records the pass has met, by the run's record."""
        return runs.count_seen(self._run, self._listing.name, pass_number)

    def nothing_hidden(self) -> bool:
        """Whether every record could be read; else what is absent may be one of those that could not."""
        skipped = runs.count_skipped(self._run, self._listing.name)
        if skipped:
            self._progress.note(
                f"{skipped} {self._listing.name} in Clerk could not be read, so nothing was retired for being"
                " absent; the log says which they are."
            )
        return not skipped

    def _on_record(self, pass_number: int, page: ClerkPage[Record]) -> runs.RunPage:
        return runs.RunPage(
            run_id=self._run.pk,
            holder=self._run.holder,
            listing=self._listing.name,
            pass_number=pass_number,
            offset=page.offset,
            total=page.total,
            skipped=page.skipped,
            ids=[record.id for record in page.records],
        )
