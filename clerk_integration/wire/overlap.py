"""One pass over a list that may change while it is read.

Clerk's lists know only offsets. A record that is deleted from a page already read moves the later
records up, and one of them falls between two pages. A record that is inserted there (Clerk accepts a
`created_at` in the past) moves the later records down, and is itself not read.

| the list         | the next page starts            | and continues the page before it if           |
| ---------------- | ------------------------------- | --------------------------------------------- |
| has not changed  | at the end of the page before   | it has the same total and repeats no record   |
| may have changed | OVERLAP records before that end | it repeats a record of the page before it     |

A page that fails the first test is read again with the overlap. A page that fails the second test
breaks the pass: a record may have been missed.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic

from django.db import connections

from clerk_integration.wire.pages import ClerkPage, FetchPage, Record

OVERLAP = 50
"""Records of the page before that a page repeats after the list has changed."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a pass is: the end, the total and the record ids of the page that was accepted last."""

    end: int
    total: int
    ids: frozenset[str]


class Pass(Generic[Record]):
    """A pass over a list from `start`, or from the page `resume_after` of an earlier process.

    With `until`, the pass stops at the first page that ends there or later.
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
        # Since an earlier process stopped, the list may have changed and have the same total again.
        self._overlap = OVERLAP if resume_after else 0
        self._next_offset = None if self._is_past_slice() else self._offset()

    @property
    def total(self) -> int:
        """How many records Clerk counted on the last page that was accepted."""
        return self._last.total if self._last else 0

    def pages(self) -> Generator[ClerkPage[Record], None, None]:
        """Fetch and yield the pages that continue each other; raise ClerkError."""
        while self._next_offset is not None:
            page = self._fetch(self._next_offset)
            if self._accept(page):
                yield page

    def prefetched_pages(self) -> Generator[ClerkPage[Record], None, None]:
        """Do as `pages`, and let a thread fetch the next page while the caller works on one."""
        pages = self.pages()
        page = next(pages, None)
        if page is not None and self._next_offset is None:
            yield page  # The only page needs no thread.
            return
        with ThreadPoolExecutor(1, thread_name_prefix="clerk-page") as pool:
            try:
                while page is not None:
                    # The context holds the deadline and says whether requests are paced.
                    upcoming = pool.submit(copy_context().run, lambda: next(pages, None))
                    yield page
                    page = upcoming.result()
            finally:
                # A paced request opens a database connection of the thread's own.
                pool.submit(connections.close_all)

    def _offset(self) -> int:
        return self._start if self._last is None else max(0, self._last.end - self._overlap)

    def _is_past_slice(self) -> bool:
        return self._until is not None and self._last is not None and self._last.end >= self._until

    def _accept(self, page: ClerkPage[Record]) -> bool:
        """Return whether the page continues the one before it; set where the next page starts."""
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
