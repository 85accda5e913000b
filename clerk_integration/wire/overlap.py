"""One pass over a list that may change while it is read.

Clerk's lists support only offsets. If a record is deleted from a page already read, the later records move
up, and one of them falls between two pages. If a record is inserted there (Clerk accepts a `created_at` in
the past), the later records move down, and the inserted record is not read.

| the list         | the next page starts            | and continues the page before it if           |
| ---------------- | ------------------------------- | --------------------------------------------- |
| has not changed  | at the end of the page before   | it has the same total and repeats no record   |
| may have changed | OVERLAP records before that end | it repeats a record of the page before it     |

A page that fails the first test is read again with the overlap. A page that fails the second test ends the
pass as incomplete, because a record may have been missed.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic

from django.db import connections

from clerk_integration.wire.pages import ClerkPage, FetchPage, Record

OVERLAP = 50
"""Number of records of the previous page that the next page repeats after the list has changed."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a pass: the end, total and record ids of the last accepted page."""

    end: int
    total: int
    ids: frozenset[str]


class Pass(Generic[Record]):
    """A pass over a list from `start`, or from the page `resume_after` of an earlier process.

    With `until`, the pass stops after the first page that ends at `until` or later.
    """

    def __init__(
        self,
        fetch: FetchPage[Record],
        *,
        resume_after: Position | None = None,
        start: int = 0,
        until: int | None = None,
    ) -> None:
        self.unbroken = True
        self._fetch = fetch
        self._start = start
        self._until = until
        self._last = resume_after
        # The list may have changed since the earlier process stopped, and have the same total again.
        self._overlap = OVERLAP if resume_after else 0
        self._next_offset = None if self._is_past_slice() else self._offset()

    @property
    def total(self) -> int:
        """The number of records that Clerk counted on the last accepted page."""
        return self._last.total if self._last else 0

    def pages(self) -> Generator[ClerkPage[Record], None, None]:
        """Fetch the pages, and yield each page that continues the page before it; raise ClerkError."""
        while self._next_offset is not None:
            page = self._fetch(self._next_offset)
            if self._accept(page):
                yield page

    def prefetched_pages(self) -> Generator[ClerkPage[Record], None, None]:
        """Yield the same pages as `pages`; a thread fetches the next page while the caller uses one."""
        pages = self.pages()
        page = next(pages, None)
        if page is not None and self._next_offset is None:
            yield page  # The only page needs no thread.
            return
        with ThreadPoolExecutor(1, thread_name_prefix="clerk-page") as pool:
            try:
                while page is not None:
                    # The context holds the deadline and whether requests are paced.
                    upcoming = pool.submit(copy_context().run, lambda: next(pages, None))
                    yield page
                    page = upcoming.result()
            finally:
                # In this thread, a paced request opens a separate database connection.
                pool.submit(connections.close_all)

    def _offset(self) -> int:
        return self._start if self._last is None else max(0, self._last.end - self._overlap)

    def _is_past_slice(self) -> bool:
        return self._until is not None and self._last is not None and self._last.end >= self._until

    def _accept(self, page: ClerkPage[Record]) -> bool:
        """Return whether the page continues the page before it; set where the next page starts."""
        ids = frozenset(page.ids)
        continues = self._continues(page, ids)
        if continues:
            self._overlap = OVERLAP if self._last and page.total != self._last.total else 0
            self._last = Position(page.end, page.total, ids)
        elif self._overlap:
            self.unbroken = False
        else:
            self._overlap = OVERLAP
        is_over = not self.unbroken or (continues and (page.end >= page.total or self._is_past_slice()))
        self._next_offset = None if is_over else self._offset()
        return continues

    def _continues(self, page: ClerkPage[Any], ids: frozenset[str]) -> bool:
        advances = page.end > page.offset or page.total == 0
        if self._last is None:
            return advances
        repeats = not ids.isdisjoint(self._last.ids)
        if self._overlap:
            return repeats and (page.end >= page.total or not ids <= self._last.ids)
        return advances and not repeats and page.total == self._last.total
