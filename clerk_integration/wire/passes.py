"""Complete listings: the only reader of Clerk's lists.

A list is read in passes (see `overlap`). A pass is complete if its pages continue each other and it has read
at least as many different records as Clerk counted on the last page. Otherwise the list is read again from
the start, in at most MAX_PASSES passes.

The first pass may be split into slices that several processes read at the same time. Each slice begins
OVERLAP records before the end of the slice before it, so that slices continue each other as pages do.

Known gap: a deletion and an insertion can cancel out in the count if both happen between the last two
requests, or if the inserted record's date puts it on a page already read. No row is therefore retired only
because a listing lacks it (see `tenants.reconcile.missing`); the next listing shows the new record.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from time import monotonic
from typing import Generic, Protocol

from clerk_integration.conf import JOB_TIMEOUT_SECONDS, clerk_settings
from clerk_integration.exceptions import ListingIncomplete
from clerk_integration.wire.deadlines import clerk_deadline, default_deadline
from clerk_integration.wire.overlap import Pass, Position
from clerk_integration.wire.pages import ClerkPage, FetchPage, Record, SkippedRecord

MAX_PASSES = 3


class PageHandler(Protocol[Record]):
    """Receives the pages of a list."""

    def handle_page(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Receive one page of a pass."""

    def count_seen(self, pass_number: int) -> int:
        """Return how many different records the pass has read, including skipped records."""


class SeenRecords:
    """The records that a listing has read, kept in memory. (A full sync keeps them in its page rows.)"""

    def __init__(self) -> None:
        self.skipped: list[SkippedRecord] = []
        """The records of the current pass that could not be read."""
        self._read_ids: set[str] = set()
        self._pass_number = 0
        self._ids_of_pass: set[str] = set()

    @property
    def ids(self) -> set[str]:
        """The ids of all records, including skipped records that have an id."""
        return self._read_ids | self._ids_of_pass

    def add(self, pass_number: int, page: ClerkPage[Record]) -> list[Record]:
        """Add the records of a page; return the records that no earlier page contained."""
        if pass_number != self._pass_number:
            self._pass_number, self._ids_of_pass, self.skipped = pass_number, set(), []
        new = [record for record in page.records if record.id not in self._read_ids]
        self._read_ids.update(record.id for record in new)
        self.skipped += [one for one in page.skipped if one.id not in self._ids_of_pass]
        self._ids_of_pass.update(page.ids)
        return new

    def count(self) -> int:
        """Return how many different records the current pass has read, including skipped records."""
        return len(self._ids_of_pass) + sum(one.id is None for one in self.skipped)


class ClerkList(list[Record], Generic[Record]):
    """A whole listing in Clerk's order; `skipped` names the unreadable records."""

    def __init__(self, records: Iterable[Record], *, skipped: Sequence[SkippedRecord]) -> None:
        super().__init__(records)
        self.skipped = skipped

    @property
    def skipped_ids(self) -> list[str]:
        """The ids of the unreadable records that have an id: Clerk has these records."""
        return [one.id for one in self.skipped if one.id is not None]

    @property
    def complete(self) -> bool:
        """Whether a record that is neither in this list nor in `skipped_ids` is not in Clerk."""
        return len(self.skipped_ids) == len(self.skipped)

    def proves_missing(self, record_id: str) -> bool:
        """Return whether the record with this id, which the list lacks, is missing from Clerk.

        A skipped record without an id might be this record.
        """
        return all(one.id not in (None, record_id) for one in self.skipped)


class ClerkListing(Iterator[Record], Generic[Record]):
    """A lazy listing: fetches a page when the caller needs it, and yields each record once.

    Iteration raises ClerkError, and ListingIncomplete if no pass was complete. It ends without an error only
    if the whole list was read. If no deadline is set, all pages together may wait CLERK_TIMEOUT_SECONDS for
    Clerk.
    """

    def __init__(self, fetch: FetchPage[Record]) -> None:
        self._fetch = fetch
        self._seconds_left = clerk_settings.timeout_seconds
        self._seen = SeenRecords()
        self._finished = False
        self._records = (record for _, _, new in self._pages() for record in new)

    def __next__(self) -> Record:
        return next(self._records)

    @property
    def skipped(self) -> list[SkippedRecord]:
        """The unreadable records."""
        return self._seen.skipped

    @property
    def complete(self) -> bool:
        """Whether the listing has ended and every record that it lacks is missing from Clerk."""
        return self._finished and not self.skipped

    def to_list(self) -> ClerkList[Record]:
        """Read the whole listing; return the records of the complete pass."""
        passes: dict[int, dict[str, Record]] = {}
        for pass_number, page, _ in self._pages():
            passes.setdefault(pass_number, {}).update((record.id, record) for record in page.records)
        *_, complete_pass = passes.values()
        return ClerkList(complete_pass.values(), skipped=self.skipped)

    def _pages(self) -> Iterator[tuple[int, ClerkPage[Record], list[Record]]]:
        """Yield each page with its pass number and its new records."""
        for pass_number, page in _read_passes(self._fetch_in_time, lambda _: self._seen.count()):
            yield pass_number, page, self._seen.add(pass_number, page)
        self._finished = True

    def _fetch_in_time(self, offset: int) -> ClerkPage[Record]:
        started = monotonic()
        try:
            with default_deadline(self._seconds_left):
                return self._fetch(offset)
        finally:
            self._seconds_left -= monotonic() - started


def read_whole(
    fetch: FetchPage[Record],
    handler: PageHandler[Record],
    *,
    pass_number: int = 1,
    resume_after: Position | None = None,
) -> None:
    """Pass all pages of a list to `handler`; start again if a pass was not complete.

    With `resume_after`, pass `pass_number` of an earlier process resumes after this page. Raise ClerkError,
    and ListingIncomplete if no pass was complete.
    """
    passes = _read_passes(
        _within_job_timeout(fetch),
        handler.count_seen,
        pass_number=pass_number,
        resume_after=resume_after,
        prefetch=True,
    )
    with closing(passes):
        for number, page in passes:
            handler.handle_page(number, page)


def read_slice(
    fetch: FetchPage[Record],
    handler: PageHandler[Record],
    *,
    start: int,
    until: int | None,
    resume_after: Position | None,
) -> bool:
    """Read the part of a list from offset `start` to `until`, and give each page to `handler` as pass 1.

    The last page is the first one that ends at `until` or later. Return whether each page began where the
    page before it ended. Raise ClerkError.
    """
    slice_pass = Pass(_within_job_timeout(fetch), resume_after=resume_after, start=start, until=until)
    with closing(slice_pass.prefetched_pages()) as pages:
        for page in pages:
            handler.handle_page(1, page)
    return slice_pass.unbroken


def _read_passes(
    fetch: FetchPage[Record],
    count_seen: Callable[[int], int],
    *,
    pass_number: int = 1,
    resume_after: Position | None = None,
    prefetch: bool = False,
) -> Generator[tuple[int, ClerkPage[Record]], None, None]:
    """Yield the pages of each pass with the pass number, until a pass is complete."""
    for number in range(pass_number, pass_number + MAX_PASSES):
        current = Pass(fetch, resume_after=resume_after)
        with closing(current.prefetched_pages() if prefetch else current.pages()) as pages:
            for page in pages:
                yield number, page
        if current.unbroken and count_seen(number) >= current.total:
            return
        resume_after = None
    raise ListingIncomplete(
        f"Clerk's list changed during each of the {MAX_PASSES} attempts to read it, so records may have been"
        " missed. What was read is kept, and nothing was retired. Try again later."
    )


def _within_job_timeout(fetch: FetchPage[Record]) -> FetchPage[Record]:
    def fetch_page(offset: int) -> ClerkPage[Record]:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            return fetch(offset)

    return fetch_page
