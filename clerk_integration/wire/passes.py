"""Reading one of Clerk's lists whole, page by page, while it may change.

The list knows only offsets. A record deleted on a page that was read shifts the later ones up, and
one of them falls between two pages; a record inserted there (`created_at` can be set) pushes the
later ones down and is not met itself. Three things together catch both:

* While the list stands still, pages follow each other without overlap, and each must come with the
  same total and with nothing of the page before it.
* As soon as that fails, the page is read again from OVERLAP records further up, and so are the later
  ones until the list stands still. A page that shares a record with the one before it continues it
  without a gap. One that shares none breaks the pass. Only pages that continue are handed on, so that
  a reading that was cut off goes on behind the last of them.
* At the end, as many different records must have come as Clerk counts at last. If not, or if the pass
  is broken, the list is read again from the start.

The first pass may be cut into slices, which are read at the same time: each begins OVERLAP records
before the end of the one before it, and what joins two pages joins two slices.

What is left are two records that hide each other: one deleted while another is added, between the same
two pages at the end, or anywhere behind the reading with a date of the past. So nobody is retired for
absence alone (see `absence`), and a new record that was missed is met by the next sync.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar

from django.db import connections

from clerk_integration.conf import JOB_TIMEOUT_SECONDS
from clerk_integration.entities import ClerkMembership, ClerkOrganization
from clerk_integration.exceptions import ListingIncomplete
from clerk_integration.wire.deadlines import clerk_deadline
from clerk_integration.wire.listing import ClerkPage

OVERLAP = 50
"""Records that a page repeats of the one before it, in a list that moves."""

MAX_PASSES = 3
"""How often a list is read from the start."""

Record = TypeVar("Record", bound=ClerkOrganization | ClerkMembership)
Fetch = Callable[[int], ClerkPage[Record]]


class Reader(Protocol[Record]):
    """What takes in the pages of a list."""

    def take(self, pass_number: int, page: ClerkPage[Record]) -> None:
        """Take in a page."""

    def seen(self, pass_number: int) -> int:
        """Return how many different records the pass has met, unreadable ones included."""


class Seen:
    """What a reading has met, kept in memory; runs keep it in their pages on record instead."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._pass_number = 0
        self._of_pass: set[str] = set()
        self.skipped = 0

    def add(self, pass_number: int, page: ClerkPage[Any]) -> None:
        """Take in a page; what an earlier pass has skipped does not count any more."""
        if pass_number != self._pass_number:
            self._pass_number, self._of_pass, self.skipped = pass_number, set(), 0
        ids = {record.id for record in page.records}
        self.ids |= ids
        self._of_pass |= ids
        self.skipped += page.skipped

    def count(self, pass_number: int) -> int:
        """Return how many different records the pass has met, unreadable ones included."""
        return len(self._of_pass) + self.skipped if pass_number == self._pass_number else 0


class Position:
    """Where a pass over a list stands: behind which page."""

    def __init__(self, end: int = 0, total: int | None = None, ids: frozenset[str] = frozenset()) -> None:
        self.end = end
        self.total = total
        self.ids = ids


def read_whole(
    fetch: Fetch[Record], reader: Reader[Record], *, pass_number: int = 1, behind: Position | None = None
) -> None:
    """Hand all pages of a list to `reader`, once or, when the list moves, again.

    Goes on with `pass_number` behind the page of an earlier reading, if one is given. Raise
    ClerkError, and ListingIncomplete when no pass is known to have been whole.
    """
    for number in range(pass_number, pass_number + MAX_PASSES):
        one = _Pass(fetch, behind)
        with closing(one.pages()) as pages:
            for page in pages:
                reader.take(number, page)
        if one.unbroken and reader.seen(number) >= one.total:
            return
        behind = None
    raise ListingIncomplete(
        f"Clerk's list changed each of the {MAX_PASSES} times that it was read, so none of them is known to"
        " be whole. What was read is written; nothing was retired. Try again when less is going on."
    )


def read_slice(
    fetch: Fetch[Record], reader: Reader[Record], *, start: int, until: int | None, behind: Position | None
) -> bool:
    """Hand the pages from `start` on to `reader`, as those of pass 1, until one ends at `until` or later.

    Goes on behind the page of an earlier reading, if one is given. Return whether the pages continue
    each other without a gap. Raise ClerkError.
    """
    one = _Pass(fetch, behind, start=start, until=until)
    with closing(one.pages()) as pages:
        for page in pages:
            reader.take(1, page)
    return one.unbroken


class _Pass(Generic[Record]):
    """One pass over a list, or over the part of it between two offsets."""

    def __init__(
        self, fetch: Fetch[Record], behind: Position | None, *, start: int = 0, until: int | None = None
    ) -> None:
        self._fetch = fetch
        self._behind = behind
        self._start = start
        self._until = until
        # Between two processes much may have changed without a trace in the total.
        self._overlap = 0 if behind is None else OVERLAP
        self.unbroken = True

    @property
    def total(self) -> int:
        """What Clerk counted at last."""
        return 0 if self._behind is None or self._behind.total is None else self._behind.total

    def pages(self) -> Generator[ClerkPage[Record], None, None]:
        """Yield the pages, the next one being fetched meanwhile by a thread."""
        if self._is_end(self._behind):
            return
        with ThreadPoolExecutor(1, thread_name_prefix="clerk-page") as pool:

            def ask(offset: int) -> Future[ClerkPage[Record]]:
                # The context says whether requests are paced.
                return pool.submit(copy_context().run, self._fetch_page, offset)

            coming: Future[ClerkPage[Record]] | None = ask(self._offset())
            try:
                while coming is not None:
                    page = coming.result()
                    continues, offset = self._judge(page)
                    coming = None if offset is None else ask(offset)
                    if continues:
                        yield page
            finally:
                pool.submit(connections.close_all)  # The thread has its own, for its turns of the pace.

    def _fetch_page(self, offset: int) -> ClerkPage[Record]:
        with clerk_deadline(JOB_TIMEOUT_SECONDS):
            return self._fetch(offset)

    def _offset(self) -> int:
        return self._start if self._behind is None else max(0, self._behind.end - self._overlap)

    def _is_end(self, position: Position | None) -> bool:
        if self._until is None or position is None:
            return False
        return position.end >= self._until

    def _judge(self, page: ClerkPage[Record]) -> tuple[bool, int | None]:
        """Say whether the page continues the one before, and where to read on: None at the end."""
        ids = frozenset(record.id for record in page.records)
        if self._continues(page, ids):
            moved = self._behind is not None and page.total != self._behind.total
            self._overlap = OVERLAP if moved else 0
            self._behind = Position(page.end, page.total, ids)
            is_end = page.end >= page.total or self._is_end(self._behind)
            return True, None if is_end else self._offset()
        if self._overlap:
            self.unbroken = False
            return False, None
        self._overlap = OVERLAP
        return False, self._offset()

    def _continues(self, page: ClerkPage[Record], ids: frozenset[str]) -> bool:
        advanced = page.end > page.offset or page.total == 0
        if self._behind is None:
            return advanced
        if not self._overlap:
            return advanced and page.total == self._behind.total and not ids & self._behind.ids
        is_news = page.end >= page.total or not ids <= self._behind.ids
        return bool(ids & self._behind.ids) and is_news
