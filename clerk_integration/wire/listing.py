"""Complete listings out of an API that has only offsets.

Clerk's lists know no cursor and no snapshot: a row deleted during the scan shifts the later ones
up, so that one is skipped; a new one shifts them down, so that one comes twice. What gives it away
is `total_count`. A pass over the pages counts as complete only when as many different records came
as Clerk counts, and that count was the same on every page; otherwise the pages are read again.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

from clerk_integration.conf import PAGE_SIZE, clerk_settings
from clerk_integration.entities import ClerkMembership, ClerkOrganization, UnreadableRecord
from clerk_integration.exceptions import ClerkProtocolError, ClerkUnavailable
from clerk_integration.wire.deadlines import default_deadline

logger = logging.getLogger(__name__)

MAX_PASSES = 3
"""How often the pages are read while the list keeps changing."""

Record = TypeVar("Record", bound=ClerkOrganization | ClerkMembership)
FetchPage = Callable[[int, int], Any]
"""Fetches the page of a limit and an offset as JSON."""


@dataclass(frozen=True, slots=True)
class ClerkPage(Generic[Record]):
    """One page of a listing: its readable records, in Clerk's order, and how many were unreadable."""

    records: list[Record]
    offset: int
    total: int
    """How many records Clerk counted when it sent the page."""
    skipped: int = 0

    @property
    def end(self) -> int:
        """The offset behind the last record of the page."""
        return self.offset + len(self.records) + self.skipped


class ClerkList(list[Record], Generic[Record]):
    """A whole listing, in Clerk's order; `skipped` counts the records in it that were unreadable."""

    def __init__(self, records: Iterable[Record], *, skipped: int) -> None:
        super().__init__(records)
        self.skipped = skipped

    @property
    def complete(self) -> bool:
        """Whether a record's absence from this list means its absence in Clerk."""
        return self.skipped == 0


class ClerkListing(Iterator[Record], Generic[Record]):
    """Reads a listing page by page as it is consumed; each record comes once.

    Iterating raises ClerkError; it ends without one only when the whole list came. `complete` is
    true after such an end with nothing skipped: only then does absence mean anything, and even so
    a row that was deleted while another came in between can have been missed between two pages.
    Without a running deadline, all pages together get CLERK_TIMEOUT_SECONDS of waiting for Clerk.
    """

    def __init__(self, fetch_page: FetchPage, read_record: Callable[[Any], Record]) -> None:
        self.skipped = 0
        self.finished = False
        self._fetch_page = fetch_page
        self._read_record = read_record
        self._known: set[str] = set()
        self._seconds_left = clerk_settings.timeout_seconds
        self._records = self._scan()

    def __next__(self) -> Record:
        return next(self._records)

    @property
    def complete(self) -> bool:
        """Whether a record's absence from this listing means its absence in Clerk."""
        return self.finished and self.skipped == 0

    def to_list(self) -> ClerkList[Record]:
        """Read the whole listing into a list: the records of the one pass that was consistent."""
        for _ in range(MAX_PASSES):
            scan = _Pass()
            records: dict[str, Record] = {}
            while scan.wants_more:
                page = scan.read(self._page(scan.offset), self._read_record)
                records |= {record.id: record for record in page}
            if scan.consistent:
                self.skipped, self.finished = scan.skipped, True
                return ClerkList(records.values(), skipped=scan.skipped)
        raise _moved()

    def _scan(self) -> Iterator[Record]:
        for _ in range(MAX_PASSES):
            scan = _Pass()
            yield from self._new_records(scan)
            if scan.consistent:
                self.skipped, self.finished = scan.skipped, True
                return
        raise _moved()

    def _new_records(self, scan: "_Pass") -> Iterator[Record]:
        while scan.wants_more:
            for record in scan.read(self._page(scan.offset), self._read_record):
                if record.id not in self._known:
                    self._known.add(record.id)
                    yield record

    def _page(self, offset: int) -> Any:
        started = monotonic()
        try:
            with default_deadline(self._seconds_left):
                return self._fetch_page(PAGE_SIZE, offset)
        finally:
            self._seconds_left -= monotonic() - started


def _moved() -> ClerkUnavailable:
    return ClerkUnavailable(
        f"The list changed in Clerk each of the {MAX_PASSES} times that it was read, so none of them "
        "is known to be whole. Nothing may be concluded from what is absent; try again later.",
        outcome_unknown=False,
    )


class _Pass:
    """What one pass over the pages has seen so far."""

    def __init__(self) -> None:
        self.offset = 0
        self.skipped = 0
        self._ids: set[str] = set()
        self._total: int | None = None
        self._shifted = False

    @property
    def wants_more(self) -> bool:
        """Whether there is a page left that this pass can still be completed with."""
        return not self._shifted and (self._total is None or self.offset < self._total)

    @property
    def consistent(self) -> bool:
        """Whether exactly the records came that Clerk counts."""
        return not self._shifted and len(self._ids) + self.skipped == self._total

    def read(self, page: Any, read_record: Callable[[Any], Record]) -> list[Record]:
        """Take in one page; return its readable records."""
        read = read_page(page, read_record, offset=self.offset)
        self._shifted = read.total != (read.total if self._total is None else self._total) or (
            read.end == self.offset < read.total
        )
        self._total = read.total
        self.skipped += read.skipped
        self._ids.update(record.id for record in read.records)
        self.offset = read.end
        return read.records


def read_page(page: Any, read_record: Callable[[Any], Record], *, offset: int) -> ClerkPage[Record]:
    """Read a page as Clerk sent it; records that cannot be read are logged and left out.

    Raises ClerkProtocolError when it is no page at all.
    """
    items, total = _contents(page)
    records = []
    for index, item in enumerate(items, start=offset):
        try:
            records.append(read_record(item))
        except (UnreadableRecord, RecursionError) as exc:
            logger.warning("Record %d of Clerk's list was skipped: %s", index, exc)
    return ClerkPage(records, offset=offset, total=total, skipped=len(items) - len(records))


def _contents(page: Any) -> tuple[list[Any], int]:
    items = page.get("data") if isinstance(page, Mapping) else None
    total = page.get("total_count") if isinstance(page, Mapping) else None
    if not isinstance(items, list) or not isinstance(total, int) or isinstance(total, bool):
        raise ClerkProtocolError(
            "Clerk's page has no `data` or no `total_count`; nobody can tell whether the list is whole."
        )
    return items, total
